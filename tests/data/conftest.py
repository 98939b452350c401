"""Recipes and templates for the tests of `apo_soup.data`."""

import pytest

from apo_soup.data.rendering.trained_spans import Renderer


@pytest.fixture
def training_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe for `apo-soup prepare` over the given rows; keyword arguments override its keys."""

    def write(rows=None, mixture=None, name="sft", **changes):
        sources = {"datasets": [{"id": str(write_rows("rows.jsonl", rows))}]} if rows is not None else {}
        values = {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / "run" / name),
            "dataset_mixture": {**sources, **(mixture or {})},
            "max_length": 128,
        }
        if name == "sft":
            values |= {"assistant_only_loss": True, "packing": True}
        return write_recipe(f"{name}.yaml", values | changes)

    return write


@pytest.fixture
def use(tokenizer):
    """Put a template on the shared tokenizer for one test; gives its renderer."""
    original = tokenizer.chat_template

    def put(template):
        tokenizer.chat_template = template or original
        return Renderer(tokenizer)

    yield put
    tokenizer.chat_template = original
