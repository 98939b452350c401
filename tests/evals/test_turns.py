"""The mode over turns: what is asked at each, what counts as kept, and a user who changes it."""

import pytest
from eval_helpers import scripted_task
from helpers import chat

from apo_soup.config.load import load
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.metrics import ItemRow
from apo_soup.evals.run import evaluate_model
from apo_soup.evals.turns import turns_task

THOUGHT = "<think>\n7\n</think>\n3"


def questions_of(prompt):
    return prompt.count("<|im_start|>user")


@pytest.fixture
def talk(write_recipe, tokenizer):
    """Metrics and samples of a `turns` task on a scripted model, and the model."""

    def run(answer, rows, **keys):
        task = {"name": "modes", "kind": "turns", "data": "rows.jsonl", **keys}
        checkpoint, keys_of_task = scripted_task(write_recipe, tokenizer, answer, task)
        return turns_task(checkpoint, keys_of_task, [ItemRow(row) for row in rows]), checkpoint.engine

    return run


def conversation(count, system=None):
    head = [{"role": "system", "content": system}] if system else []
    turns = [m for n in range(count) for m in chat(f"{n} + 3?", "left out")["messages"]]
    return {"messages": head + turns}


def test_each_turn_is_held_to_the_mode_of_the_system_prompt(talk):
    """A model that reasons in the first two turns only, and once where it should not."""

    def answer(prompt):
        turn = questions_of(prompt)
        thinks = "Reasoning Mode: /think" in prompt
        return THOUGHT if (thinks and turn <= 2) or (not thinks and turn == 4) else "3"

    result, model = talk(answer, [conversation(6), conversation(5)], switch=0)
    value = {name: metric.score.value for name, metric in result.metrics.items()}
    assert [value[f"modes/think/turn_{t}"] for t in range(1, 6)] == [1, 1, 0, 0, 0]
    assert [value[f"modes/no_think/turn_{t}"] for t in range(1, 6)] == [1, 1, 1, 0, 1]
    assert (value["modes/think/kept"], value["modes/no_think/kept"]) == (0.4, 0.8)
    headlines = [name for name, metric in result.metrics.items() if metric.headline]
    assert headlines == ["modes/think/kept", "modes/no_think/kept"]
    assert {metric.score.n for metric in result.metrics.values()} == {2}, "conversations are counted, not turns"
    last = [p for p in model.prompts if questions_of(p) == 5]
    assert len(last) == 4
    assert "left out" not in "".join(last)
    (think, *_), (no_think, *_) = (
        [p for p in last if f"Mode: {m}\n" in p or f"Mode: {m}<" in p] for m in ("/think", "/no_think")
    )
    assert think.count(THOUGHT) == 2, "its own reasoning stands in its history"
    assert "7" not in no_think, "and not where the mode is no-think"
    assert "[turn 3, /think, not kept]\n3" in result.samples[0].answer


def test_a_user_who_changes_the_mode_by_request(talk):
    """A model that obeys its header, but goes on as it began in one direction."""

    def answer(prompt):
        return THOUGHT if "Reasoning Mode: /think" in prompt and "Mode was" not in prompt else "3"

    result, model = talk(answer, [conversation(4, "Be kind.")], turns=4, switch=3)
    value = {name: metric.score.value for name, metric in result.metrics.items()}
    assert value["modes/think_to_no_think/kept"] == value["modes/no_think_to_think/kept"] == 1
    held = [name for name in value if name.startswith("modes/think_to_no_think/turn")]
    assert held == ["modes/think_to_no_think/turn_3", "modes/think_to_no_think/turn_4"]
    assert len(model.prompts) == 2 * 4 + 2 * 2, "turns before the change are asked once"
    assert all("Be kind." in prompt for prompt in model.prompts)
    stubborn, _ = talk(lambda p: THOUGHT if questions_of(p) < 3 else "3", [conversation(4)], turns=4, switch=3)
    assert stubborn.metrics["modes/no_think_to_think/kept"].score.value == 0
    assert stubborn.metrics["modes/think_to_no_think/kept"].score.value == 1


def test_a_user_who_changes_the_mode_in_words(talk, capsys):
    """Our template prefills an empty block in no-think mode, so that way there is nothing to ask for."""

    def answer(prompt):
        return "<think>\n\n</think>\n3" if prompt.endswith("/no_think<|im_end|>\n<|im_start|>assistant\n") else THOUGHT

    result, model = talk(answer, [conversation(4)], turns=4, switch=3, switch_by="words")
    value = {name: metric.score.value for name, metric in result.metrics.items()}
    assert value["modes/think_to_no_think/turn_3"] == 1, "an empty block is no reasoning"
    assert value["modes/think_to_no_think/turn_4"] == 0
    assert not any("no_think_to_think" in name for name in value)
    assert "no switch to /think by words" in capsys.readouterr().out
    changed = [p for p in model.prompts if "2 + 3? /no_think<|im_end|>" in p]
    assert len(changed) == 2
    assert all("Reasoning Mode: /think" in p for p in changed)


def test_rows_of_one_question_are_joined_and_short_ones_refused(talk):
    rows = [{"messages": f"{n} + 3?"} for n in range(7)]
    result, model = talk(lambda p: THOUGHT, rows, turns=3, switch=0, modes=["think"])
    assert result.metrics["modes/think/kept"].score.n == 2, "the seventh is left over"
    assert [p.count("3 + 3?") for p in model.prompts if questions_of(p) == 3] == [0, 1]
    assert talk(lambda p: "3", rows, turns=3, limit=1)[0].metrics["modes/think/kept"].score.n == 1
    texts = [{"turns": ["1 + 3?", "2 + 3?"]}]
    assert talk(lambda p: "3", texts, turns=2, question="turns")[0].metrics["modes/think/turn_2"].score.value == 0
    for rows, told in (
        ([conversation(2)], "expected 5 questions for as many turns, got 2 in a row"),
        ([{"messages": "3?"}] * 4, "expected 5 questions for as many turns, got 4 rows of one"),
        ([{"messages": [{"role": "user", "content": 3}]}], "expected text in every turn, got int 3; correct the row"),
        ([{"messages": []}], "expected questions, as text or messages"),
    ):
        with pytest.raises(RowError, match=told):
            talk(lambda p: "3", rows)


def test_a_suite_asks_conversations_and_repeats_them(talking_model, write_recipe, tmp_path):
    task = {
        "name": "modes", "kind": "turns", "generate": {"count": 2, "families": ["counting"]}, "turns": 2, "switch": 2,
        "max_new_tokens": 4, "repeats": 3, "temperature": 1.0,
    }  # fmt: skip
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
    found = evaluate_model(load(path, "eval"), talking_model)
    assert found["metrics"]["modes/think/turn_2"]["n"] == 2
    assert found["tasks"]["modes"]["kind"] == "turns"
    assert found["metrics"] == evaluate_model(load(path, "eval"), talking_model)["metrics"]


def test_instructions_stand_in_the_system_turn_that_sets_the_mode(talk):
    """Beside a system turn a template leaves them out."""
    told = {"chat_template_kwargs": {"custom_instructions": "Be brief."}}
    for row in (
        {**conversation(2), **told},
        {**conversation(2), "system": "Be brief."},
        {**conversation(2), "system": [{"type": "text", "text": "Be brief."}]},
        {**conversation(2), "system_prompt": "Be brief."},
    ):
        _, model = talk(lambda prompt: "3", [row], turns=2, switch=0)
        assert all(prompt.count("Be brief.") == 1 for prompt in model.prompts)
