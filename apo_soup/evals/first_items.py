"""The first rows of a task as its kind reads them: what an evaluation would refuse, before a model is loaded."""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, assert_never

from transformers import PreTrainedTokenizerBase

from apo_soup.config.eval import (
    AnswerTask,
    ConsistencyTask,
    ContextLossTask,
    EvalFile,
    LossTask,
    OwnTask,
    PreferenceTask,
    RecallTask,
    SafetyTask,
    ToolTask,
    TurnsTask,
)
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.encode_pairs import encode_pair
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import RowError
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from apo_soup.evals.answers import DEFAULT_MAX_NEW_TOKENS, question_messages, reference_text, require_window
from apo_soup.evals.as_trained import as_trained_conversation, as_trained_pair, told_of_task
from apo_soup.evals.consistency import wordings
from apo_soup.evals.metrics import ItemRow, PlacedRowError
from apo_soup.evals.safety import must_decline
from apo_soup.evals.tool_items import tool_item
from apo_soup.evals.turns import conversation_scripts
from apo_soup.models.tokenizer import encode
from apo_soup.verify.answers import VERIFIERS, verifier

# Verifiers whose package takes longer to import than a check may.
_SLOW = ("math",)


@dataclass
class AskedModel:
    """What is known of the model that a suite asks: its tokenizer, None where it is not here, and its window in tokens,
    None where that is not known.
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    window: int | None = None

    @cached_property
    def renderer(self) -> Renderer | None:
        """What renders its prompts; None without its tokenizer.

        Raises:
            UserError: the chat template is not valid Jinja.
        """
        return Renderer(self.tokenizer) if self.tokenizer is not None else None

    def prompt(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> str:
        """A rendered prompt; empty where that is not known.

        Raises:
            RowError: the template refuses it.
            UserError: the chat template is not valid Jinja.
        """
        return self.renderer.prompt(messages, arguments) if self.renderer else ""

    def length(self, text: str) -> int:
        """The tokens of a text."""
        return len(encode(self.tokenizer, [text])[0].ids) if self.tokenizer is not None else 0


def look_at_first_items(suite: EvalFile, task: OwnTask, file: str, model: AskedModel) -> None:
    """Read as many rows of a task as one item needs, and render it.

    Args:
        file: the task's rows.

    Raises:
        UserError: as the evaluation does.
    """
    where = suite.place(f"{task.dotted}.data")
    # A conversation may be made of as many rows as it has turns.
    needed = task.turns if isinstance(task, TurnsTask) else 1
    rows = [ItemRow(row.fields, row.place) for row in islice(read_rows(Source(file), where), needed)]
    if not rows:
        raise UserError(f"{where}: {file}: expected at least one row, got an empty file; write its rows first")
    try:
        if isinstance(task, AnswerTask | ToolTask | TurnsTask | ConsistencyTask | SafetyTask):
            _look_at_question(suite, task, rows, model)
        else:
            _look_at_text(task, rows[0], model)
    except RowError as error:
        of = "" if isinstance(error, PlacedRowError) else f"{file}: "
        raise UserError(f"{suite.place(f'{task.dotted}.data')}: {of}{told_of_task(error)}") from error


def _look_at_question(
    suite: EvalFile,
    task: AnswerTask | ToolTask | TurnsTask | ConsistencyTask | SafetyTask,
    rows: list[ItemRow],
    model: AskedModel,
) -> None:
    """Render the question in every mode, and see that the window has room for it beside an answer."""
    row, arguments = rows[0], dict[str, Any]()
    if isinstance(task, TurnsTask):
        messages = [{"role": "user", "content": conversation_scripts(rows, task)[0].questions[0]}]
    elif isinstance(task, ConsistencyTask):
        messages = wordings(row, task.question)[0]["messages"]
    else:
        messages = question_messages(row, task.question)
    if isinstance(task, SafetyTask):
        must_decline(row, task.label)
    if isinstance(task, ToolTask):
        keys = ("tools", "xml_tools") if task.tool_format == "xml" else ("python_tools",)
        arguments = dict.fromkeys(keys, tool_item(row).tools)
    if isinstance(task, AnswerTask | ConsistencyTask):
        reference = reference_text(row, task.reference, task.verifier)
        if task.verifier in VERIFIERS and task.verifier not in _SLOW:
            verifier(task.verifier, suite.place(f"{task.dotted}.verifier"))("0", reference)
    for mode in task.modes:
        prompt = model.prompt(messages, {**template_kwargs(row, {}), **arguments, "enable_thinking": mode == "think"})
        place, answer = suite.place(f"{task.dotted}.max_new_tokens"), task.max_new_tokens or DEFAULT_MAX_NEW_TOKENS
        require_window(place, [model.length(prompt)], answer, model.window)


def _look_at_text(
    task: RecallTask | PreferenceTask | LossTask | ContextLossTask, row: ItemRow, model: AskedModel
) -> None:
    match task:
        case RecallTask():
            for name in ("prefix", "answer", "group", "depth"):
                row[name]
            model.prompt(row["messages"], template_kwargs(row, {}))
        case PreferenceTask():
            pair = as_trained_pair(row, model.renderer)
            if model.renderer is not None and model.tokenizer is not None:
                encode_pair(pair, model.renderer, model.tokenizer)
        case LossTask():
            item = as_trained_conversation(row, model.renderer)
            if model.renderer is not None:
                model.renderer.conversation(item)
        case ContextLossTask():
            if not row.get("text"):
                row["messages"]
        case _:
            assert_never(task)
