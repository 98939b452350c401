"""The tags around a model's reasoning."""

import re
from dataclasses import dataclass

THINKING = "<think>"
END_OF_THINKING = "</think>"


# A block without reasoning in front of an answer.
_EMPTY_BLOCK = re.compile(rf"\s*{THINKING}\s*{END_OF_THINKING}\s*")
# What opens an answer's reasoning in other models and data sets: `[THINK]` of Magistral, `<seed:think>` of Seed-OSS,
# `◁think▷` of Kimi, `<thought>` of Gemini behind OpenAI's schema, `<|begin_of_thought|>` of OpenThoughts, `<reasoning>`
# and `<thinking>` of answers that a prompt asked for. What such an answer says later of a thought is words.
_NAME = r"(?:think|thinking|thoughts?|reasoning|scratch_?pad)"
_OPENING = re.compile(
    rf"\s*(<(?:seed:)?{_NAME}>|<\|(?:(?:begin|start)(?:_of)?_)?{_NAME}\|>|\[{_NAME}\]|◁{_NAME}▷)", re.IGNORECASE
)
BEGINNINGS_OF_TAGS = ("<", "[", "◁")
# Tags around an answer that are written like control tokens, so that nobody would take them for its words.
_ANSWER = re.compile(
    r"(<\|(?:begin|start)_of_(solution|answer|response|output)\|>)(.*)(<\|end_of_\2\|>)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class TaggedThought:
    """An answer whose reasoning stands in front, between tags of another name: what it is in the common ones, the tags,
    and those around the rest of the answer, which went with them.
    """

    text: str
    opening: str
    closing: str
    frame: tuple[str, str] | None = None


def _closings(opening: str) -> tuple[str, ...]:
    """How what opens reasoning may be closed."""
    if not opening.startswith("<|"):
        return (f"{opening[0]}/{opening[1:]}",)
    for begin, end in (("begin", "end"), ("start", "end"), ("BEGIN", "END"), ("START", "END")):
        if opening.startswith(f"<|{begin}"):
            return (opening.replace(begin, end, 1),)
    name = opening[2:-2]
    return f"<|/{name}|>", f"</|{name}|>", f"<|end_{name}|>", f"<|end_of_{name}|>"


# What stands before the words of a block: spaces behind its tag, or lines; a first line may be indented, as code is.
_BLANK = re.compile(r"\A(?:(?:[ \t\r]*\n)+|[ \t]+)")


def tagged_thought(text: str) -> TaggedThought | None:
    r"""An answer in the common tags, where it begins with reasoning between others, each of them there once; None where
    it does not, or has the common ones as well.

    >>> tagged_thought("<reasoning>2 + 2</reasoning>\n4").text
    '<think>\n2 + 2\n</think>\n\n4'
    >>> tagged_thought("<reasoning>2 + 2"), tagged_thought("Write <reasoning>2</reasoning>")
    (None, None)
    >>> tagged_thought("<reasoning>\n  2 + 2\n</reasoning>\n    return 4").text
    '<think>\n  2 + 2\n</think>\n\n    return 4'
    """
    found = _OPENING.match(text)
    if found is None or THINKING in text or END_OF_THINKING in text:
        return None
    opening = found[1]
    closings = [closing for closing in _closings(opening) if closing in text]
    if len(closings) != 1 or text.count(opening) != 1 or text.count(closings[0]) != 1:
        return None
    thought, _, answer = text[found.end() :].partition(closings[0])
    if not thought.strip():
        return None
    framed = _ANSWER.fullmatch(answer.strip())
    if framed and framed[3].strip() and framed[1] not in framed[3] and framed[4] not in framed[3]:
        answer = framed[3]
    else:
        framed = None
    thought, answer = (_BLANK.sub("", words, count=1).rstrip() for words in (thought, answer))
    text = f"{THINKING}\n{thought}\n{END_OF_THINKING}\n\n{answer}"
    return TaggedThought(text, opening, closings[0], (framed[1], framed[4]) if framed else None)


def in_common_tags(text: str) -> str:
    """An answer whose reasoning, in front, stands between another model's tags, with the common ones in their place;
    also of one that broke off before its reasoning was closed.

    >>> in_common_tags("[THINK]2 + 2[/THINK]4"), in_common_tags("write [THINK] first")
    ('<think>2 + 2</think>4', 'write [THINK] first')
    """
    found = _OPENING.match(text)
    if found is None or found[1] == THINKING:
        return text
    text = text.replace(found[1], THINKING, 1)
    closing = next((closing for closing in _closings(found[1]) if closing in text), None)
    return text.replace(closing, END_OF_THINKING, 1) if closing else text


def without_empty_block(text: str) -> str:
    r"""An answer without the empty block that some models, asked not to think, write in front of it.

    >>> without_empty_block("<think>\n\n</think>\n\n4"), without_empty_block("<think>2</think>4")
    ('4', '<think>2</think>4')
    """
    found = _EMPTY_BLOCK.match(text)
    return text[found.end() :] if found else text


def opens_thinking(text: str) -> bool:
    """Whether a prompt ends by opening a think block."""
    return text.rstrip().endswith(THINKING)
