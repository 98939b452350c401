"""Rows that processes share: hidden states, log-probabilities and gradients are those of the whole rows."""

from helpers import ROOT
from programs import succeeded, two_ranks


def test_two_processes_compute_of_a_row_what_one_does():
    """Documents and pairs, rows of odd length, a part without a scored place, masks and torch's own kernels."""
    succeeded(two_ranks(ROOT / "tests" / "two_shared_rows.py").wait())
