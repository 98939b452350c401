"""Sides of a pairs file: what they take from the file, their seeds, and what names their journals."""

import pytest

from apo.pairs.ask import journal_file
from apo.pairs.side import asked_side
from apo_soup.config.load import load
from apo_soup.runs.stage import Stage


@pytest.fixture
def side(write_recipe):
    def make(name, **changes):
        values = {
            "output_dir": "pairs",
            "prompts": "prompts.jsonl",
            "mode": "no_think",
            "strong": {"model": "m", "temperature": 0.7},
            "weak": {"model": "m", "temperature": 1.2},
            "candidates": 2,
        }
        return asked_side(load(write_recipe("pairs.yaml", values | changes), "pairs"), name)

    return make


def test_a_side_takes_from_the_file_what_it_leaves_out(side):
    strong = side("strong", top_p=0.9, batch_size=12, seed=5, max_new_tokens=24)
    sampling = strong.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens, sampling.seed) == (0.7, 0.9, 24, 5)
    assert (strong.candidates, strong.batch_size) == (2, 12)
    weak = side("weak", weak={"model": "m", "base_url": "http://x/v1", "top_p": 0.8, "candidates": 3})
    assert (weak.sampling.top_p, weak.candidates) == (0.8, 3)


def test_seeds_are_of_31_bits_and_of_the_side_and_the_request(side):
    strong, weak = (side(name) for name in ("strong", "weak"))
    seeds = [strong.request_seed("p", 0), strong.request_seed("p", 1), weak.request_seed("p", 0)]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert strong.request_seed("p", 0) == seeds[0]


def test_a_journal_is_named_by_what_decides_an_answer_alone(side, tmp_path):
    stage = Stage("pairs", tmp_path / "pairs", {}, {"strong": "m at http://x/v1", "weak": ""})

    def name(**changes):
        keys = {"model": "m", "base_url": "http://x/v1", **changes}
        return journal_file(side("strong", strong=keys), [], stage).name

    usual = name()
    assert usual == name(concurrency=2, timeout=9.0, retries=0, requests_per_minute=5, api_key_env="KEY")
    assert usual == name(temperature=0.6, candidates=2), "what the file says already"
    others = [name(temperature=0.7), name(candidates=3), name(send_template_kwargs=False), name(extra_body={"a": 1})]
    assert len({usual, *others}) == 5
