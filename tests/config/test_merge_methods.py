"""mergekit's methods and keys as this project holds merge files to them, against the installed release."""

import pytest

from apo_soup.config import merge_methods
from apo_soup.config.merge_methods import (
    METHODS,
    MergeMethod,
    filters,
    merge_faults,
    unused_by_base,
    unused_parameters,
    with_numbers,
)

PAIR = [{"model": "soup", "parameters": {"weight": 0.9}}, {"model": "mid", "parameters": {"weight": 0.1}}]


def test_methods_and_keys_are_those_of_the_installed_mergekit():
    from mergekit.config import (
        InputModelDefinition,
        InputSliceDefinition,
        MergeConfiguration,
        OutputModuleDefinition,
        OutputSliceDefinition,
    )
    from mergekit.merge_methods.registry import registered_methods
    from mergekit.tokenizer.config import TokenizerConfig

    specs = [method.spec for method in registered_methods()]
    known = {
        s.name: MergeMethod(
            frozenset(p.name for p in s.parameters),
            s.contract.base.value == "required",
            next((p.name for p in s.parameters if p.required), None),
            s.contract.min_inputs,
            s.contract.max_inputs,
            frozenset(p.name for p in s.parameters if p.scope.value != "shared"),
        )
        for s in specs
    }
    assert known == METHODS
    for names, model in (
        ("MERGE_KEYS", MergeConfiguration),
        ("SLICE_KEYS", OutputSliceDefinition),
        ("SLICE_SOURCE_KEYS", InputSliceDefinition),
        ("MODEL_ENTRY_KEYS", InputModelDefinition),
        ("MODULE_KEYS", OutputModuleDefinition),
        ("TOKENIZER_KEYS", TokenizerConfig),
    ):
        assert list(getattr(merge_methods, names)) == sorted(model.model_fields)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"merge_method": "linear", "models": PAIR}, []),
        (
            {"merge_method": "slrp", "models": PAIR},
            [("merge_method", "expected a method of mergekit's, got slrp; the nearest is slerp")],
        ),
        (
            {"merge_method": "ties", "models": PAIR},
            [("base_model", "expected the model that ties starts from, got none; add base_model")],
        ),
        (
            {"merge_method": "linear", "models": [PAIR[0], {"model": "mid"}]},
            [("models.1", "expected a weight for every model, got none for 'mid'; write it below its parameters")],
        ),
        ({"merge_method": "linear", "models": [{"model": "mid"}], "parameters": {"weight": 1.0}}, []),
        (
            {"merge_method": "linear", "models": PAIR, "base_model": "base"},
            [("base_model", "expected a model of the list, since linear has no base of its own, got 'base'; leave it "
                            "out, or list the model with its weight")],
        ),
        ({"merge_method": "task_arithmetic", "models": [PAIR[0], {"model": "mid"}], "base_model": "mid"}, []),
        (
            {"merge_method": "slerp", "models": PAIR, "base_model": "base"},
            [
                ("models", "expected 2 for slerp, the base model among them, got 3; change the list, or the method"),
                ("parameters", "expected t, which slerp needs, got none; write it below parameters of the merge"),
            ],
        ),
        ({"merge_method": "slerp", "models": PAIR, "base_model": "mid", "parameters": {"t": 0.5}}, []),
        (
            {"merge_method": "model_stock", "models": PAIR, "base_model": "mid"},
            [("models", "expected 3 or more for model_stock, the base model among them, got 2; change the list, or the "
                        "method")],
        ),
        (
            {"merge_method": "slerp", "models": [PAIR[0], {"model": "mid", "parameters": {"t": 0.9}}],
             "base_model": "mid", "parameters": {"t": 0.5}},
            [("models.1.parameters.t", "expected t once for all models, as slerp takes it, got it below one of them, "
                                       "where nothing reads it; move it below parameters of the merge")],
        ),
        (
            {"merge_method": "della", "base_model": "mid", "slices": [{"parameters": {"lambda": 1}, "sources": [
                {"model": "mid", "layer_range": [0, 2]},
                {"model": "soup", "layer_range": [0, 2], "parameters": {"weight": 1, "epsilon": 0.1, "lambda": 2}},
            ]}]},
            [("slices.0.sources.1.parameters.lambda",
              "expected lambda once for all models, as della takes it, got it below one of them, where nothing reads "
              "it; move it below parameters of the merge")],
        ),
        (
            {"merge_method": "ties", "models": PAIR, "base_model": "base",
             "parameters": {"density": [{"filter": "mlp", "value": [0.5, 50]}, {"value": 1}]}},
            [("parameters.density", "expected shares of a model's changes, from 0 to 1, got [{\"filter\": \"mlp\", "
                                    "\"value\": [0.5, 50]}, {\"value\": 1}]; correct it")],
        ),
        (
            {"merge_method": "linear", "models": PAIR, "slices": [{"sources": []}]},
            [("slices", "expected one of models, slices and modules, got models and slices; keep one of them")],
        ),
        (
            {"merge_method": "linear", "models": []},
            [("models", "expected models to merge, or slices, got none; list two or more")],
        ),
        (
            {"merge_method": "linear", "models": [{**PAIR[0], "parameters": {"weight": [0.5, float("nan")]}}]},
            [("models.0.parameters.weight", "expected a number, a list of numbers over the layers, or "
                                            "mappings with value, got [0.5, NaN]; write one")],
        ),
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"modl": "mid", "layer_range": [0, 4]}], "x": 1}]},
            [
                ("slices.0.x", "expected a key of mergekit's (base_model, parameters, residual_weight, sources), "
                               "got x; remove it"),
                ("slices.0.sources.0.modl", "expected a key of mergekit's (layer_range, model, parameters), got modl; "
                                            "the nearest is model"),
            ],
        ),
        (
            {"merge_method": "linear", "modules": {"lm": {"model": []}}, "tokenizer": {"tokns": {}}},
            [
                ("tokenizer.tokns", "expected a key of mergekit's (pad_to_multiple_of, source, tokens), got tokns; the "
                                    "nearest is tokens"),
                ("modules.lm.model", "expected a key of mergekit's (models, parameters, slices), got model; the "
                                     "nearest is models"),
            ],
        ),
        (
            {"merge_method": "linear", "name": "first", "models": [
                {**PAIR[0], "revision": "dpo", "layer_range": [0, 4]}, {**PAIR[1], "density": 0.5}]},
            [
                ("name", f"expected a key of mergekit's ({', '.join(merge_methods.MERGE_KEYS)}), got name; it names "
                         "one of several merges in a file for mergekit-multi, and this is the only one: remove it"),
                ("models.0.revision", "expected a key of mergekit's (model, parameters), got revision; write it behind "
                                      "the model's name: OWNER/NAME@dpo"),
                ("models.0.layer_range", "expected a key of mergekit's (model, parameters), got layer_range; layers "
                                         "are chosen below slices; for all layers remove it"),
                ("models.1.density", "expected a key of mergekit's (model, parameters), got density; write it below "
                                     "parameters there"),
            ],
        ),
        (
            {"merge_method": "linear", "models": PAIR, "parameters": {"random_seed": 145, "dtype": "float16"}},
            [
                ("parameters", "expected those of linear (normalize, weight), got random_seed, which no method of "
                               "mergekit's has; write options: {random_seed: 145} beside merge"),
                ("parameters", "expected those of linear (normalize, weight), got dtype, which no method of mergekit's "
                               "has; write dtype beside parameters"),
            ],
        ),
    ],
)  # fmt: skip
def test_names_and_numbers_of_a_merge_are_held_to_mergekits(given, found):
    assert [(fault.key, fault.told) for fault in merge_faults(given)] == found


def test_a_parameter_of_another_method_is_unused_and_no_fault():
    given = {"merge_method": "slerp", "base_model": "mid", "models": PAIR, "parameters": {"t": 0.5, "weight": 1}}
    assert list(merge_faults(given)) == []
    assert unused_parameters(given) == ["weight"]
    assert unused_parameters(given | {"parameters": {"t": 0.5, "scale": 2, "int8_mask": True}}) == ["scale", "weight"]


@pytest.mark.parametrize(("method", "unused"), [("ties", ["weight"]), ("slerp", []), ("linear", [])])
def test_a_base_that_others_differ_from_has_no_weight_of_its_own(method, unused):
    assert unused_by_base({"merge_method": method, "base_model": "mid", "models": PAIR}) == unused


def test_filters_are_found_at_every_depth():
    models = [{"model": "a", "parameters": {"weight": [{"filter": "mlp", "value": 1}, {"value": 0}]}}]
    shared = {"t": {"filter": "*", "value": 1}, "lambda": [{"filter": "self_attn", "value": [0, 1]}]}
    given = {"merge_method": "linear", "models": models, "parameters": shared, "tokenizer": {"filter": "x"}}
    assert filters(given) == ["mlp", "self_attn"]


def test_numbers_that_yaml_reads_as_text_are_numbers():
    """1e-5 has no point, and is a text in YAML 1.1; names of models and tensors stay what they are."""
    slices = [{"sources": [{"model": "1e-5", "parameters": {"weight": ["0", "-.5", True]}}]}]
    shared = {"tol": "1e-5", "t": [{"filter": "1e5", "value": "2."}, {"value": "1e9999"}], "mode": "1_0"}
    assert with_numbers({"slices": slices, "parameters": shared}) == {
        "slices": [{"sources": [{"model": "1e-5", "parameters": {"weight": [0.0, -0.5, True]}}]}],
        "parameters": {"tol": 1e-5, "t": [{"filter": "1e5", "value": 2.0}, {"value": "1e9999"}], "mode": "1_0"},
    }
