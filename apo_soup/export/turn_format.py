"""What a chat template writes around turns, found by asking it, for languages that are no Jinja.

The parts are found with words that stand for the texts, and then held against the template itself on conversations of
every kind that they are for; a template that does more than they say has no such format.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.export.probes import MODE_ARGUMENTS, Messages
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

# Words that stand for texts; no template writes them of itself.
_SYSTEM, _USER, _ANSWER, _THOUGHT = "SYSTEMqzx", "USERqzx", "ANSWERqzx", "THOUGHTqzx"
# By this word in a system message SmolLM3's template, and ours, are told the mode.
NO_THINK_WORD = "/no_think"


@dataclass(frozen=True)
class TurnFormat:
    """The texts around turns in one mode.

    Attributes:
        opening: before the first turn of a conversation without a system message.
        system: before and behind a system message, where the template takes one.
        user: before and behind a user's turn.
        answer: before and behind an assistant's turn.
        thought: before and behind the reasoning in such a turn; None where the template leaves it out.
        prompt: behind the last turn, where the model goes on.
    """

    opening: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    thought: tuple[str, str] | None
    prompt: str

    def render(self, messages: Messages) -> str:
        """A prompt for the messages, without Jinja."""
        first = messages[0]
        has_system = first["role"] == "system"
        written = [first["content"].join(self.system) if has_system else self.opening]
        for message in messages[has_system:]:
            if message["role"] == "user":
                written.append(message["content"].join(self.user))
                continue
            reasoning = message.get("reasoning_content")
            thought = reasoning.join(self.thought) if reasoning and self.thought else ""
            written.append((thought + message["content"]).join(self.answer))
        return "".join([*written, self.prompt])


@dataclass(frozen=True)
class ChatFormat:
    """A template's texts by mode, or alone under `think` where it knows none.

    Attributes:
        reads_word: whether `/no_think` and `/think` at the beginning of a system message set the mode.
    """

    modes: dict[str, TurnFormat]
    reads_word: bool

    def without_begin(self, begin: str) -> "ChatFormat":
        """The format for a program that puts the beginning of text before every prompt by itself."""
        modes = {
            mode: replace(
                one,
                opening=one.opening.removeprefix(begin),
                system=(one.system[0].removeprefix(begin), one.system[1]),
            )
            for mode, one in self.modes.items()
        }
        return replace(self, modes=modes)


def chat_format(renderer: Renderer) -> ChatFormat | None:
    """The format of a renderer's template; None where it writes what these parts cannot, such as the day's date."""
    if "strftime_now" in renderer.template.text:
        return None
    arguments = MODE_ARGUMENTS if renderer.knows_modes else {"think": {}}
    try:
        found = {mode: _parts(renderer, given) for mode, given in arguments.items()}
        for (mode, given), messages in product(arguments.items(), _conversations()):
            if renderer.prompt(messages, given) != found[mode].render(messages):
                return None
    except (RowError, UserError, ValueError):
        return None
    return ChatFormat(found, len(found) > 1 and _reads_word(renderer, found))


def _parts(renderer: Renderer, given: dict[str, Any]) -> TurnFormat:
    """The texts around the words that stand for texts; raises ValueError where one of those is not written once."""
    user, answer = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}

    def asked(messages: Messages) -> str:
        return renderer.prompt(messages, given)

    def told(messages: Messages) -> str:
        return renderer.render(messages, given)[0]

    one, two = asked([user]), asked([user, answer, user])
    before, behind = _around(told([user]), _USER)
    prompt = one.removeprefix(before + _USER + behind)
    between, rest = two.removeprefix(before + _USER + behind).split(_ANSWER)
    # What stands behind the answer ends where the next user turn begins.
    user_head = _turn_head(before, rest.split(_USER)[0], renderer.end)
    opening, answer_tail = before.removesuffix(user_head), rest.split(_USER)[0].removesuffix(user_head)
    if opening + user_head != before or not prompt:
        raise ValueError("the turns of a conversation are written in more than one way")
    head, tail = _around(asked([{"role": "system", "content": _SYSTEM}, user]), _SYSTEM)
    with_thought = told([user, answer | {"reasoning_content": _THOUGHT}])
    thought = None
    if _THOUGHT in with_thought:
        thought_head, thought_tail = _around(with_thought, _THOUGHT)
        thought = (thought_head.removeprefix(before + _USER + behind + between), thought_tail.split(_ANSWER)[0])
    system = (head, tail.split(_USER)[0].removesuffix(user_head))
    return TurnFormat(opening, system, (user_head, behind), (between, answer_tail), thought, prompt)


def _around(text: str, word: str) -> tuple[str, str]:
    before, behind = text.split(word)
    return before, behind


def _turn_head(first: str, later: str, end: str) -> str:
    """What opens a user's turn, of the texts before the first and before a later one: what follows the end of the turn
    before it, or, where a template writes no such end, all that both end with.
    """
    if end in later:
        return later[later.rfind(end) + len(end) :].lstrip("\n")
    count = 0
    while count < min(len(first), len(later)) and first[-1 - count] == later[-1 - count]:
        count += 1
    return first[len(first) - count :]


def _conversations() -> list[Messages]:
    """What a format is held to: turns of several kinds, with and without a system message and reasoning."""
    user, again = {"role": "user", "content": "How many?"}, {"role": "user", "content": "And\n\nthen {{x}}?"}
    plain = {"role": "assistant", "content": "Three."}
    thought = {"role": "assistant", "content": "Three.", "reasoning_content": "One and\ntwo."}
    system = {"role": "system", "content": "Be brief.\nAnd kind."}
    turns = [[user], [user, plain, again], [user, thought, again], [user, plain, again, thought, user]]
    return [*turns, *([system, *each] for each in turns)]


def _reads_word(renderer: Renderer, found: dict[str, TurnFormat]) -> bool:
    """Whether a mode's word at the beginning of a system message sets the mode and is taken out."""
    user = {"role": "user", "content": "How many?"}
    system = {"role": "system", "content": "Be brief."}
    for mode, other in (("no_think", "think"), ("think", "no_think")):
        given = MODE_ARGUMENTS[other]
        alone = renderer.prompt([{"role": "system", "content": f"/{mode}"}, user], given)
        before = renderer.prompt([{"role": "system", "content": f"/{mode} Be brief."}, user], given)
        above = renderer.prompt([{"role": "system", "content": f"/{mode}\nBe brief."}, user], given)
        if alone != found[mode].render([user]) or {before, above} != {found[mode].render([system, user])}:
            return False
    return True


def thinks_in_tags(found: ChatFormat) -> bool:
    """Whether reasoning stands between think tags, by which a server tells it from the answer."""
    thought = found.modes["think"].thought
    return thought is not None and (thought[0].strip(), thought[1].strip()) == (THINKING, END_OF_THINKING)
