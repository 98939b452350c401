"""One question in several wordings and modes: which answers agree, and which of them are right."""

import pytest
from eval_helpers import scripted_task

from apo_soup.data.sources.rows import RowError
from apo_soup.evals.consistency import consistency_task
from apo_soup.evals.metrics import ItemRow


@pytest.fixture
def ask(write_recipe, tokenizer):
    """Scores of a `consistency` task on a scripted model."""

    def run(answer, rows, **keys):
        task = {"name": "alike", "kind": "consistency", "data": "rows.jsonl", **keys}
        checkpoint, keys_of_task = scripted_task(write_recipe, tokenizer, answer, task)
        result = consistency_task(checkpoint, keys_of_task, [ItemRow(row) for row in rows])
        return {name: round(metric.score.value, 4) for name, metric in result.metrics.items()}, result.samples

    return run


ROW = {"wordings": ["What is 1 + 2?", "Was ist 1 + 2?", "Combien font 1 + 2 ?"], "answer": "3"}


def test_pairs_of_answers_agree_over_wordings_and_modes(ask):
    """Think is right in all three; no think says 4 twice, in other words, and 3 once."""

    def answer(prompt):
        if "Mode: /think" in prompt:
            return "<think>\n1 + 2 = 3\n</think>\n3"
        return "3" if "Combien" in prompt else "It is 4." if "Was" in prompt else "4"

    found, samples = ask(answer, [ROW])
    assert found == {
        "alike/agree": round((4 * 3 + 2 * 1) / 30, 4),
        "alike/agree_right": round(4 * 3 / 30, 4),
        "alike/think/agree": 1,
        "alike/think/agree_right": 1,
        "alike/no_think/agree": round(2 / 6, 4),
        "alike/no_think/agree_right": 0,
    }
    assert "[Was ist 1 + 2?]" in samples[0].answer


def test_answers_without_an_end_or_a_word_agree_with_none(ask):
    found, _ = ask(lambda prompt: "", [ROW], modes=["no_think"])
    assert found["alike/agree"] == 0
    words, _ = ask(lambda prompt: "Yes  indeed" if "Was" in prompt else "yes indeed", [ROW | {"answer": "no"}],
                   modes=["no_think"], verifier="exact")  # fmt: skip
    assert (words["alike/agree"], words["alike/agree_right"]) == (1, 0)


def test_right_answers_agree_however_they_are_written(ask):
    found, _ = ask(
        lambda prompt: r"\boxed{3}, after 5 steps" if "Was" in prompt else "It is 3.", [ROW], modes=["no_think"]
    )
    assert (found["alike/agree"], found["alike/agree_right"]) == (1, 1)


def test_a_row_of_one_wording_is_refused(ask):
    with pytest.raises(RowError, match="field wordings: expected a list of two or more wordings, got"):
        ask(lambda prompt: "3", [ROW | {"wordings": ["What is 1 + 2?"]}])
