"""What is told of the sources of a mixture."""

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError

FILE = {"model_name_or_path": "m/m", "output_dir": "o"}


def notes(write_recipe, kind, **keys):
    return [note.partition(": ")[2] for note in load(write_recipe(f"{kind}.yaml", keys), kind).notes]


def of_sources(write_recipe, *sources):
    return notes(write_recipe, "sft", **FILE, dataset_mixture={"datasets": list(sources)})


def test_what_only_a_dataset_of_the_hub_has_is_told_of_a_file(write_recipe, tmp_path):
    """In every file that names rows, and whether or not they are there."""
    told = "split, revision belong to Hub datasets and are not used for a local file"
    keys = {"split": "test", "revision": "v1"}
    assert of_sources(write_recipe, {"id": "a.jsonl", **keys}) == [f"dataset_mixture.datasets.0.id: {told}"]
    assert of_sources(write_recipe, {"id": "owner/name", **keys}) == []
    asking = {"output_dir": "o", "mode": "think", "strong": {"model": "m"}, "prompts": [{"id": "a.csv.gz", **keys}]}
    assert notes(write_recipe, "traces", **asking) == [f"prompts.0.id: {told}"]


def test_a_slice_of_a_file_is_refused(write_recipe):
    """Which all of the file would be trained in place of."""
    told = r"datasets\.0\.split: expected no slice of a local file, all of which is read, got 'train\[:10%\]'; write th"
    with pytest.raises(UserError, match=told):
        of_sources(write_recipe, {"id": "a.jsonl", "split": "train[:10%]"})
    assert of_sources(write_recipe, {"id": "owner/name", "split": "train[:10%]"}) == []


def test_rows_that_are_named_again_are_told(write_recipe):
    again = "the rows of datasets.0 are taken again; where that is meant, its weight can say so"
    one, other = {"id": "owner/a"}, {"id": "owner/b"}
    assert of_sources(write_recipe, one, other, one | {"weight": 0.5}) == [f"dataset_mixture.datasets.2: {again}"]
    many = "each row is taken 50 times; a part of the rows is a weight below 1, such as 0.5"
    assert of_sources(write_recipe, other, one | {"weight": 50}) == [f"dataset_mixture.datasets.1.weight: {many}"]
    assert of_sources(write_recipe, one, one | {"split": "test"}, one | {"chat_template_kwargs": {"x": 1}}) == []
