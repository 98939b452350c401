"""Plain texts that are a rendered chat: every turn of them would be trained, whoever said it."""

import re
from typing import Any

from apo_soup.data.sources.rows import RowError

# What the templates of model families write before a turn.
TURN_MARKS = re.compile(
    r"<\|(?:im_start|start_header_id|start|header_start|turn|role_start)\|?>|<\|(?:user|assistant|system)\|>"
    r"|<\|START_OF_TURN_TOKEN\|>|<start_of_turn>|<\|turn>|\[INST\].*\[/INST\]|<｜(?:User|Assistant)｜>|\[\|(?:user|assistant)\|\]"
)
# Texts that begin with the user's name and go on with the assistant's: Guanaco's, Alpaca's, Vicuna's, Anthropic's. A
# token that begins every text may stand first.
BEGINNING = r"\A(?:\s|<[^<>\s]{1,30}>)*"
NAMED_TURNS = re.compile(
    BEGINNING + r"(### ?(?:Human|User|Instruction):).*### ?(?:Assistant|Response):"
    "|" + BEGINNING + r"((?:Human|User|USER): ).*(?:\s|>)(?:Assistant|ASSISTANT): "
    "|" + BEGINNING + r"(Below is an instruction that describes a task).*### ?Response:",
    re.DOTALL,
)
# The same headings as paragraphs below a system text.
HEADED_TURNS = re.compile(r"\n\s*\n(### ?(?:Human|User|Instruction):).*\n\s*### ?(?:Assistant|Response):", re.DOTALL)

PROMPT_END = re.compile(r"(?:^|[\s\0>])((?:### ?)?(?:Assistant|ASSISTANT|Response):)\s*(?:\0|\Z)")


def rendered_chat_fault(text: str) -> str | None:
    """Why a text cannot be trained where only the assistant's words are to be, or None."""
    mark = TURN_MARKS.search(text)
    names = None if mark else NAMED_TURNS.match(text) or HEADED_TURNS.search(text)
    if not mark and not names:
        return None
    found = mark[0] if mark else next(filter(None, names.groups() if names else ()))
    return (
        f"field text: expected messages where assistant_only_loss is true, got a rendered chat ({found}), of which "
        "every turn would be trained; give the row its messages, or write assistant_only_loss: false and "
        "special_tokens_in_text: allow"
    )


def check_transcript(answer: Any, name: str) -> None:
    """Raise RowError where an answer is the text of a whole dialogue, the user's turns and all."""
    found = NAMED_TURNS.match(answer) if isinstance(answer, str) else None
    if found:
        mark = next(filter(None, found.groups()))
        raise RowError(
            f"field {name}: expected an answer, got a rendered chat ({mark.strip()}), every turn of which would be "
            "trained; give the row its turns as a list"
        )


def ends_as_prompt(text: str) -> str | None:
    """The name of the assistant with which a text ends, as rendered prompts do, or None; texts lie between nulls."""
    if ":" not in text or not any(end in text for end in ("ssistant:", "SSISTANT:", "Response:")):
        return None
    found = PROMPT_END.search(text)
    return found[1] if found else None
