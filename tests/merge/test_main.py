"""`python -m merge` from outside: what is up to date, what is refused, what a kill leaves."""

import json

import torch
from merge_helpers import refused
from programs import Programs, kill_at, run_ok
from safetensors.torch import load_file, save_file


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
    expected = f"{run}/apo/2: expected tensor model.norm.weight, as in {run}/apo/1, got none"
    assert expected in refused("-m", "merge", "--config", path)
    save_file(good | {"model.norm.weight": torch.ones(16)}, file, metadata={"format": "pt"})
    expected = f"{run}/apo/2: tensor model.norm.weight: expected shape [32], as in {run}/apo/1, got [16]"
    assert expected in refused("-m", "merge", "--config", path)
    file.unlink()
    assert "apo/2 without any; run the stage that makes it" in refused("-m", "merge", "--config", path)
    assert not (run / "soup").exists()
    assert not (run / "merged").exists()


def test_mistakes_in_the_file_are_told(run, merge_file, write_recipe):
    text = refused("-m", "merge", "--config", merge_file(soup={"members": "all", "dtyp": "float32"}))
    assert "soup.dtyp: expected a known key, got an unknown one; the nearest is dtype" in text
    bad = {"merge_method": "linear", "models": [{"model": "no-where/else", "parameters": {"weight": 1}}], "dtyp": 1}
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": bad})
    assert "merge.dtyp: expected a key of mergekit's" in refused("-m", "merge", "--config", path)
    del bad["dtyp"]
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": bad})
    assert "got no-where/else, which cannot be fetched" in refused("-m", "merge", "--config", path)
    stray = {"merge_method": "linear", "models": [{"model": "suop", "parameters": {"weight": 1}}]}
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": stray})
    assert "got suop; the nearest is soup" in refused("-m", "merge", "--config", path)
    other = {"stage": "apo/3", "outputs": {}, "inputs": {"model": "another"}}
    (run / "apo" / "3" / "manifest.json").write_text(json.dumps(other))
    text = refused("-m", "merge", "--config", merge_file())
    assert f"got {run}/apo/3, trained from another model than {run}/apo/1" in text
    (run / "apo").rename(run / "gone")
    assert "run `apo-soup run apo` first" in refused("-m", "merge", "--config", merge_file())


def test_a_killed_merge_leaves_no_folder(run, merge_file):
    """Killed while it writes: a large tensor makes it long enough."""
    for name in ("apo/1", "apo/2", "apo/3"):
        file = run / name / "model.safetensors"
        tensors = load_file(file) | {"extra": torch.zeros(20_000_000)}
        save_file(tensors, file, metadata={"format": "pt"})
    partial = run / ".soup.partial" / "final" / "model.safetensors"
    kill_at(Programs("-m", "merge", "--config", merge_file(), "--only", "soup"), partial)
    assert not (run / "soup").exists()
    run_ok("-m", "merge", "--config", merge_file(), "--only", "soup")
    assert (run / "soup" / "manifest.json").is_file()
