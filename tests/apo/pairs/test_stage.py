"""What makes a folder of pairs stale."""

import pytest

from apo.pairs.stage import asking_stage
from apo_soup.config.judges import DEFAULT_TEMPLATE
from apo_soup.config.load import load
from apo_soup.hashing import hash_value

pytest.importorskip("openai", reason="the openai package is not installed")


def test_what_a_judge_is_asked_decides_also_where_it_is_our_own_text(endpoint_recipe):
    address = "http://127.0.0.1:9/v1"
    judge = {"engine": "openai", "model": "judge", "base_url": address}
    path, _ = endpoint_recipe(address, judge=judge)
    own = asking_stage(load(path, "pairs")).inputs
    assert own["judge template"] == hash_value(DEFAULT_TEMPLATE)
    path, _ = endpoint_recipe(address, judge=judge | {"template": "{question} {answer}"})
    assert asking_stage(load(path, "pairs")).inputs["judge template"] == hash_value("{question} {answer}")
    path, _ = endpoint_recipe(address)
    assert "judge template" not in asking_stage(load(path, "pairs")).inputs
