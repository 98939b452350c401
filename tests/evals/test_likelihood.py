"""Tasks that read probabilities."""

from apo_soup.evals.likelihood import position_bucket_ends


def test_buckets_of_positions_end_at_powers_of_two_and_at_the_window():
    assert position_bucket_ends(1536) == [64, 128, 256, 512, 1024, 1536]
    assert position_bucket_ends(64) == [64]
    assert position_bucket_ends(48) == [48]
