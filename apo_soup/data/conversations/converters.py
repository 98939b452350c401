"""How rows of every shape become the one this project works on: `messages`, or `prompt` with `chosen` and `rejected`.

A converter changes names and nesting only; fields that it does not name (template arguments, tools) pass through.
"""

from collections.abc import Iterable
from typing import Any

from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.data.conversations.dialects import SPEAKERS, calls_of_json, holds_turns, written_value
from apo_soup.data.conversations.messages import as_messages, checked_messages, with_system
from apo_soup.data.conversations.prompt_copy import is_asked, other_question, says_no_input
from apo_soup.data.conversations.turn_fields import ANSWER_REASONING, ROW_REASONING
from apo_soup.data.sources.rows import Fields, RowError, described

# Columns that hold a whole conversation; the first that a row has is read.
CONVERSATIONS = ("messages", "conversations", "conversation")

# Columns that hold what both answers of a pair are to; the first that a row has is read.
QUESTIONS = ("question", "query", "input")

# All columns that may hold what both answers of a pair are to; others beside the one that is read say the same.
ASKING = ("prompt", "instruction", *QUESTIONS, *CONVERSATIONS)


def unchanged(fields: Fields) -> Fields:
    """The fields of a row that already has one of our shapes."""
    return fields


def text_only(fields: Fields) -> Fields:
    """The text alone: template arguments have no template to go to.

    Raises:
        RowError: the text is what one of several says, as in tables of messages (OASST's).
    """
    speaker = fields.get("role")
    if isinstance(speaker, str) and speaker.lower() in (*SPEAKERS, "prompter"):
        raise RowError(
            f"field text: expected a whole text, got one turn of a conversation (role {speaker}); put the turns of "
            "each conversation into messages of one row, or, where each is a whole text, write rename: {role: kind} "
            "for the source"
        )
    return {"text": fields["text"]}


def sharegpt(fields: Fields) -> Fields:
    """`conversations` of `from` and `value`, with `function_call` and `observation` turns.

    Raises:
        RowError: naming the turn and its fault.
    """
    return _of_column(fields, "conversations")


def conversation(fields: Fields) -> Fields:
    """`conversation` of exchanges, a question and an answer each.

    Raises:
        RowError: naming the turn and its fault.
    """
    return _of_column(fields, "conversation")


def alpaca(fields: Fields) -> Fields:
    """`instruction`, an optional `input` below it, `output`; also `system`, and `history` as question-answer lists.

    Raises:
        RowError: a field is not the text, or the list of texts, that the format has there.
    """
    return _of_texts(fields, "instruction", "output", ("input",))


def instruction_response(fields: Fields) -> Fields:
    """`instruction`, an optional `input` or `context` below it, `response`; also `system` and `history`.

    Raises:
        RowError: a field is not the text, or the list of texts, that the format has there.
    """
    return _of_texts(fields, "instruction", "response", ("input", "context"))


def query_response(fields: Fields) -> Fields:
    """`query` and `response`; also `system`, and `history` as turns or question-answer lists.

    Raises:
        RowError: a field is not the text, or the list of texts, that the format has there.
    """
    return _of_texts(fields, "query", "response", ())


def query_answers(fields: Fields) -> Fields:
    """xLAM's rows: `query`, and as `answers` the calls of `tools` that it asks for.

    Raises:
        RowError: a field is not the text, or the calls, that the format has there.
    """
    calls = calls_of_json(fields["answers"], "field answers")
    answer = {"role": "assistant", "content": "", "tool_calls": calls}
    messages = [*asked_turns(fields, "query", ()), answer]
    return {
        **_without(fields, ("query", "answers", "history", "system")),
        "messages": checked_messages(messages, "answers"),
    }


def preference(fields: Fields) -> Fields:
    """`chosen` and `rejected`; where both are answers alone and no `prompt` is there, `messages` or a question of
    another name, with `input` below it, are the prompt.

    Raises:
        RowError: naming the turn and its fault.
    """
    if "prompt" in fields or _holds_conversation(fields["chosen"]):
        return fields
    if "messages" in fields:
        return {**_without(fields, ("messages",)), "prompt": checked_messages(fields["messages"], "messages")}
    first = next((name for name in QUESTIONS if fields.get(name)), None)
    if first is None:
        return fields
    if not isinstance(fields[first], str):
        return {**_without(fields, (first,)), "prompt": fields[first]}
    asked = asked_turns(_without(fields, ("history",)), first, () if first == "input" else ("input",))
    return {**_without(fields, (first, "input", "system")), "prompt": asked}


def chosen_response(fields: Fields) -> Fields:
    """`chosen_response` and `rejected_response` to a prompt, an instruction, a question or a conversation that asks,
    with `input` below an instruction or a question and `history` before a text.

    Raises:
        RowError: naming the field or the turn and its fault, or two columns that ask differently.
    """
    better, worse = "chosen_response", "rejected_response"
    rest = {**_without(fields, (better, worse)), "chosen": fields[better], "rejected": fields[worse]}
    asking = [name for name in (*ASKING, "history") if fields.get(name)]
    turns = as_messages(fields[better], "assistant", better)
    if _holds_conversation(fields[better]):  # a prompt beside it is held to it as every pair's is
        _check_repeated([name for name in asking if name != "prompt"], fields, turns, better)
        return _without(rest, (*ASKING[1:], "history"))
    first = next((name for name in asking if name != "history"), None)
    if first is None:
        return rest
    if first in CONVERSATIONS:
        asked = checked_messages(fields[first], first)
    else:
        asked = as_messages(fields[first], "user", first)
    read = {first}
    if isinstance(fields[first], str) and first not in CONVERSATIONS:
        below = () if first in ("prompt", "input") else ("input",)
        asked = asked_turns(fields, first, below)
        read |= {"history", "system", *below}
    _check_repeated([name for name in asking if name not in read], fields, [*asked, *turns], first)
    return {**_without(rest, (*ASKING, "history", *read)), "prompt": asked}


def sharegpt_preference(fields: Fields) -> Fields:
    """A ShareGPT prompt, and one turn of `from` and `value` each for `chosen` and `rejected`.

    Raises:
        RowError: naming the turn and its fault.
    """
    prompt = checked_messages(fields["conversations"], "conversations")
    return {**_without(fields, ("conversations",)), "prompt": prompt}


def instruction_preference(fields: Fields) -> Fields:
    """LLaMA-Factory's ranked rows: `instruction`, an optional `input` below it, `chosen` and `rejected`.

    Raises:
        RowError: a field is not the text that the format has there.
    """
    prompt = asked_turns(fields, "instruction", ("input",))
    return {**_without(fields, ("instruction", "input", "history", "system")), "prompt": prompt}


def output_preference(fields: Fields) -> Fields:
    """LLaMA-Factory's older ranked rows: `output` is the list of a better and a worse answer.

    Raises:
        RowError: `output` is no such list.
    """
    output = fields["output"]
    if not isinstance(output, list) or len(output) != 2:
        raise RowError(
            f"field output: expected a list of a better and a worse answer, got {described(output)}; correct the row"
        )
    sides = dict(zip(("chosen", "rejected"), output, strict=True))
    return instruction_preference({**_without(fields, ("output",)), **sides})


def chosen_messages(fields: Fields) -> Fields:
    """`chosen_messages` and `rejected_messages`, whole conversations both.

    Raises:
        RowError: naming the turn and its fault.
    """
    return _two_conversations(fields, "chosen_messages", "rejected_messages")


def rejected_messages(fields: Fields) -> Fields:
    """ms-swift's pairs: `messages` is the better conversation, `rejected_messages` the worse.

    Raises:
        RowError: naming the turn and its fault.
    """
    return _two_conversations(fields, _column(fields), "rejected_messages")


def rejected_response(fields: Fields) -> Fields:
    """ms-swift's pairs: a conversation, or `query` and `response`, and `rejected_response` in place of its end.

    Raises:
        RowError: the conversation does not end with an answer.
    """
    if "query" in fields:
        messages = query_response(fields)["messages"]
        rest = _without(fields, ("query", "response", "history", "system", "rejected_response"))
    else:
        column = _column(fields)
        messages = checked_messages(fields[column], column)
        rest = _without(fields, (column, "rejected_response"))
    if messages[-1]["role"] != "assistant":
        raise RowError(
            "field rejected_response: expected a conversation that ends with the better answer beside it, got one that "
            f"ends with a turn of role {messages[-1]['role']}; add the answer"
        )
    rejected = as_messages(fields["rejected_response"], "assistant", "rejected_response")
    return {**rest, "prompt": messages[:-1], "chosen": messages[-1:], "rejected": rejected}


def preferred_output(fields: Fields) -> Fields:
    """OpenAI's pairs: `input` with `messages` and `tools`, `preferred_output` and `non_preferred_output`.

    Raises:
        RowError: `input` is no mapping with messages.
    """
    asked = fields["input"]
    if not isinstance(asked, dict) or "messages" not in asked:
        raise RowError(f"field input: expected a mapping with messages, got {described(asked)}; correct the row")
    rest = _without(fields, ("input", "preferred_output", "non_preferred_output"))
    tools = {"tools": asked["tools"]} if asked.get("tools") else {}
    prompt = checked_messages(asked["messages"], "input.messages")
    sides = {"chosen": fields["preferred_output"], "rejected": fields["non_preferred_output"]}
    return {**rest, **tools, "prompt": prompt, **sides}


def _of_column(fields: Fields, column: str) -> Fields:
    return {**_without(fields, (column,)), "messages": checked_messages(fields[column], column)}


def _of_texts(fields: Fields, question: str, answer: str, below: tuple[str, ...]) -> Fields:
    said = text_field(fields, answer)
    if not said.strip():
        raise RowError(f"field {answer}: expected an answer, got an empty text; correct the row or leave it out")
    messages = [*asked_turns(fields, question, below), {"role": "assistant", "content": said}]
    thought = {ANSWER_REASONING: fields[ROW_REASONING]} if fields.get(ROW_REASONING) else {}
    read = (question, answer, *below, ROW_REASONING, "history", "system", "text")
    return {**_without(fields, read), **thought, "messages": messages}


def asked_turns(fields: Fields, question: str, below: tuple[str, ...]) -> list[Fields]:
    """System text, history and question of a row of texts, with what stands in the columns `below` below it.

    Raises:
        RowError: a field is not the text, or the list of texts, that the format has there.
    """
    messages = _history(fields.get("history"))
    asked = text_field(fields, question)
    for name in below:
        context = text_field(fields, name) if fields.get(name) is not None else ""
        if not says_no_input(context):
            asked = context if is_blank(asked) else f"{asked}\n\n{context}"
    return with_system(fields.get("system"), [*messages, {"role": "user", "content": asked}])


def _check_repeated(names: list[str], fields: Fields, turns: list[Fields], asks: str) -> None:
    """Raise RowError where a column says what no turn does."""
    known = [turn["content"].strip() for turn in turns]
    for name in names:
        value = fields[name]
        if isinstance(value, str) and name not in CONVERSATIONS:
            same = says_no_input(value) or is_asked(value, turns)
        else:
            told = [t["content"] for t in (_history(value) if name == "history" else checked_messages(value, name))]
            same = all(any(text.strip() in said for said in known) for text in told)
        if not same:
            raise other_question(asks, name, value)


def _history(history: Any) -> list[Fields]:
    """Earlier turns, from a list of turns or of questions and their answers."""
    if isinstance(history, str):
        history = written_value(history)
    history = history or []
    if holds_turns(history):
        return checked_messages(history, "history")
    if not isinstance(history, list) or any(not isinstance(h, list | tuple) or len(h) != 2 for h in history):
        raise RowError(f"field history: expected a list of [question, answer], got {described(history)}; correct it")
    roles = ("user", "assistant")
    return [{"role": r, "content": text} for exchange in history for r, text in zip(roles, exchange, strict=True)]


def text_field(fields: Fields, name: str) -> str:
    """The text of a field.

    Raises:
        RowError: it holds none.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise RowError(f"field {name}: expected text, got {described(value)}; correct the row")
    return value


def _two_conversations(fields: Fields, better: str, worse: str) -> Fields:
    sides = {"chosen": checked_messages(fields[better], better), "rejected": checked_messages(fields[worse], worse)}
    return {**_without(fields, (better, worse)), **sides}


def _column(fields: Fields) -> str:
    """The column that holds a row's conversation; raises RowError where none does."""
    column = next((name for name in CONVERSATIONS if name in fields), None)
    if column is None:
        have = ", ".join(sorted(fields))
        raise RowError(
            f"field messages: expected a conversation, got a row with {have}; map a column to it with rename"
        )
    return column


def _holds_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1


def _without(fields: Fields, names: Iterable[str]) -> Fields:
    gone = frozenset(names)
    return {k: v for k, v in fields.items() if k not in gone}
