"""Merging: mergekit's own tensors bit for bit, whole folders, nonsense refused before anything is written."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from helpers import python, run_ok, state_dict
from safetensors.torch import load_file, save_file

from pipeline.errors import UserError


@pytest.fixture
def run(tiny_model, tmp_path):
    """A run folder with three members and a mid checkpoint, each the tiny model with noise, in float32."""
    folder = tmp_path / "run"
    for number, name in enumerate(["apo/1", "apo/2", "apo/3", "mid"]):
        target = folder / name
        shutil.copytree(tiny_model, target)
        torch.manual_seed(number)
        tensors = {k: v + 0.1 * torch.randn_like(v) for k, v in load_file(target / "model.safetensors").items()}
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        (target / "manifest.json").write_text(json.dumps({"stage": name, "outputs": {}}))
    return folder


@pytest.fixture
def merge_file(run, write_recipe):
    def make(dtype="float32", weights=(0.9, 0.1), **changes):
        models = [{"model": m, "parameters": {"weight": w}} for m, w in zip(("soup", "mid"), weights, strict=True)]
        values = {
            "output_dir": str(run),
            "soup": {"members": "all", "dtype": dtype},
            "merge": {"merge_method": "linear", "dtype": dtype, "models": models},
        }
        return write_recipe("merge.yaml", values | changes)

    return make


def refused(*words):
    result = python(*words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_soup_and_merge_are_the_float64_average_rounded_once(run, merge_file):
    run_ok("-m", "merge", "--config", merge_file())
    members = [state_dict(run / "apo" / k) for k in "123"]
    soup, mid, merged = (state_dict(run / n) for n in ("soup", "mid", "merged"))
    for name, tensor in soup.items():
        exact = sum(m[name].double() for m in members) / 3
        torch.testing.assert_close(tensor.double(), exact, atol=1e-6, rtol=3e-7)
        mixed = 0.9 * tensor.double() + 0.1 * mid[name].double()
        torch.testing.assert_close(merged[name].double(), mixed, atol=1e-6, rtol=3e-7)


def test_all_members_are_those_of_the_apo_file_with_their_kept_steps(run, merge_file, write_recipe):
    from merge.plan import soup_members
    from pipeline.recipe import load

    recipe = load(merge_file(), "merge")
    assert [f.name for f in soup_members(recipe)] == ["1", "2", "3"]
    (run / "apo" / "3").rename(run / "apo" / "10")
    assert [f.name for f in soup_members(recipe)] == ["1", "2", "10"]
    (run / "apo" / "10").rename(run / "apo" / "1-at-0.5")
    write_recipe("apo.yaml", {"members": [{"checkpoints": [0.5]}, {}], "output_dir": str(run / "apo")})
    assert [f.name for f in soup_members(recipe)] == ["1-at-0.5", "1", "2"]
    (run / "apo" / "1-at-0.5").rename(run / "gone")
    with pytest.raises(UserError, match=r"1-at-0\.5 is not there; run `make apo` first"):
        soup_members(recipe)
    recipe.values["soup"]["members"] = [2, "1"]
    assert [f.name for f in soup_members(recipe)] == ["2", "1"]


def test_merge_is_bit_for_bit_what_mergekit_yaml_makes(run, merge_file, tmp_path):
    path = merge_file(dtype="bfloat16")
    run_ok("-m", "merge", "--config", path)
    config = yaml.safe_load(path.read_text())["merge"]
    for entry in config["models"]:
        entry["model"] = str(run / entry["model"])
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    script = "from mergekit.scripts.run_yaml import main; main()"
    words = [str(tmp_path / "plain.yaml"), str(tmp_path / "plain"), "--no-write-model-card"]
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)
    ours, theirs = state_dict(run / "merged"), state_dict(tmp_path / "plain")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == torch.bfloat16
        assert torch.equal(ours[name].view(torch.int16), theirs[name].view(torch.int16)), name


def test_the_merged_folder_is_complete_and_runs_without_this_project(run, merge_file, tmp_path):
    run_ok("-m", "merge", "--config", merge_file())
    settings = json.loads((run / "merged" / "generation_config.json").read_text())
    assert (settings["temperature"], settings["top_p"], settings["do_sample"]) == (0.6, 0.95, True)
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; folder = sys.argv[1];"
        "m = AutoModelForCausalLM.from_pretrained(folder); t = AutoTokenizer.from_pretrained(folder);"
        "p = t.apply_chat_template([{'role': 'user', 'content': 'Hi'}], add_generation_prompt=True,"
        " enable_thinking=False, return_tensors='pt', return_dict=True);"
        "assert t.decode(p['input_ids'][0]).endswith('<think>\\n\\n</think>\\n');"
        "o = m.generate(**p, max_new_tokens=4); print(m.generation_config.eos_token_id, t.eos_token_id, o.shape[1])"
    )
    result = subprocess.run([sys.executable, "-c", code, run / "merged"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("[2] 2 ")


def test_unchanged_models_are_not_merged_again_and_changed_ones_are(run, merge_file):
    path = merge_file()
    run_ok("-m", "merge", "--config", path)
    again = run_ok("-m", "merge", "--config", path)
    assert again.count("up to date, skipped") == 2
    tensors = load_file(run / "mid" / "model.safetensors")
    save_file({k: v + 1 for k, v in tensors.items()}, run / "mid" / "model.safetensors", metadata={"format": "pt"})
    changed = run_ok("-m", "merge", "--config", path)
    assert "soup: up to date" in changed
    assert "merged: running, because model 1 mid changed" in changed


def test_nonsense_is_refused_before_anything_is_written(run, merge_file, tiny_model):
    path = merge_file()
    file = run / "apo" / "2" / "model.safetensors"
    good = load_file(file)

    save_file(good | {"model.norm.weight": torch.full((32,), float("inf"))}, file, metadata={"format": "pt"})
    assert "model.norm.weight" in refused("-m", "merge", "--config", path)
    save_file({k: v for k, v in good.items() if k != "model.norm.weight"}, file, metadata={"format": "pt"})
    assert f"tensor model.norm.weight is missing in {run}/apo/2" in refused("-m", "merge", "--config", path)
    save_file(good | {"model.norm.weight": torch.ones(16)}, file, metadata={"format": "pt"})
    assert "tensor model.norm.weight is [16]" in refused("-m", "merge", "--config", path)
    file.unlink()
    assert "it has no *.safetensors file" in refused("-m", "merge", "--config", path)
    assert not (run / "soup").exists()
    assert not (run / "merged").exists()


def test_mistakes_in_the_file_are_told(run, merge_file, write_recipe):
    text = refused("-m", "merge", "--config", merge_file(soup={"members": "all", "dtyp": "float32"}))
    assert "unknown key soup.dtyp; the nearest known key is dtype" in text
    bad = {"merge_method": "linear", "models": [{"model": "no-where/else", "parameters": {"weight": 1}}], "dtyp": 1}
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": bad})
    assert "unknown key merge.dtyp" in refused("-m", "merge", "--config", path)
    del bad["dtyp"]
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": bad})
    assert "mergekit refuses the merge" in refused("-m", "merge", "--config", path)
    stray = {"merge_method": "linear", "models": [{"model": "suop", "parameters": {"weight": 1}}]}
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": stray})
    assert "no stage or folder is called suop; the nearest stage is soup" in refused("-m", "merge", "--config", path)
    other = {"stage": "apo/3", "outputs": {}, "inputs": {"model": "another"}}
    (run / "apo" / "3" / "manifest.json").write_text(json.dumps(other))
    text = refused("-m", "merge", "--config", merge_file())
    assert f"{run}/apo/3 was trained from another model than {run}/apo/1" in text
    (run / "apo").rename(run / "gone")
    assert "run `make apo` first" in refused("-m", "merge", "--config", merge_file())
