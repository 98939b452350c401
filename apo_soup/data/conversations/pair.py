"""A raw row as a preference pair, checked field by field."""

from typing import Any

from apo_soup.data.conversations.blank_text import visible
from apo_soup.data.conversations.conversation import PreferencePair, check_one_mode, prompt_turns
from apo_soup.data.conversations.converters import QUESTIONS
from apo_soup.data.conversations.formats import missing_field
from apo_soup.data.conversations.messages import as_messages, checked_messages, with_system
from apo_soup.data.conversations.pair_scores import check_scores
from apo_soup.data.conversations.prompt_copy import check_one_question, check_prompt_copy
from apo_soup.data.conversations.reasoning import opens_unclosed_block
from apo_soup.data.conversations.rename_guess import rename_remedy
from apo_soup.data.conversations.rendered_chat import check_transcript, dialogue_turns
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.conversations.turn_fields import carries_loss
from apo_soup.data.conversations.turn_order import unusual_turn
from apo_soup.data.sources.rows import Fields, RowError


def parse_pair(fields: Fields, defaults: dict[str, Any]) -> PreferencePair:
    """The pair of a row with `chosen` and `rejected`, with or without an explicit `prompt`.

    Where both sides are whole conversations, the prompt is what they share up to the last assistant turn; a `prompt`
    beside them is only a copy (of the first user turn, as the Tulu3 mixture ships it) and is not needed.

    Raises:
        RowError: naming the field, what was expected and what is there.
    """
    fields = _dialogues_in_turns(fields)
    for name in ("chosen", "rejected"):
        if name not in fields:
            raise missing_field(name, fields)
        check_transcript(fields[name], name)
    check_scores(fields)
    chosen = as_messages(fields["chosen"], "assistant", "chosen")
    rejected = as_messages(fields["rejected"], "assistant", "rejected")
    greeted = "prompt" not in fields and any(m["role"] == "user" for m in chosen)  # a whole conversation all the same
    whole = chosen[0]["role"] != "assistant" or greeted
    if not whole:
        if "prompt" not in fields:
            remedy = rename_remedy(fields, ("prompt",)) or "map the column that holds it with rename"
            raise RowError(f"field prompt: expected a prompt, got none, and chosen begins with the assistant; {remedy}")
        prompt = prompt_turns(fields["prompt"], None)
    else:
        prompt, chosen, rejected = _without_shared_prompt(chosen, rejected)
        given = fields.get("prompt")
        if isinstance(given, list) and given and _is_system(given[0]) and prompt[0]["role"] != "system":
            prompt = [*checked_messages(given[:1], "prompt"), *prompt]
    prompt = with_system(fields.get("system"), prompt)
    if whole:
        check_prompt_copy(fields.get("prompt"), prompt)
    else:
        check_one_question(QUESTIONS, fields, prompt)
    _check_different(chosen, rejected)
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        unusual = unusual_turn(prompt + answer, f"prompt + {side}") is not None
        if opens_unclosed_block(answer[-1]["content"]):
            raise RowError(f"field {side}: expected </think>, got a think block that is never closed; close it")
        if not carries_loss(answer[-1], f"field {side}"):
            raise RowError(
                f"field {side}: expected an answer that is trained, got a flag that masks it; remove the flag"
            )
        if len(answer) > 1:
            raise RowError(
                f"field {side}: expected one assistant turn behind the prompt, got {len(answer)} turns; "
                "conversations must share all turns but the last"
            )
    pair = PreferencePair(prompt, chosen, rejected, template_kwargs(fields, defaults), unusual)
    check_one_mode(pair, fields)
    return pair


def _dialogues_in_turns(fields: Fields) -> Fields:
    """A row whose sides are turns, where they are two dialogues written as texts and nothing else asks."""
    sides = {name: dialogue_turns(fields.get(name)) for name in ("chosen", "rejected")}
    return {**fields, **sides} if all(sides.values()) and not fields.get("prompt") else fields


def _check_different(chosen: list[Fields], rejected: list[Fields]) -> None:
    """Raise RowError where the two answers read alike."""
    if [_spoken_parts(m) for m in chosen] == [_spoken_parts(m) for m in rejected]:
        raise RowError("fields chosen, rejected: expected two answers, got the same one twice; leave the row out")
    if [_seen_parts(m) for m in chosen] == [_seen_parts(m) for m in rejected]:
        raise RowError(
            "fields chosen, rejected: expected two answers, got two that differ in spaces or invisible characters "
            "alone; leave the row out"
        )


def _is_system(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "system"


def _without_shared_prompt(chosen: list[Fields], rejected: list[Fields]) -> tuple[list[Fields], ...]:
    """The prompt that two conversations share, and what follows it on either side."""
    shared = 0
    longest = min(len(chosen), len(rejected)) - 1
    while shared < longest and _spoken_parts(chosen[shared]) == _spoken_parts(rejected[shared]):
        shared += 1
    prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not prompt or chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant":
        raise RowError(
            "fields chosen, rejected: expected a shared prompt that ends before an assistant turn, got conversations "
            "that part elsewhere; give the turns before it as prompt"
        )
    return prompt, chosen, rejected


def _seen_parts(message: Fields) -> tuple[Any, ...]:
    """What a turn says to who reads it: its texts without what nobody sees."""
    return tuple(visible(part) if isinstance(part, str) else part for part in _spoken_parts(message))


def _spoken_parts(message: Fields) -> tuple[Any, ...]:
    """What a turn says, without the marks that data sets put beside it, such as an id or a time."""
    return tuple(message.get(key) for key in ("role", "content", "tool_calls", "reasoning_content"))
