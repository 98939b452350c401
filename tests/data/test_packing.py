"""Nothing is lost or invented, order kept, no bin over length; packed logits equal unpacked ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.packing import best_fit_decreasing, packed_sequences, position_ids, wrapped

LENGTHS = st.lists(st.integers(1, 64), max_size=80)


@given(LENGTHS, st.integers(64, 200))
def test_bfd_places_every_document_once_and_fills_no_bin_over(lengths, capacity):
    bins = best_fit_decreasing(lengths, capacity)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in chosen) <= capacity for chosen in bins)


@given(LENGTHS)
def test_bfd_is_best_fit(lengths):
    """Against the textbook rule, written as a plain search: longest first, into the fullest bin that takes it."""
    capacity, space = 100, []
    for length in sorted(lengths, reverse=True):
        fitting = [s for s in space if s >= length]
        if fitting:
            space.remove(min(fitting))
            space.append(min(fitting) - length)
        else:
            space.append(capacity - length)
    bins = best_fit_decreasing(lengths, capacity)
    assert sorted(capacity - sum(lengths[i] for i in b) for b in bins) == sorted(space)


def test_bfd_refuses_a_document_longer_than_a_bin():
    with pytest.raises(ValueError, match="expected documents of at most 8 tokens, got 9 in document 1"):
        best_fit_decreasing([3, 9], 8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 16, 32]))
@settings(max_examples=10)
def test_bfd_fills_99_percent_when_rows_hold_eight_mean_documents_or_more(seed, ratio):
    lengths = np.random.default_rng(seed).exponential(100, 20_000).astype(int).clip(1, 800).tolist()
    capacity = ratio * round(sum(lengths) / len(lengths))
    bins = best_fit_decreasing(lengths, max(capacity, 800))
    assert sum(lengths) / (len(bins) * max(capacity, 800)) >= 0.99


@given(LENGTHS, st.integers(1, 50))
def test_wrapped_keeps_every_token_in_order(lengths, capacity):
    sequences = wrapped(lengths, capacity)
    pieces = [piece for sequence in sequences for piece in sequence]
    tokens = [(d, t) for d, start, end in pieces for t in range(start, end)]
    assert tokens == [(d, t) for d, length in enumerate(lengths) for t in range(length)]
    sizes = [sum(end - start for _, start, end in s) for s in sequences]
    assert all(size == capacity for size in sizes[:-1])
    assert all(0 < size <= capacity for size in sizes[-1:])


def test_position_ids_begin_again_at_each_document():
    assert position_ids([3, 1, 2]).tolist() == [0, 1, 2, 0, 0, 1]


@settings(max_examples=60)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=20), st.sampled_from(["bfd", "wrapped", None]))
def test_sequences_hold_every_token_of_every_document_once_and_in_order(lengths, strategy):
    capacity = 17 if strategy == "wrapped" else 60
    sequences = packed_sequences(lengths, capacity, strategy)
    places = [(d, p) for pieces in sequences for d, start, end in pieces for p in range(start, end)]
    assert sorted(places) == [(d, p) for d, length in enumerate(lengths) for p in range(length)]
    for pieces in sequences:
        assert 0 < sum(end - start for _, start, end in pieces) <= capacity
        assert all(start < end for _, start, end in pieces)


def test_packed_logits_equal_unpacked_logits(tiny_model):
    from transformers import AutoModelForCausalLM

    from sft.packed_batch import PackedCollator

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    documents = [torch.randint(5, 500, (n,), generator=generator).tolist() for n in (7, 12, 5, 9)]
    columns = ((documents[0] + documents[1], [1, 7, 8, 19], [7, 12]), (documents[2] + documents[3], [], [5, 9]))
    names = ("input_ids", "trained_ranges", "seq_lengths")
    rows = [dict(zip(names, map(np.array, of_row), strict=True)) for of_row in columns]
    batch = PackedCollator(0)(rows)
    with torch.no_grad():
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        alone = [model(input_ids=torch.tensor([d]), use_cache=False).logits[0] for d in documents]
    for row, start, expected in ((0, 0, alone[0]), (0, 7, alone[1]), (1, 0, alone[2]), (1, 5, alone[3])):
        torch.testing.assert_close(packed[row, start : start + len(expected)], expected, atol=2e-5, rtol=1e-5)
