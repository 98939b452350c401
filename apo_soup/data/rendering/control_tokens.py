"""Control tokens of a tokenizer and a template: which they are, and which of them stand in a text.

A control token is one that a text may not bring along, because it would begin, end or forge a turn: the tokenizer's
special tokens, and whatever the template writes around turns. Paired markup of reasoning, calls and code (`<think>` and
`</think>`) is what an assistant says, whatever the tokenizer calls it, where it is balanced; in other turns it counts
as a control token.
"""

import re
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError

PROBE_WORDS = {
    "system": "probe0f0system",
    "user": "probe0f0user",
    "assistant": "probe0f0answer",
    "tool": "probe0f0tool",
}
# What is written like a control token, though the tokenizer may have none of that name.
CONTROL_SHAPE = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|<(?:start|end)_of_turn>|\[/?[A-Z]{2,}(?:_[A-Z]+)*\]"
)
MARKUP_NAME = re.compile(r"think|thought|reason|reflect|call|function|code|python", re.IGNORECASE)
RESULT_NAME = re.compile(r"response|result|output|observation", re.IGNORECASE)
SHORTEST = 3


class ControlTokens:
    """The control tokens of one tokenizer with its chat template.

    `tokens` are all that a text is looked through for, `control` those that no text may hold, `pairs` markup by its
    opening token, `ends` what may end an assistant's turn, the end-of-turn token first.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, renderer: Renderer):
        added = tokenizer.added_tokens_decoder.values()
        known = {token.content for token in added}
        special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        around, behind = text_around_turns(renderer)
        named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
        self.pairs = markup_pairs(known, special, around, named)
        self.begin = tokenizer.bos_token
        markup = {token for pair in self.pairs.items() for token in pair}
        written = {token for token in known if _is_control_shaped(token) and token in around}
        written |= {match for match in CONTROL_SHAPE.findall(around) if not MARKUP_NAME.search(match)}
        long_enough = {token for token in special | written if len(token) >= SHORTEST}
        self.control = frozenset(long_enough - markup)
        self.tokens = tuple(sorted(self.control | markup, key=lambda token: (-len(token), token)))
        self.ends = tuple(dict.fromkeys((tokenizer.eos_token, *(e for e in self.control if behind.startswith(e)))))
        self.pattern = re.compile("|".join(map(re.escape, self.tokens)) or r"(?!)")
        # Whether one of them has no bracket, so that a text without one may hold it.
        self.bare = not all(set("<>[]◁").intersection(token) for token in self.tokens)
        self._beginnings = tuple(sorted({token[:2] for token in self.tokens}))

    def may_be_in(self, text: str) -> bool:
        """Whether a text may hold one of the tokens; quick, and seldom true of one that holds none."""
        for beginning in self._beginnings:  # noqa: SIM110 - a generator costs more than the search
            if beginning in text:
                return True
        return False

    def unfit(self, text: str, assistant: bool) -> list[str]:
        """Those tokens of a text that should not be in it, in their order.

        Args:
            assistant: it is what an assistant says, so balanced markup is fit for it.
        """
        if not self.may_be_in(text):
            return []
        found: list[str] = self.pattern.findall(text)
        if not found or not assistant:
            return found
        unbalanced = {token for pair in self.pairs.items() for token in pair if not is_balanced(found, pair)}
        return [token for token in found if token in self.control or token in unbalanced]

    def without_end(self, text: str) -> str:
        """An answer without ends of turn, and white space before them, that it brought along."""
        shorter = text
        while (bare := shorter.rstrip()).endswith(self.ends):
            end = next(e for e in self.ends if bare.endswith(e))
            shorter = bare.removesuffix(end).rstrip()
        return shorter


def is_balanced(found: list[str], pair: tuple[str, str]) -> bool:
    """Whether all markup of a kind that is opened is closed, and the other way round, among some tokens of a text.

    Reasoning may be closed first, where the prompt opens it; whether it may is for the mask check.
    """
    marks = [token for token in found if token in pair]
    if marks and "think" in pair[0].lower() and marks[0] == pair[1]:
        marks = marks[1:]
    depth = 0
    for mark in marks:
        depth += 1 if mark == pair[0] else -1
        if depth < 0:
            return False
    return depth == 0


def markup_pairs(known: set[str], special: set[str], around: str, named: set[Any]) -> dict[str, str]:
    """Opening and closing tokens, among the known ones, of what an assistant may say: of reasoning, calls and code, and
    special ones that the template does not write `around` turns; `named` are tokens that are none.
    """
    pairs = {}
    for opening in known - named:
        closing = next((c for c in _closings(opening) if c in known and c not in named), None)
        if closing is None or RESULT_NAME.search(opening):
            continue
        tag = opening in special and opening[1:] == closing[2:] and opening not in around
        if tag or MARKUP_NAME.search(opening):
            pairs[opening] = closing
    return pairs


def _closings(opening: str) -> Iterator[str]:
    """How a closing token may be written for an opening one."""
    if opening[:1] in ("<", "["):
        yield f"{opening[0]}/{opening[1:]}"
        yield f"{opening[:2]}/{opening[2:]}"
    for begin in ("begin", "start"):
        if begin in opening:
            yield opening.replace(begin, "end")


def _is_control_shaped(token: str) -> bool:
    return len(token) >= SHORTEST and token[0] in "<[{|" and not re.search(r"\s", token)


def text_around_turns(renderer: Renderer) -> tuple[str, str]:
    """What a template writes around the words of turns, and what it writes behind an assistant's.

    Turns that a template refuses are left out.
    """
    user, assistant = ({"role": role, "content": PROBE_WORDS[role]} for role in ("user", "assistant"))
    system, tool = ({"role": role, "content": PROBE_WORDS[role]} for role in ("system", "tool"))
    around, behind = "", ""
    for turns in ([user, assistant, user, assistant], [system, user, assistant], [user, assistant, tool, assistant]):
        try:
            text, _ = renderer.render(turns, {})
        except RowError:
            continue
        behind = behind or text.rpartition(PROBE_WORDS["assistant"])[2].lstrip()
        for word in PROBE_WORDS.values():
            text = text.replace(word, "\0")
        around += text + "\0"
    return around, behind
