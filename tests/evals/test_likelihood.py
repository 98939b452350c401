"""Tasks that read probabilities."""

import pytest
from data_helpers import PROMPT, mode
from helpers import chat

from apo_soup.config.eval import ContextLossTask
from apo_soup.config.load import load
from apo_soup.data.conversations.source_mode import BY_ROW
from apo_soup.data.conversations.turn_order import order_remedy
from apo_soup.data.cures import INTO_USER
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.as_trained import told_of_task
from apo_soup.evals.checkpoint import load_checkpoint
from apo_soup.evals.likelihood import loss_task, preference_task
from apo_soup.evals.metrics import ItemRow


def test_buckets_of_positions_end_at_powers_of_two_and_at_the_window():
    def ends(length: int) -> list[int]:
        return ContextLossTask(name="x", kind="context_loss", data="rows.jsonl", length=length).bucket_ends()

    assert ends(1536) == [64, 128, 256, 512, 1024, 1536]
    assert ends(64) == [64]
    assert ends(48) == [48]


@pytest.fixture
def scores(tiny_model, write_recipe):
    """The items of a task's headline metric on rows."""

    def of(kind, *rows):
        tasks = [{"name": "t", "kind": kind, "data": "rows.jsonl"}]
        checkpoint = load_checkpoint(
            load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": tasks}), "eval"), tiny_model
        )
        run = preference_task if kind == "preference" else loss_task
        result = run(checkpoint, checkpoint.suite.tasks[0], [ItemRow(row) for row in rows])
        return result.metrics["t/margin" if kind == "preference" else "t"].items

    return of


def test_rows_are_read_in_every_shape_that_training_reads(scores):
    sides = {"chosen": "It is 4.", "rejected": "It is 5."}
    question = "Add.\n\n2, 2"
    margins = scores(
        "preference",
        {"prompt": question, **sides},
        {"instruction": "Add.", "input": "2, 2", **sides},
        {"question": "Add.", "input": "2, 2", **sides},
        {"chosen_response": "It is 4.", "rejected_response": "It is 5.", "instruction": "Add.", "input": "2, 2"},
    )
    assert margins == pytest.approx([margins[0]] * 4, abs=1e-5)
    assert abs(margins[0]) > 1e-3
    losses = scores(
        "loss", chat(question, "4"), {"instruction": "Add.", "input": "2, 2", "output": "4"},
        {"query": question, "response": "4"},
    )  # fmt: skip
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_a_column_that_asks_something_else_is_refused(scores):
    with pytest.raises(RowError, match="fields prompt, input: expected one question, got str '4' as input"):
        scores("preference", {"prompt": "Add.", "input": "4", "chosen": "It is 4.", "rejected": "It is 5."})


def test_rows_have_the_reasoning_and_the_mode_with_which_they_would_be_trained(scores):
    tagged, plain = chat("2 + 2?", "<reasoning>2 + 2</reasoning>4"), chat("2 + 2?", "4")
    losses = scores(
        "loss", tagged, chat("2 + 2?", "<think>\n2 + 2\n</think>\n\n4"), plain, {**plain, **mode(False)},
        {**plain, **mode(True)},
    )  # fmt: skip
    assert losses == pytest.approx([losses[0]] * 2 + [losses[2]] * 2 + [losses[4]], abs=1e-5)
    assert len({round(loss, 4) for loss in losses}) == 3
    pair = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
    margins = scores("preference", pair, {**pair, **mode(False)}, {**pair, **mode(True)})
    assert margins[0] == pytest.approx(margins[1], abs=1e-5)
    assert margins[0] != pytest.approx(margins[2], abs=1e-5)


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        (INTO_USER, "write the system text into the first user turn of the row, or choose another chat_template"),
        (order_remedy([PROMPT[0]] * 2), "bring the row's turns into the usual order, or mend the row"),
        (f"{BY_ROW}, or x", "give the row enable_thinking, or x"),
    ],
)
def test_what_helps_names_no_key_of_a_source(told, cure):
    assert told_of_task(RowError(f"field x: expected y; {told}")) == f"field x: expected y; {cure}"
