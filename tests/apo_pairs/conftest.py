"""Pairs files of random models, and what is made of them in this process."""

import pytest


@pytest.fixture
def pairs_recipe(talking_model, write_rows, write_recipe, tmp_path):
    """A pairs file whose two sides are a random model that likes to end; it makes no sense and ends by itself."""

    def make(count=24, name="pairs", **changes):
        rows = [{"prompt": f"Say {n} of {n * n}"} for n in range(count)]
        values = {
            "output_dir": str(tmp_path / name / "pairs"),
            "prompts": str(write_rows("prompts.jsonl", rows)),
            "mode": "no_think",
            "strong": {"model": str(talking_model), "temperature": 0.7},
            "weak": {"model": str(talking_model), "temperature": 1.2},
            "candidates": 2,
            "max_new_tokens": 24,
            "batch_size": 12,
            "seed": 5,
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "pairs"

    return make


@pytest.fixture
def make_here():
    """Make the pairs of a file in this process, which saves the seconds that imports take."""

    def make(path, *words):
        from apo.pairs.make import make_pairs
        from apo.pairs.stage import pairs_stage
        from apo_soup.config.load import load

        recipe = load(path, "pairs", list(words))
        make_pairs(recipe, pairs_stage(recipe))

    return make
