"""Values of a training file that mean nothing are refused with key, expectation and finding."""

import pytest
from data_helpers import ROWS, prepared

from apo_soup.errors import UserError


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--max_length", "-5"), "max_length: expected a whole number of 1 or more, got -5"),
        (("--dataset_num_proc", "0"), "dataset_num_proc: expected a whole number of 1 or more, got 0"),
        (("--dataset_mixture.datasets.0.weight", ".inf"), "weight: expected a number above 0, got inf"),
        (("--dataset_mixture.datasets.0.weight", ".nan"), "weight: expected a number above 0, got nan"),
        (
            ("--dataset_mixture.decontaminate_ngram", "0"),
            "decontaminate_ngram: expected a whole number of 2 or more, got 0",
        ),
        (("--dataset_mixture.deduplicate", "fuzzy"), "deduplicate: expected one of exact, near, got 'fuzzy'"),
        (("--overflow", "cut"), "overflow: expected one of truncate, drop, split, got 'cut'"),
        (("--packing_strategy", "wrapped", "--overflow", "drop"), "no such key with packing_strategy: wrapped"),
        (("--dataset_mixture.datasets.0.id", "."), "expected a data file, got the folder"),
        (
            ("--dataset_mixture.deduplicate_threshold", "0.05"),
            r"expected a number of 0\.3 or more and below 1, got 0\.05",
        ),
        (("--max_reject_share", "-1"), "max_reject_share: expected a number between 0 and 1, got -1"),
        (("--dataset_mixture.datasets.0.rename", "[messages]"), "rename: expected a mapping"),
        (("--dataset_mixture.datasets.0.columns", "{messages: 3}"), "columns: expected a list of text"),
        (("--chat_template_kwargs.enable_thinking", "'false'"), "expected true or false without quotes, got 'false'"),
        (
            ("--dataset_mixture.datasets.0.chat_template_kwargs", "{enable_thinking: null}"),
            r"datasets\.0\.chat_template_kwargs\.enable_thinking: expected true or false without quotes, got none",
        ),
        (("--chat_template_kwargs", "{1: a, b: c}"), r"chat_template_kwargs\.1: expected text as the key, got 1"),
    ],
)
def test_values_that_mean_nothing_are_refused(training_recipe, words, reason):
    with pytest.raises(UserError, match=reason):
        prepared(training_recipe(ROWS[:5]), *words)
