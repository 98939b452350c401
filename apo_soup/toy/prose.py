"""Plain text the base model learned from: echoes, notes and questions, digit sums, filler, a little ChatML.

A document is a list of (text, known) pieces; only known pieces, those a reader could have foreseen, carry loss. Random
words would drown the faint signal from which retrieval emerges: with loss on everything a model of this size was still
at chance after millions of tokens. Echoes (a random word list repeated) teach the step before it, to find where a
word stood and copy what followed. No trace and no two-digit sum occurs here.
"""

import random

from apo_soup.toy import lookup, talk
from apo_soup.toy.words import KEYS, VALUES

Pieces = list[tuple[str, bool]]


def echo_document(rng: random.Random, longest: int) -> Pieces:
    """A list of 2 to `longest` random words, then the same list again one to three times."""
    period = rng.randint(2, longest)
    words = "".join(f" {word}" for word in rng.sample(KEYS + VALUES, period))
    return [(words, False), *[(words, True)] * (rng.randint(2, 3) if period < 6 else 1)]


def notes_document(rng: random.Random, tokens: int, most: int = 24, filler: bool = True) -> Pieces:
    """Notes among filler with questions strewn in, and more questions at the end."""
    notes = rng.randint(2, max(2, min(most, tokens // 18)))
    questions = rng.randint(notes, 2 * notes)
    body = max(16, tokens - 9 * questions) if filler else 0
    sentences, pairs, positions = lookup.scattered_notes(rng, body, notes, at_least=int(filler))
    pieces: list[Pieces] = [[(text, False)] for text in sentences]
    for position, pair in zip(positions, pairs, strict=True):
        if rng.random() < 0.3:
            pieces[rng.randrange(position, len(pieces))] += question_pieces(*pair)
    return [piece for part in pieces for piece in part] + [
        piece for pair in rng.choices(pairs, k=questions) for piece in question_pieces(*pair)
    ]


def question_pieces(key: str, value: str) -> Pieces:
    """A question for a key, and its answer."""
    return [(f"\nfind {key} ?", False), (f"\nfound {key} {value} .", True)]


def sums_document(rng: random.Random, lines: int) -> Pieces:
    """One-digit sums and differences, two or three terms, as the steps of a trace need them."""
    pieces: Pieces = []
    for _ in range(lines):
        shape = rng.randrange(3)
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        if shape == 0:
            asked, result = f"\n{a} + {b} =", a + b
        elif shape == 1:
            carry = rng.randint(0, 1)
            asked, result = f"\n{a} + {b} + {carry} =", a + b + carry
        else:
            start = rng.randint(0, 19)
            step = rng.choice([s for s in range(-9, 10) if s and 0 <= start + s <= 19])
            asked, result = f"\n{start} {'+' if step > 0 else '-'} {abs(step)} =", start + step
        pieces += [(asked, False), (f" {result}", True)]
    return pieces


def filler_document(rng: random.Random, sentences: int) -> Pieces:
    """Filler sentences, all of them trained."""
    return [(lookup.filler_sentence(rng), True) for _ in range(sentences)]


def chat_messages(rng: random.Random, tokens: int, kind: float = 0.5, turns: int = 1) -> list[dict[str, str]]:
    """Short exchanges, or a lookup in chat form: what instruction data in a pretraining mixture looks like.

    Args:
        kind: the share of replies that are kind; the others are curt.
        turns: exchanges of one conversation, at most.
    """
    if rng.random() < 0.3:
        messages = []
        for _ in range(rng.randint(1, turns) if turns > 1 else 1):
            exchange = talk.random_talk(rng)
            reply = exchange.kind if rng.random() < kind else exchange.curt
            messages += [{"role": "user", "content": exchange.user}, {"role": "assistant", "content": reply}]
        return messages
    item = lookup.random_lookup(rng, tokens, notes=min(8, max(1, tokens // 16)))
    return [{"role": "user", "content": item.question}, {"role": "assistant", "content": item.answer}]
