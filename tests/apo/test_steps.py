"""Pairs of a step on ranks, in micro-batches and rows."""

import random
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from apo.steps import micro_batches, pairs_to_ranks, pairs_to_rows, step_rows


@given(
    st.lists(st.integers(3, 90), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 5), st.integers(30, 100)
)
def test_a_step_holds_every_pair_once_on_every_rank_alike(lengths, ranks, count, capacity):
    pairs = list(range(len(lengths)))
    rows = step_rows(pairs, lengths, capacity, ranks)
    by_rank = [micro_batches(of_rank, len(pairs), count) for of_rank in rows]
    placed = sorted(p for micros in by_rank for micro in micros for row in micro.rows for p in row)
    assert placed == pairs
    for micros in zip(*by_rank, strict=True):
        assert len({len(m.rows) for m in micros}) == 1, "as many passes on every rank"
        assert all(m.total == len(pairs) for m in micros)
    assert all(micros[-1].rows for micros in by_rank)
    for micro in chain(*by_rank):
        for row in micro.rows:
            assert len(row) <= 1 or sum(min(lengths[p], capacity) for p in row) <= capacity


def test_pairs_are_balanced_over_ranks_by_positions():
    lengths = [random.Random(n).randrange(10, 1000) for n in range(64)]
    loads = [sum(lengths[p] for p in share) for share in pairs_to_ranks(lengths, 4)]
    assert max(loads) - min(loads) < 0.02 * sum(loads)
    assert pairs_to_rows([5, 200, 6], 100) == [[1], [0, 2]]
