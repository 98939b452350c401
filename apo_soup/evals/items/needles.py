"""Needles of a wished length in tokens and depth, for any tokenizer, in the form of RULER's multi-key task.

A context of plain sentences hides a few notes, each a number kept under a name; the question asks for one of them
(arXiv 2404.06654). Lengths count the context in tokens of the model's own tokenizer.
"""

import random
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.config.eval import NeedleItems

_ADJECTIVES = (
    "quiet broad narrow early late green silver hollow gentle rapid distant plain northern old bright heavy".split()
)
_NOUNS = (
    "harbour meadow library engine orchard lantern bridge market valley cabin window ladder garden mirror wagon kettle"
).split()
_VERBS = "waits turns rests shines opens closes stands moves leans sleeps".split()
_PLACES = "hill station river church mill square gate forest coast school".split()
_QUESTION = "\n\nWhat is the number kept under the name {name} in the text above?"
_PREFIX = "The number kept under the name {name} is"


def _sentence(rng: random.Random) -> str:
    return (
        f"The {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)} {rng.choice(_VERBS)} near the {rng.choice(_ADJECTIVES)} "
        f"{rng.choice(_PLACES)}. "
    )


def _note(name: str, number: int) -> str:
    return f"The number kept under the name {name} is {number}. "


def generated_needles(tokenizer: PreTrainedTokenizerBase, seed: int, items: NeedleItems) -> list[dict[str, Any]]:
    """`count` contexts for every length, each asked for a note at every depth; the same for the same arguments and
    tokenizer.

    Lengths are of the whole context, in tokens. Depths say where the asked notes stand, 0 at the beginning and 1 at the
    end. A context holds `keys` notes, those that are asked for among them, and at least one a depth.
    """
    rng = random.Random(f"needles {seed}")

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    rate = tokens("".join(_sentence(rng) for _ in range(200))) / 200
    names = [f"{a}-{n}" for a in _ADJECTIVES for n in _NOUNS]
    rows = []
    for length in items.lengths:
        for number in range(items.count):
            chosen = rng.sample(names, max(items.keys, len(items.depths)))
            numbers = dict(zip(chosen, rng.sample(range(10000, 100000), len(chosen)), strict=True))
            notes = {name: _note(name, n) for name, n in numbers.items()}
            room = length - sum(tokens(t) for t in notes.values())
            pieces = [_sentence(rng) for _ in range(max(1, int(room / rate)))]
            # Sentences are not all equally long; take or add one until the count fits.
            total = tokens("".join(pieces))
            while total > room and len(pieces) > 1:
                total -= tokens(pieces.pop())
            for name in chosen[len(items.depths) :]:
                pieces.insert(rng.randint(0, len(pieces)), notes[name])
            questions = list(zip(sorted(items.depths), chosen, strict=False))
            # From the end, so that what is put in does not move the positions before it.
            for depth, name in reversed(questions):
                pieces.insert(round(depth * len(pieces)), notes[name])
            context = "".join(pieces).strip()
            for depth, name in questions:
                rows.append(
                    {
                        "messages": [{"role": "user", "content": context + _QUESTION.format(name=name)}],
                        "prefix": _PREFIX.format(name=name),
                        "answer": f" {numbers[name]}",
                        "context": str(number),
                        "group": length,
                        "depth": depth,
                        "chat_template_kwargs": {"enable_thinking": False},
                    }
                )
    return rows
