"""`--verify`: what it finds, and what it forgives."""

import pytest
import torch
from merge_helpers import PAIR, refused
from programs import run_ok
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError


def test_verify_finds_a_value_that_is_off(run, merge_file):
    """float32 inputs cast to bfloat16 before they are summed are off already; summed in float64 they are not."""
    path = merge_file(dtype="bfloat16")
    assert "sum in float64 (dtype: float64)" in refused("-m", "merge", "--config", path, "--verify")
    words = ("--merge.dtype", "float64", "--merge.out_dtype", "bfloat16")
    shown = run_ok("-m", "merge", "--config", path, *words, "--verify")
    assert shown.count("units in the last place from the float64 average") == 2
    file = run / "merged" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] *= 1.02
    save_file(tensors, file, metadata={"format": "pt"})
    again = run_ok("-m", "merge", "--config", path, *words, "--only", "merged", "--verify")
    assert "merged: running, because model.safetensors has changed since it was made" in again
    assert "at most 0.50" in again


def test_verify_sees_what_is_missing_and_what_is_no_number(run, merge_run):
    from merge.average import LinearAverage
    from merge.verify import verify_average

    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))]
    merge_run(merge={"merge_method": "linear", "dtype": "float64", "out_dtype": "bfloat16", "models": models})
    linear = LinearAverage((run / "soup", run / "mid"), (0.9, 0.1), True, "float64", "bfloat16")
    verify_average(linear, run / "merged", "here", lambda text: None)
    file = run / "merged" / "model.safetensors"
    good = load_file(file)
    off = good["model.norm.weight"].clone()
    off[3] *= 1.02
    save_file(good | {"model.norm.weight": off}, file)
    told = "tensor model.norm.weight: expected at most 0.5 units in the last place .*: the file or a model was changed"
    with pytest.raises(UserError, match=told):
        verify_average(linear, run / "merged", "here")
    save_file({k: v for k, v in good.items() if k != "model.norm.weight"}, file)
    with pytest.raises(UserError, match=r"merged: expected tensor model\.norm\.weight, got none"):
        verify_average(linear, run / "merged", "here")
    save_file(good | {"model.norm.weight": torch.full((32,), float("nan"))}, file)
    with pytest.raises(UserError, match=r"model\.norm\.weight: expected finite values, got NaN"):
        verify_average(linear, run / "merged", "here")


def test_verify_forgives_what_float64_itself_rounds_where_parents_cancel(run, merge_run):
    """bfloat16 parents with mid = -9 soup: 0.9 soup + 0.1 mid is no zero in float64, for 0.9 is not 9 times 0.1."""
    for number in "123":
        file = run / "apo" / number / "model.safetensors"
        soup = {k: v.bfloat16() for k, v in load_file(run / "apo" / "1" / "model.safetensors").items()}
        save_file(soup, file, metadata={"format": "pt"})
    cancelling = {k: (v.float() * -9).bfloat16() for k, v in soup.items()}
    save_file(cancelling, run / "mid" / "model.safetensors", metadata={"format": "pt"})
    merge = PAIR | {"dtype": "float64", "out_dtype": "bfloat16"}
    errors = merge_run(verify=True, soup={"members": "all", "dtype": "bfloat16"}, merge=merge)
    assert errors["merged"] <= 0.5 + 2**-13
