"""What a training is told of its rows: those of the training split, with their copies."""

from data_helpers import ROWS, prepared

from apo_soup.data.trained_counts import trained_counts


def test_rows_held_out_are_not_counted_and_copies_are(training_recipe):
    path = training_recipe(ROWS)
    words = ["--dataset_mixture.datasets.0.weight=2", "--dataset_mixture.test_split_size=10"]
    folder, splits, stats = prepared(path, *words)
    held_out = stats["held_out"]["rows"]
    assert stats["total"]["copies"] > 0
    assert held_out >= 1
    documents = sum(len(lengths) for lengths in splits["train"]["seq_lengths"])
    tokens = sum(len(ids) for ids in splits["train"]["input_ids"])
    counts = trained_counts(folder)
    assert counts["rows"] == 2 * (stats["total"]["kept"] - held_out) == documents
    assert counts["tokens"] == tokens
    assert 0 < counts["trained"] < tokens


def test_pairs_held_out_are_not_counted(training_recipe):
    rows = [{"prompt": f"Q{n}?", "chosen": f"Yes {n}", "rejected": "No"} for n in range(20)]
    path = training_recipe(rows, name="apo")
    folder, splits, _ = prepared(path, "--dataset_mixture.test_split_size=5")
    pairs = splits["train"]
    sides = [sum(len(ids) for ids in pairs[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")]
    assert trained_counts(folder) == {"rows": len(pairs), "tokens": sum(sides), "trained": sum(sides[1:])}
    assert len(pairs) == 15
