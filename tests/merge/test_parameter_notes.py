"""What a merge's parameters say to nothing."""

import pytest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {
                "parameters": {
                    "t": [{"filter": "self_attention", "value": 1}, {"filter": "mlp", "value": 0}, {"value": 0}]
                }
            },
            "merge.parameters: no tensor of the models has self_attention in its name, so what its filter gives is for "
            "none of them",
        ),
        ({"parameters": {"t": 0.5, "scale": 2}}, "merge.parameters: slerp has no parameter scale and passes over it"),
        (
            {
                "merge_method": "ties",
                "models": [
                    {"model": "soup", "parameters": {"weight": 1}},
                    {"model": "mid", "parameters": {"weight": 1}},
                ],
            },
            "merge.models: weight of the base model is passed over, for ties takes what the others differ by from it",
        ),
    ],
)
def test_what_mergekit_passes_over_is_told(run, merge_run, capsys, changes, told):
    slerp = {"merge_method": "slerp", "base_model": "mid", "models": [{"model": "soup"}, {"model": "mid"}]}
    merge_run(merge=slerp | {"dtype": "float32"} | changes)
    said = [line for line in capsys.readouterr().out.splitlines() if "note: " in line and "merge." in line]
    assert [line.rpartition(": merge.")[2] for line in said] == [told.removeprefix("merge.")]
