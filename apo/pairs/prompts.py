"""The prompts that models are asked, from any source `apo_soup.data` reads."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apo_soup.config.asking import AskingFile
from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.data.conversations.converters import alpaca, asked_turns
from apo_soup.data.conversations.formats import one_system
from apo_soup.data.conversations.messages import as_messages, checked_messages, with_system
from apo_soup.data.conversations.prompt_copy import check_one_question
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.conversations.turn_fields import TOOL_FIELDS
from apo_soup.data.sources.draw import weighted_draw
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import Fields, RowError, SourceRow, described
from apo_soup.data.sources.source import Source
from apo_soup.verify.answers import Verifier

# Columns of one text that asks, behind those that are known by their formats.
ASKING_TEXTS = ("question", "problem")
# The name of a tool that is given as Python text.
_PYTHON_NAME = re.compile(r"^[ \t]*(?:async +)?def +(\w+) *\(", re.MULTILINE)


@dataclass(frozen=True)
class Prompt:
    """What is asked: messages that end with a user or tool turn, template arguments, and the reference answer.

    `id` is a hash of messages and arguments, so that an answer belongs to the words it was given to and not to a row's
    place; `source_row` is that place, FILE:LINE or SOURCE:ROW.
    """

    id: str
    messages: list[Fields]
    kwargs: dict[str, Any]
    reference: str | None
    source_row: str

    @property
    def tool_names(self) -> set[str] | None:
        """Names of the tools that the prompt offers; None where the name of one cannot be read."""
        names: set[str] = set()
        for field in TOOL_FIELDS:
            found = offered_names(self.kwargs.get(field))
            if found is None:
                return None
            names |= found
        return names


def offered_names(tools: Any) -> set[str] | None:
    """Names of tools: function schemas, JSON text of such, or Python text, one or a list; None where the name of one
    cannot be read.

    >>> offered_names([{"type": "function", "function": {"name": "add"}}, '{"name": "sub"}']) == {"add", "sub"}
    True
    >>> offered_names(["def add(a, b): ..."]), offered_names("adds numbers"), offered_names(None)
    ({'add'}, None, set())
    """
    if isinstance(tools, str):
        with contextlib.suppress(ValueError, RecursionError):
            return offered_names(json.loads(tools))
        return set(_PYTHON_NAME.findall(tools)) or (None if tools.strip() else set())
    if isinstance(tools, dict):
        function = tools.get("function", tools)
        name = function.get("name") if isinstance(function, dict) else None
        return {name} if isinstance(name, str) and name else None
    if tools is None or tools is False:
        return set()
    if not isinstance(tools, (list, tuple)):
        return None
    names: set[str] = set()
    for tool in tools:
        found = offered_names(tool)
        if not found:
            return None
        names |= found
    return names


@dataclass(frozen=True)
class PromptSet:
    """Usable prompts in the sources' order, and the rows that are not, at fault or a duplicate: each row's place and
    the reason.
    """

    usable: list[Prompt]
    rejected: list[tuple[str, str]]
    duplicates: list[tuple[str, str]]


def read_prompts(recipe: AskingFile, verifier: Verifier | None) -> PromptSet:
    """Every drawn row as a prompt, up to `limit` of them; a reference that the verifier cannot read is a fault.

    Raises:
        UserError: a source is not there, or is not what its name says.
    """
    arguments = {**(recipe.chat_template_kwargs or {}), "enable_thinking": recipe.mode == "think"}
    usable: dict[str, Prompt] = {}
    rejected, duplicates = [], []
    for row, of_source in _drawn_rows(recipe):
        if len(usable) == recipe.limit:
            break
        try:
            prompt = prompt_of(row, {**of_source, **arguments}, recipe.reference)
            if verifier and prompt.reference is not None:
                verifier("0", prompt.reference)
        except RowError as error:
            rejected.append((row.place, str(error)))
            continue
        if prompt.id in usable:
            first = usable[prompt.id]
            other = f" with another reference, {prompt.reference!r}" if prompt.reference != first.reference else ""
            duplicates.append((row.place, f"the same prompt as {first.source_row}{other}"))
        else:
            usable[prompt.id] = prompt
    return PromptSet(list(usable.values()), rejected, duplicates)


def _drawn_rows(recipe: AskingFile) -> Iterator[tuple[SourceRow, dict[str, Any]]]:
    """The rows that the weights of the sources leave, each with the template arguments of its source."""
    for number, keys in enumerate(recipe.prompts):
        source = Source.from_entry(keys)
        rows = read_rows(source, recipe.place("prompts"))
        for row, times in weighted_draw(rows, source.weight, recipe.seed, number):
            if times:
                yield row, dict(source.chat_template_kwargs)


def prompt_of(row: SourceRow, arguments: dict[str, Any], reference: str) -> Prompt:
    """The prompt of one row; `arguments` win over the row's own, because the recipe's mode is what is asked for.

    Raises:
        RowError: no prompt can be read from the row.
    """
    fields = row.fields
    messages = prompt_messages(fields)
    kwargs = {**template_kwargs(fields, {}), **arguments}
    answer = fields.get(reference)
    if isinstance(answer, bool) or (answer is not None and not isinstance(answer, (str, int, float))):
        raise RowError(
            f"field {reference}: expected text or a number as the reference, got {described(answer)}; mend the row or "
            "name another field with reference"
        )
    answer = None if answer is None else str(answer)
    content = json.dumps([messages, kwargs], sort_keys=True, ensure_ascii=False)
    return Prompt(
        hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16], messages, kwargs, answer, row.place
    )


def prompt_messages(fields: Fields) -> list[Fields]:
    """The messages of a row up to the turn that the assistant is to answer.

    Taken from the first of these that the row has: a whole conversation on the chosen side of a preference, `messages`,
    `conversations` or `conversation`, a `query`, an Alpaca `instruction`, a `prompt`, or a `question`. An `input`
    stands below a query, an instruction or a question, and a `system` text above all of them.

    Raises:
        RowError: the row has none of these, they hold no question, or `input` asks something else.
    """
    chosen = fields.get("chosen")
    if isinstance(chosen, list) and len(chosen) > 1 and isinstance(chosen[0], dict):
        messages = checked_messages(chosen, "chosen")
    elif "messages" in fields:
        messages = checked_messages(fields["messages"], "messages")
    elif "conversations" in fields:
        messages = checked_messages(fields["conversations"], "conversations")
    elif "conversation" in fields:
        messages = checked_messages(fields["conversation"], "conversation")
    elif "query" in fields and "prompt" not in fields:
        messages = checked_messages(asked_turns(fields, "query", ("input",)), "query")
    elif "instruction" in fields:
        messages = checked_messages(alpaca({"output": "-", **fields})["messages"], "instruction")
    else:
        name = next((n for n in ("prompt", *ASKING_TEXTS) if n in fields), None)
        if name is None:
            have = ", ".join(sorted(fields)) or "none"
            raise RowError(
                f"expected a field messages, conversations, instruction, prompt or question, got {have}; rename a field"
            )
        if name in ASKING_TEXTS and isinstance(fields[name], str):
            messages = checked_messages(asked_turns(fields, name, ("input",)), name)
        else:
            messages = as_messages(fields[name], "user", name)
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] == "system" or is_blank(messages[-1]["content"]):
        raise RowError("expected a question before the assistant's answer, got none; mend the row or leave it out")
    check_one_question(("input",), fields, messages)
    return with_system(one_system(fields), messages)
