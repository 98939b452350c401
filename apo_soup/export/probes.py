"""What a converted model is compared on: conversations that no training has seen, in both modes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Messages = list[dict[str, Any]]

# The mode of a template that knows none.
NO_MODE = "no mode"
MODE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "think": {"enable_thinking": True},
    "no_think": {"enable_thinking": False},
}
_LIGHTHOUSE = (
    "The lighthouse keeper wrote down every ship that passed, with the hour and the colour of its sails. In the "
    "winter of the great storms he counted only seven, and five of them were the same one, going back and forth "
    "with lamp oil and flour. He never learned what the other two had carried."
)
_REASONING = (
    "The question is how many ships he saw in all that winter. Seven were counted, five of them the same one; so "
    "there were three different ships."
)
# What tokenizers cut in their own ways: numbers, spaces, contractions, other scripts, signs, code.
TEXTS = (
    "1 22 333 4444 55555; 3.14159, 1,000,000 and 0x1F, 2026-11-30T02:05:00Z",
    "I'm sure they'll say it isn't HERS, IT'S 'theirs' - we'd've known.",
    "  two spaces,   three,\ttab\t\ttabs,\n\nan empty line\n \n  and an indented one   ",
    "Größe, naïve, œuvre, Ærø, İstanbul, Straße; Ελλάδα, Москва, ירושלים, القاهرة",
    "東京の天気は晴れです。서울은 맑음. 北京今天多云；आज दिल्ली में धूप है",
    "👩‍👩‍👧‍👦 🇳🇴 👍🏽 ½ ² Ⅳ ٣ १ ™ \u00a0 \u200b \ufeff e\u0301",
    "def f(x):\n    return {\"a\": [1, 2.5e-3], 'b': x**2} != None  # <- !@#$%^&*()_+|~`",
    "/think and /no_think are words, <b>tags</b> too; <|not a token|> <tool> </s>",
)
PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "ships_seen",
        "description": "How many ships a keeper counted.",
        "parameters": {
            "type": "object",
            "properties": {"winter": {"type": "integer"}, "harbour": {"type": "string"}},
            "required": ["winter"],
        },
    },
}


@dataclass(frozen=True)
class Probe:
    """Messages that a chat template is asked to render, with its arguments."""

    messages: Messages
    arguments: dict[str, Any]


def prompts(knows_modes: bool) -> Iterator[Probe]:
    """Prompts on whose tokens transformers and llama.cpp must agree: every text of `TEXTS` in every mode, with a system
    message and without, with tools, and a conversation that goes on.
    """
    arguments = list(MODE_ARGUMENTS.values()) if knows_modes else [{}]
    for given in arguments:
        for text in TEXTS:
            asked = {"role": "user", "content": text}
            yield Probe([asked], given)
            yield Probe([{"role": "system", "content": text}, asked], given)
        asked = {"role": "user", "content": "How many ships passed?"}
        yield Probe([asked], {**given, "tools": [PROBE_TOOL]})
        answered = {"role": "assistant", "content": TEXTS[0]}
        yield Probe([asked, answered, {"role": "user", "content": TEXTS[1]}], given)


def held_out(knows_modes: bool) -> dict[str, Probe]:
    """A conversation for each mode, of over a hundred tokens."""
    system, asked = {"role": "system", "content": _LIGHTHOUSE}, {"role": "user", "content": "How many different ships?"}
    answer = "He saw three different ships that winter: one that came five times, and two that came once."
    told = {"role": "assistant", "content": answer}
    thought = {**told, "reasoning_content": _REASONING}
    if not knows_modes:
        return {NO_MODE: Probe([system, asked, {**told, "content": f"{_REASONING} {answer}"}], {})}
    return {
        "think": Probe([system, asked, thought], MODE_ARGUMENTS["think"]),
        "no_think": Probe([system, asked, told], MODE_ARGUMENTS["no_think"]),
    }
