"""Needles of a wished length in tokens and depth, for any tokenizer, in the form of RULER's multi-key task.

A context of plain sentences hides a few notes, each a number kept under a name; the question asks for one of them
(arXiv 2404.06654). Lengths count the context in tokens of the model's own tokenizer.
"""

import random
from typing import Any

from transformers import PreTrainedTokenizerBase

ADJECTIVES = (
    "quiet broad narrow early late green silver hollow gentle rapid distant plain northern old bright heavy".split()
)
NOUNS = (
    "harbour meadow library engine orchard lantern bridge market valley cabin window ladder garden mirror wagon kettle"
).split()
VERBS = "waits turns rests shines opens closes stands moves leans sleeps".split()
PLACES = "hill station river church mill square gate forest coast school".split()
QUESTION = "\n\nWhat is the number kept under the name {name} in the text above?"
PREFIX = "The number kept under the name {name} is"


def sentence(rng: random.Random) -> str:
    return (
        f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)} near the {rng.choice(ADJECTIVES)} "
        f"{rng.choice(PLACES)}. "
    )


def note(name: str, number: int) -> str:
    return f"The number kept under the name {name} is {number}. "


def needle_rows(
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    lengths: list[int] = (1024, 4096),
    depths: list[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    count: int = 10,
    keys: int = 4,
) -> list[dict[str, Any]]:
    """`count` contexts for every length, each asked for a note at every depth; the same for the same arguments and
    tokenizer.

    Args:
        lengths: of the whole context, in tokens.
        depths: where the asked notes stand, 0 at the beginning and 1 at the end.
        keys: notes in a context, those that are asked for among them; at least one a depth.
    """
    rng = random.Random(f"needles {seed}")

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    rate = tokens("".join(sentence(rng) for _ in range(200))) / 200
    names = [f"{a}-{n}" for a in ADJECTIVES for n in NOUNS]
    rows = []
    for length in lengths:
        for number in range(count):
            chosen = rng.sample(names, max(keys, len(depths)))
            numbers = dict(zip(chosen, rng.sample(range(10000, 100000), len(chosen)), strict=True))
            notes = {name: note(name, n) for name, n in numbers.items()}
            room = length - sum(tokens(t) for t in notes.values())
            pieces = [sentence(rng) for _ in range(max(1, int(room / rate)))]
            # Sentences are not all equally long; take or add one until the count fits.
            total = tokens("".join(pieces))
            while total > room and len(pieces) > 1:
                total -= tokens(pieces.pop())
            for name in chosen[len(depths) :]:
                pieces.insert(rng.randint(0, len(pieces)), notes[name])
            asked = list(zip(sorted(depths), chosen, strict=False))
            # From the end, so that what is put in does not move the places before it.
            for depth, name in reversed(asked):
                pieces.insert(round(depth * len(pieces)), notes[name])
            context = "".join(pieces).strip()
            for depth, name in asked:
                rows.append(
                    {
                        "messages": [{"role": "user", "content": context + QUESTION.format(name=name)}],
                        "prefix": PREFIX.format(name=name),
                        "answer": f" {numbers[name]}",
                        "context": str(number),
                        "group": length,
                        "depth": depth,
                        "chat_template_kwargs": {"enable_thinking": False},
                    }
                )
    return rows
