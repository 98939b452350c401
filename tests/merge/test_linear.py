"""The linear average: mergekit's own tensors bit for bit, and the float64 average to half a unit in the last place."""

import json
import shutil

import pytest
import torch
import yaml
from helpers import state_dict
from merge_helpers import PAIR, averaged
from programs import run_ok


def test_soup_and_merge_are_the_float64_average_rounded_once(run, merge_file):
    run_ok("-m", "merge", "--config", merge_file())
    members = [state_dict(run / "apo" / k) for k in "123"]
    soup, mid, merged = (state_dict(run / n) for n in ("soup", "mid", "merged"))
    for name, tensor in soup.items():
        exact = sum(m[name].double() for m in members) / 3
        torch.testing.assert_close(tensor.double(), exact, atol=1e-6, rtol=3e-7)
        mixed = 0.9 * tensor.double() + 0.1 * mid[name].double()
        torch.testing.assert_close(merged[name].double(), mixed, atol=1e-6, rtol=3e-7)


def test_merge_is_bit_for_bit_what_mergekit_yaml_makes(run, merge_file, tmp_path):
    path = merge_file(dtype="bfloat16")
    run_ok("-m", "merge", "--config", path)
    config = yaml.safe_load(path.read_text())["merge"]
    for entry in config["models"]:
        entry["model"] = str(run / entry["model"])
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    script = "from mergekit.scripts.run_yaml import main; main()"
    words = [str(tmp_path / "plain.yaml"), str(tmp_path / "plain"), "--no-write-model-card"]
    run_ok("-c", script, *words)
    ours, theirs = state_dict(run / "merged"), state_dict(tmp_path / "plain")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == torch.bfloat16
        assert torch.equal(ours[name].view(torch.int16), theirs[name].view(torch.int16)), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_one_pass_is_within_half_a_unit_in_the_last_place(run, merge_run, dtype):
    """Of the float64 average, in every tensor, and `--verify` says the same; half a unit is one correct rounding."""
    config = {"merge_method": "linear", "dtype": "float64", "out_dtype": dtype, "models": [
        {"model": "soup", "parameters": {"weight": 0.9}}, {"model": "mid", "parameters": {"weight": 0.1}},
    ]}  # fmt: skip
    errors = merge_run(one_pass=True, merge=config, verify=True)
    assert not (run / "soup").exists()
    written, exact = state_dict(run / "merged"), averaged(run)
    worst = 0.0
    for name, values in written.items():
        assert values.dtype == getattr(torch, dtype)
        info = torch.finfo(values.dtype)
        unit = 2.0 ** exact[name].abs().clamp(min=info.smallest_normal).log2().floor() * info.eps
        worst = max(worst, ((values.double() - exact[name]).abs() / unit).max().item())
    assert 0.4 < worst <= 0.5 + 1e-4
    assert errors["merged"] == pytest.approx(worst, abs=1e-3)


def test_a_written_folder_is_recorded_as_it_lies_there(run, merge_run):
    """Weights are hashed while they are written; the manifest says what reading them again would."""
    from apo_soup.runs.model_files import file_record

    merge_run()
    outputs = json.loads((run / "merged" / "manifest.json").read_text())["outputs"]
    assert outputs["model.safetensors"] == file_record(run / "merged" / "model.safetensors")


def test_two_steps_agree_with_one_pass_to_rounding(run, merge_run):
    merge_run(dtype="float32")
    two = state_dict(run / "merged")
    shutil.rmtree(run / "merged")
    merge_run(dtype="float32", one_pass=True)
    for name, tensor in state_dict(run / "merged").items():
        torch.testing.assert_close(tensor, two[name], atol=1e-6, rtol=2e-7)


def test_a_member_mixed_in_beside_its_soup_is_summed_once(run, merge_run):
    """0.9 of the mean of three and 0.1 of the first: weights 0.4, 0.3 and 0.3."""
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("apo/1", 0.1))]
    merge_run(merge=PAIR | {"dtype": "float64", "out_dtype": "float32", "models": models}, one_pass=True)
    members = [state_dict(run / "apo" / k) for k in "123"]
    for name, tensor in state_dict(run / "merged").items():
        exact = 0.4 * members[0][name].double() + 0.3 * (members[1][name].double() + members[2][name].double())
        torch.testing.assert_close(tensor.double(), exact, atol=0, rtol=1e-6)
