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
        from apo.pairs.stage import asking_stage
        from apo_soup.config.load import load

        recipe = load(path, "pairs", list(words))
        make_pairs(recipe, asking_stage(recipe))

    return make


@pytest.fixture
def endpoint_recipe(talking_model, write_rows, write_recipe, tmp_path):
    """A pairs file whose two sides are asked at a URL; keyword arguments override its keys."""

    def make(url, count=12, side=None, **changes):
        rows = [{"prompt": f"Say {n} of {n * n}"} for n in range(count)]
        both = {"model": str(talking_model), "base_url": url, "concurrency": 4, "timeout": 30.0, **(side or {})}
        values = {
            "output_dir": str(tmp_path / "run" / "pairs"),
            "prompts": str(write_rows("prompts.jsonl", rows)),
            "mode": "no_think",
            "strong": {**both, "temperature": 0.7},
            "weak": {**both, "temperature": 1.2},
            "max_new_tokens": 24,
        }
        return write_recipe("pairs.yaml", values | changes), tmp_path / "run" / "pairs"

    return make
