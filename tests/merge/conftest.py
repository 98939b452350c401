"""Run folders, merge files and suites of tiny models."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file


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


@pytest.fixture
def merge_run(merge_file):
    """Merge in this process, which saves the seconds that imports take."""

    def go(verify=False, **changes):
        from apo_soup.config.load import load
        from merge.average import plain_linear
        from merge.load_process import LoadProcess
        from merge.plan import merge_plan
        from merge.run import run_merge_stage
        from merge.verify import verify_average

        recipe = load(merge_file(**changes), "merge")
        errors = {}
        for name in ("merged",) if recipe.one_pass else ("soup", "merged"):
            plan = merge_plan(recipe, name)
            run_merge_stage(plan, recipe, LoadProcess())
            if verify:
                errors[name] = verify_average(plan.linear or plain_linear(plan.config), plan.stage.folder, plan.where)
        return errors

    return go


@pytest.fixture
def suite(write_rows, write_recipe):
    """An eval file of preference pairs that a random model judges at random."""
    import random

    from helpers import preference

    generator = random.Random(0)
    words = ["cat", "dog", "sat", "ran", "on", "a", "mat"]

    def text():
        return " ".join(generator.choices(words, k=6))

    rows = [preference(text(), text(), text()) for _ in range(60)]
    task = {"name": "taste", "kind": "preference", "data": str(write_rows("heldout.jsonl", rows))}
    other = {"name": "other", "kind": "preference", "data": str(write_rows("other.jsonl", rows[:20]))}
    return write_recipe("eval.yaml", {"output_dir": "unused", "tasks": [task, other], "chat_template": "apo-soup"})
