"""Keys that are declared cosmetic decide nothing, however deep they stand."""

from typing import get_origin

import pytest

from apo_soup.config.cosmetic import is_cosmetic, with_cosmetic_of, without_cosmetic
from apo_soup.config.in_words import mappings_inside
from apo_soup.config.keys import has_mark
from apo_soup.config.load import KINDS, file_model, load
from apo_soup.config.pairs import PairsFile
from apo_soup.runs.arguments import deciding_arguments

SIDE = {"model": "m", "base_url": "http://localhost:8000/v1"}
PAIRS = {"output_dir": "run/pairs", "prompts": "rows.jsonl", "mode": "no_think", "strong": SIDE, "weak": SIDE}
EVAL = {
    "output_dir": "run/evals", "engine": "openai", "endpoint": SIDE,
    "tasks": [{"name": "code", "kind": "livecodebench", "release": "release_v4"}],
}  # fmt: skip


def mappings_with_a_cosmetic_key(model, value):
    """For each cosmetic key at any depth its dotted name, and a mapping that holds it with `value`, beside the keys
    that must be given.
    """
    for name, field in model.model_fields.items():
        around = {n: "x" for n, f in model.model_fields.items() if f.is_required() and n != name}
        if has_mark(field, "cosmetic"):
            yield name, around | {name: value}
            continue
        for inside in mappings_inside(field.annotation):
            for below, mapping in mappings_with_a_cosmetic_key(inside, value):
                entry = [mapping] if get_origin(field.annotation) is list else mapping
                yield f"{name}.{below}", around | {name: entry}


@pytest.mark.parametrize("kind", KINDS)
def test_two_values_of_a_cosmetic_key_decide_the_same(kind):
    model, seen = file_model(kind), set()
    pairs = zip(mappings_with_a_cosmetic_key(model, 1), mappings_with_a_cosmetic_key(model, 2), strict=True)
    for (name, first), (_, second) in pairs:
        one, other = model.model_construct(), model.model_construct()
        one._as_given, other._as_given = first, second
        assert first != second
        assert one.deciding_values() == other.deciding_values(), name
        assert one.given_values() == first, "what was given is left as it is"
        assert is_cosmetic(name, model)
        seen.add(name)
    assert "output_dir" in seen
    endpoint = ("api_key_env", "concurrency", "requests_per_minute", "timeout", "retries")
    places = {"pairs": ("strong", "weak", "judge"), "traces": ("strong", "judge"), "eval": ("endpoint", "tasks.judge")}
    assert {name for name in seen if "." in name} == {
        *(f"{place}.{key}" for place in places.get(kind, ()) for key in endpoint),
        *(("tasks.processes",) if kind == "eval" else ()),
    }


@pytest.mark.parametrize(
    ("kind", "file", "words", "kept"),
    [
        ("pairs", PAIRS, ["--strong.concurrency", "8"], []),
        ("pairs", PAIRS, ["--strong.timeout=60", "--strong.api_key_env", "MY_KEY", "--weak.retries", "1"], []),
        ("pairs", PAIRS, ["--strong.seed", "8", "--weak.concurrency", "2"], ["--strong.seed", "8"]),
        ("eval", EVAL, ["--endpoint.concurrency", "8", "--endpoint.retries", "1", "--tasks.0.processes", "2"], []),
        ("eval", EVAL, ["--tasks.0.timeout", "9", "--tasks.0.processes=2"], ["--tasks.0.timeout", "9"]),
        (
            "pairs",
            PAIRS,
            ["--weak", "{model: o, base_url: 'http://localhost:1/v1', concurrency: 8, api_key_env: MY_KEY}"],
            ["--weak", '{"model": "o", "base_url": "http://localhost:1/v1"}'],
        ),
        (
            "eval",
            EVAL,
            ["--tasks.0={name: new, kind: livecodebench, release: release_v5, processes: 2}"],
            ['--tasks.0={"name": "new", "kind": "livecodebench", "release": "release_v5"}'],
        ),
    ],
)
def test_words_for_cosmetic_keys_change_no_fingerprint_and_are_not_remembered(kind, file, words, kept, write_recipe):
    path = write_recipe(f"{kind}.yaml", file)
    recipe = load(path, kind, words)
    assert deciding_arguments(recipe) == kept
    assert recipe.given_values() != load(path, kind).given_values()
    assert recipe.deciding_values() == load(path, kind, kept).deciding_values()
    assert (recipe.deciding_values() == load(path, kind).deciding_values()) == (not kept)


def test_a_cosmetic_key_of_a_soup_member_is_not_remembered(write_recipe):
    values = {"model_name_or_path": "m/m", "output_dir": "o", "dataset_mixture": {"datasets": [{"id": "a/b"}]}}
    path = write_recipe("apo.yaml", values | {"members": [{"seed": 1}]})
    words = ["--members.0.logging_steps", "7", "--members.0.beta", "0.4"]
    assert deciding_arguments(load(path, "apo", words)) == ["--members.0.beta", "0.4"]


def test_a_key_is_cosmetic_in_the_mapping_that_declares_it_alone():
    assert not is_cosmetic("tasks.0.timeout", file_model("eval"))
    assert not is_cosmetic("judge", PairsFile)
    assert not is_cosmetic("strong.extra_body.timeout", PairsFile)
    table = {"strong": {**SIDE, "extra_body": {"timeout": 3}}}
    assert without_cosmetic(table, PairsFile) == table


def test_cosmetic_keys_are_laid_where_their_mapping_stands():
    judged = {"judge": SIDE | {"retries": 3}, "strong": SIDE | {"timeout": 5.0, "seed": 1}, "output_dir": "o"}
    now = {"strong": SIDE | {"seed": 2}}
    assert with_cosmetic_of(now, judged, PairsFile) == {
        "strong": SIDE | {"seed": 2, "timeout": 5.0}, "output_dir": "o",
    }  # fmt: skip
    assert with_cosmetic_of({"strong": "m"}, judged, PairsFile) == {"strong": "m", "output_dir": "o"}
