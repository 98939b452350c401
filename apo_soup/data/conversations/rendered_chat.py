"""Plain texts that are a rendered chat: every turn of them would be trained, whoever said it."""

import re
from typing import Any

from apo_soup.data.sources.rows import Fields, RowError

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

# A dialogue as Anthropic's HH-RLHF has it: each of its turns is a paragraph that begins with who speaks.
DIALOGUE_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
SPEAKER = {"Human": "user", "Assistant": "assistant"}
READ_AS_TURNS = "a dialogue written as one text (Human: ... Assistant: ...) was read as its turns"

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


def dialogue_turns(text: Any) -> list[Fields] | None:
    r"""The turns of a text that is a whole dialogue; None where it is none, or its speakers do not take turns.

    >>> dialogue_turns("\n\nHuman: Hi\n\nAssistant: Hello")
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    if not isinstance(text, str) or not text.lstrip().startswith("Human:"):
        return None
    _, *told = DIALOGUE_TURN.split(text)
    speakers, words = told[::2], told[1::2]
    if speakers != ["Human", "Assistant"] * (len(speakers) // 2):
        return None
    return [{"role": SPEAKER[who], "content": said.strip()} for who, said in zip(speakers, words, strict=True)]


def ends_as_prompt(text: str) -> str | None:
    """The name of the assistant with which a text ends, as rendered prompts do, or None; texts lie between nulls."""
    if ":" not in text or not ("ssistant:" in text or "SSISTANT:" in text or "Response:" in text):
        return None
    found = PROMPT_END.search(text)
    return found[1] if found else None
