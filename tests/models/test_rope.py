"""The positions of two configurations, whichever way they are written."""

import pytest

from apo_soup.models.rope import rope_difference

YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ({}, {"rope_theta": 1e4}, None),
        ({"rope_theta": 1e4}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, None),
        ({"rope_theta": 1e4}, {"rope_theta": 5e5}, ("rope_theta", 1e4, 5e5)),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4.0}}, {"rope_parameters": YARN}, None),
        ({"rope_theta": 1e4}, {"rope_parameters": YARN}, ("rope_type", "default", "yarn")),
        ({"rope_parameters": {**YARN, "factor": 2.0}}, {"rope_parameters": YARN}, ("factor", 2.0, 4.0)),
        ({"rope_parameters": {"full": {"factor": 1}}}, {"rope_parameters": {"full": {"factor": 2}}},
         ("full.factor", 1, 2)),
        ({"rope_parameters": {"full": {"rope_theta": 1e4}}}, {"rope_parameters": {"full": YARN}},
         ("full.rope_type", "default", "yarn")),
    ],
)  # fmt: skip
def test_scaling_counts_even_where_one_model_does_not_name_it(one, other, difference):
    assert rope_difference(one, other) == difference
