"""Notes hidden in filler text: a key, its value directly behind it, and a question about one key at the end.

The counterpart of RULER's needle tasks (Hsieh et al. 2024), sized for a model that reads about a thousand tokens.
"""

import random
from dataclasses import dataclass

from apo_soup.toy.words import KEYS, TOY_ADJECTIVES, TOY_ANIMALS, TOY_PLACES, TOY_VERBS, VALUES

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
        """The context, and the question for the key."""
        return f"{self.context}\nfind {self.key} ?"

    @property
    def answer(self) -> str:
        """The key with its value."""
        return f"found {self.key} {self.value}"

    @property
    def identity(self) -> str:
        """What the lookup is across splits."""
        return f"lookup {self.question}"


def filler_sentence(rng: random.Random) -> str:
    """One filler sentence."""
    return (
        f" the {rng.choice(TOY_ADJECTIVES)} {rng.choice(TOY_ANIMALS)} {rng.choice(TOY_VERBS)} by the "
        f"{rng.choice(TOY_ADJECTIVES)} {rng.choice(TOY_PLACES)} ."
    )


def note_text(key: str, value: str) -> str:
    """A note as it stands in a context."""
    return f" note {key} {value} ."


def scattered_notes(
    rng: random.Random, tokens: int, notes: int, at_least: int = 1
) -> tuple[list[str], list[tuple[str, str]], list[int]]:
    """About `tokens` tokens of sentences with `notes` notes among them: the pieces, the notes' (key, value) pairs, and
    their positions among the pieces.

    `at_least` is the fewest filler sentences put between the notes.
    """
    pairs = list(zip(rng.sample(KEYS, notes), rng.sample(VALUES, notes), strict=True))
    fillers = max(at_least, (tokens - notes * TOKENS_PER_NOTE) // TOKENS_PER_SENTENCE)
    positions = sorted(rng.sample(range(fillers + notes), notes))
    pieces = [filler_sentence(rng) for _ in range(fillers + notes)]
    for position, pair in zip(positions, pairs, strict=True):
        pieces[position] = note_text(*pair)
    return pieces, pairs, positions


def random_lookup(rng: random.Random, tokens: int, notes: int = 8) -> Lookup:
    """A lookup of about `tokens` tokens that asks for any of its notes."""
    return context_lookups(rng, tokens, notes)[rng.randrange(notes)]


def context_lookups(rng: random.Random, tokens: int, notes: int = 8) -> list[Lookup]:
    """Every note of one context of about `tokens` tokens, asked for in turn."""
    pieces, pairs, positions = scattered_notes(rng, tokens, notes)
    context, values = "".join(pieces).strip(), tuple(v for _, v in pairs)
    last = max(1, len(pieces) - 1)
    return [
        Lookup(context, key, value, position / last, values)
        for (key, value), position in zip(pairs, positions, strict=True)
    ]


def lookups_at_depths(lookups: list[Lookup], depths: tuple[float, ...]) -> list[Lookup]:
    """For each depth the lookup nearest to it, no one twice."""
    left, chosen = list(lookups), []
    for depth in depths:
        nearest = min(left, key=lambda item: abs(item.depth - depth))
        left.remove(nearest)
        chosen.append(nearest)
    return chosen
