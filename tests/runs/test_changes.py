"""What changed in a configuration: the key inside a mapping, the entry of a list, and long texts told apart."""

import pytest

from apo_soup.runs.changes import mapping_changes

SOURCES = [{"id": f"{name}.jsonl", "weight": 1.0} for name in "abc"]


def mixture(*sources: dict, **keys: object) -> dict:
    return {"dataset_mixture": {"datasets": list(sources), **keys}}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (
            mixture(*SOURCES[:2], {"id": "c.jsonl", "weight": 0.5}, seed=3),
            ["datasets.2.weight was 1.0 and is 0.5", "seed was not given and is 3"],
        ),
        (mixture(SOURCES[0], {"id": "x.jsonl"}, *SOURCES[1:]), ["datasets.1 (x.jsonl) is new"]),
        (mixture(SOURCES[0], SOURCES[2]), ["datasets.1 (b.jsonl) is gone"]),
        (mixture(SOURCES[1], SOURCES[0], SOURCES[2]), ["datasets has another order"]),
        (
            mixture(SOURCES[0], {"id": "c.jsonl", "columns": ["q"]}),
            [
                "datasets.1 (b.jsonl) is gone",
                'datasets.1.columns was not given and is ["q"]',
                "datasets.1.weight was 1.0 and is not given",
            ],
        ),
        (mixture(*SOURCES[:2], {"id": "d.jsonl", "weight": 1.0}), ['datasets.2.id was "c.jsonl" and is "d.jsonl"']),
    ],
)
def test_a_change_inside_a_key_is_told_by_its_place(now, told):
    assert mapping_changes(mixture(*SOURCES), now) == [f"dataset_mixture.{one}" for one in told]


def test_entries_without_a_name_are_told_by_their_place():
    assert mapping_changes({"a": [1, 2, 3]}, {"a": [1, 4, 3]}) == ["a.1 was 2 and is 4"]
    assert mapping_changes({"a": ["q", "v"]}, {"a": ["q", "k", "v"]}) == ['a.1 ("k") is new']
    assert mapping_changes({"a": 1, "b": None}, {"a": 1.0}) == ["a was 1 and is 1.0", "b was null and is not given"]
    assert mapping_changes({"a": [1]}, {"a": {"b": 1}}) == ['a was [1] and is {"b": 1}']


def test_long_texts_are_cut_where_they_differ():
    long = "x" * 200
    (told,) = mapping_changes({"t": f"{long}one{long}"}, {"t": f"{long}two{long}"})
    assert told == f"t was ...{'x' * 20}one{'x' * 34}... and is ...{'x' * 20}two{'x' * 34}..."
    (told,) = mapping_changes({"t": long}, {"t": long + "!"})
    assert told.endswith('!"')


def test_many_changes_of_a_key_are_counted():
    told = mapping_changes({"a": {f"k{n}": 0 for n in range(9)}}, {"a": {f"k{n}": 1 for n in range(9)}})
    assert told[5:] == ["a.k5 was 0 and is 1", "3 more changes of a"]
