"""Batches of packed documents, padded or flat, from the arrays of a prepared split."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from apo_soup.data.documents import SEQUENCE_COLUMNS
from apo_soup.data.trained_ranges import labels_of
from apo_soup.data.writer import write_split
from sft.packed_batch import PackedCollator

# Documents of a row: how long each is, and where its trained range begins.
ROW = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def arrays(documents, seed=0):
    """A row of documents that are trained to their ends."""
    lengths = np.array([length for length, _ in documents], dtype=np.int32)
    starts = lengths.cumsum() - lengths
    ranges = [
        place
        for start, (n, first) in zip(starts, documents, strict=True)
        if first < n
        for place in (start + first, start + n)
    ]
    ids = np.random.default_rng(seed).integers(5, 99, lengths.sum()).astype(np.int32)
    return dict(zip(SEQUENCE_COLUMNS, (ids, np.array(ranges, dtype=np.int32), lengths), strict=True))


def for_trl(row):
    """A row as TRL's collator takes it."""
    labels = labels_of(row["input_ids"], row["trained_ranges"])
    return {
        "input_ids": row["input_ids"].tolist(),
        "labels": labels.tolist(),
        "seq_lengths": row["seq_lengths"].tolist(),
    }


@settings(max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_a_flat_batch_is_that_of_trl(rows):
    rows = [arrays(documents, seed) for seed, documents in enumerate(rows)]
    ours = PackedCollator(0, flat=True)(rows)
    theirs = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([for_trl(row) for row in rows])
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert (ours[name].dtype, ours[name].shape) == (value.dtype, value.shape), name
            assert torch.equal(ours[name], value), name
        else:
            assert ours[name] == value, name


@settings(max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_a_padded_batch_has_every_row_and_a_document_of_padding(rows):
    rows = [arrays(documents, seed) for seed, documents in enumerate(rows)]
    batch = PackedCollator(3)(rows)
    width = max(len(row["input_ids"]) for row in rows)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in batch.items()} == dict.fromkeys(
        ("input_ids", "labels", "position_ids"), (torch.int64, (len(rows), width))
    )
    for number, row in enumerate(rows):
        free = width - len(row["input_ids"])
        positions = [place for length in (*row["seq_lengths"], free) for place in range(length)]
        assert batch["input_ids"][number].tolist() == row["input_ids"].tolist() + [3] * free
        assert batch["labels"][number].tolist() == for_trl(row)["labels"] + [-100] * free
        assert batch["position_ids"][number].tolist() == positions


@pytest.mark.parametrize("flat", [False, True])
def test_rows_of_a_split_come_as_arrays_of_its_own_type(tmp_path, flat):
    rows = [arrays([(5, 2), (3, 3)]), arrays([(8, 1)]), arrays([(1, 1)])]
    write_split(tmp_path / "train", SEQUENCE_COLUMNS, (tuple(row.values()) for row in rows))
    read = load_from_disk(str(tmp_path / "train")).with_format("numpy", dtype=np.int32)
    found = read.__getitems__([0, 1, 2])  # as a DataLoader asks
    assert all(isinstance(value, np.ndarray) and value.dtype == np.int32 for row in found for value in row.values())
    expected = PackedCollator(0, flat)(rows)
    assert {name: str(value) for name, value in PackedCollator(0, flat)(found).items()} == {
        name: str(value) for name, value in expected.items()
    }


def attention_by_boundaries(module, query, key, value, attention_mask, scaling, cu_seq_lens_q, **others):
    """What FlashAttention computes of a flat row: every document alone, as the boundaries have it, and no mask."""
    assert attention_mask is None
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = [
        scaled_dot_product_attention(
            query[..., a:b, :], key[..., a:b, :], value[..., a:b, :], is_causal=True, scale=scaling
        )
        for a, b in pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def test_a_flat_batch_has_the_logits_of_a_padded_one(tiny_model, monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "by_boundaries", attention_by_boundaries)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "by_boundaries", flash_attention_mask)
    rows = [arrays([(7, 2), (9, 3)]), arrays([(5, 1), (1, 1), (6, 2)], 1), arrays([(4, 2)], 2)]
    logits, losses = [], []
    for flat, attention in ((False, "sdpa"), (True, "by_boundaries")):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation=attention)
        with torch.no_grad():
            out = model.eval()(**PackedCollator(0, flat)(rows), use_cache=False)
        logits.append(out.logits)
        losses.append(out.loss)
    padded = [of_row[: len(row["input_ids"])] for of_row, row in zip(logits[0], rows, strict=True)]
    torch.testing.assert_close(logits[1][0], torch.cat(padded), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(*losses)
