"""Files as text: the keys that were given, each below what it means."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.config.eval import EvalFile
from apo_soup.config.load import file_model
from apo_soup.config.recipe_file import RecipeFile
from apo_soup.scaffold.commented import LINE_WIDTH, commented_yaml, meaning

PARTS = (
    {"model_name_or_path": "base", "learning_rate": 5e-6, "bf16": False},
    {
        "dataset_mixture": {
            "datasets": [
                {"id": "no", "mode": "by_row"},
                {"id": "b: c", "chat_template_kwargs": {"enable_thinking": False}},
            ]
        }
    },
    {"members": [{"seed": 1}, {"seed": 2}], "lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "loss_type": []},
)


def test_what_is_written_is_read_back():
    text = commented_yaml(file_model("apo"), PARTS)
    assert yaml.safe_load(text) == PARTS[0] | PARTS[1] | PARTS[2] | {"learning_rate": 5e-6}
    assert text.count("\n\n") == 2


def test_every_declared_key_stands_below_its_meaning_once():
    lines = commented_yaml(file_model("apo"), PARTS).splitlines()
    keys = [n for n, line in enumerate(lines) if line and not line.lstrip().startswith(("#", "- seed"))]
    untold = [lines[n] for n in keys if not lines[n - 1].lstrip().startswith("#")]
    assert untold == ["    - id: 'b: c'"], "its meaning stands at the first source"
    assert sum("an id of the Hub" in line and "JSONL" in line for line in lines) == 1


def test_a_task_is_told_by_its_kind():
    tasks = [{"name": "a", "kind": "context_loss", "data": "x.jsonl", "length": 64}]
    text = commented_yaml(EvalFile, ({"tasks": tasks},))
    assert "    # tokens of a window\n    length: 64" in text


def test_meanings_take_one_line():
    for kind in ("sft", "apo", "merge", "eval", "pairs"):
        model = file_model(kind)
        told = [meaning(model, name) for name in model.model_fields]
        assert all(line is None or (line and len(line) <= LINE_WIDTH and "\n" not in line) for line in told)


@settings(max_examples=20)
@given(st.lists(st.floats(allow_nan=False), min_size=50, max_size=50))
def test_a_number_is_read_back_as_it_was(numbers):
    keys = {f"rate_{place}": number for place, number in enumerate(numbers)}
    read = yaml.safe_load(commented_yaml(RecipeFile, (keys,)))
    assert read == keys
    assert all(isinstance(one, float) for one in read.values())


def test_a_small_number_keeps_its_digits():
    assert commented_yaml(RecipeFile, ({"rate": 1.25e-5},)) == "rate: 1.25e-5\n"
