"""Notes hidden in filler text: a key, its value directly behind it, and a question about one key at the end.

The counterpart of RULER's needle tasks (Hsieh et al. 2024), sized for a model that reads about a thousand tokens.
"""

import random
from dataclasses import dataclass

from apo_soup.toy.words import ADJECTIVES, ANIMALS, KEYS, PLACES, VALUES, VERBS

TOKENS_PER_SENTENCE = 9
TOKENS_PER_NOTE = 4


@dataclass(frozen=True)
class Lookup:
    """A context with notes, the key asked for, its value, and where the note stands (0 start, 1 end)."""

    context: str
    key: str
    value: str
    depth: float
    values: tuple[str, ...]

    @property
    def question(self) -> str:
        return f"{self.context}\nfind {self.key} ?"

    @property
    def answer(self) -> str:
        return f"found {self.key} {self.value}"

    @property
    def identity(self) -> str:
        return f"lookup {self.question}"


def sentence(rng: random.Random) -> str:
    """One filler sentence."""
    return (
        f" the {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)} {rng.choice(VERBS)} by the "
        f"{rng.choice(ADJECTIVES)} {rng.choice(PLACES)} ."
    )


def note(key: str, value: str) -> str:
    return f" note {key} {value} ."


def scatter(
    rng: random.Random, tokens: int, notes: int, at_least: int = 1
) -> tuple[list[str], list[tuple[str, str]], list[int]]:
    """About `tokens` tokens of pieces with `notes` notes among them: pieces, (key, value) pairs, note places.

    `at_least` is the fewest filler sentences put between the notes.
    """
    pairs = list(zip(rng.sample(KEYS, notes), rng.sample(VALUES, notes), strict=True))
    fillers = max(at_least, (tokens - notes * TOKENS_PER_NOTE) // TOKENS_PER_SENTENCE)
    places = sorted(rng.sample(range(fillers + notes), notes))
    pieces = [sentence(rng) for _ in range(fillers + notes)]
    for place, pair in zip(places, pairs, strict=True):
        pieces[place] = note(*pair)
    return pieces, pairs, places


def draw(rng: random.Random, tokens: int, notes: int = 8) -> Lookup:
    """A lookup of about `tokens` tokens that asks for any of its notes."""
    found = draw_all(rng, tokens, notes)
    return found[rng.randrange(notes)]


def draw_all(rng: random.Random, tokens: int, notes: int = 8) -> list[Lookup]:
    """Every note of one context of about `tokens` tokens, asked for in turn."""
    pieces, pairs, places = scatter(rng, tokens, notes)
    context, values = "".join(pieces).strip(), tuple(v for _, v in pairs)
    last = max(1, len(pieces) - 1)
    return [
        Lookup(context, key, value, place / last, values) for (key, value), place in zip(pairs, places, strict=True)
    ]


def at_depths(lookups: list[Lookup], depths: tuple[float, ...]) -> list[Lookup]:
    """For each depth the lookup nearest to it, no one twice."""
    left, found = list(lookups), []
    for depth in depths:
        nearest = min(left, key=lambda item: abs(item.depth - depth))
        left.remove(nearest)
        found.append(nearest)
    return found
