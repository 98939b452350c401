"""Merging: mergekit's own tensors bit for bit, whole folders, nonsense refused before anything is written."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from helpers import python, run_ok, state_dict
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError


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
    from apo_soup.config.recipe import load
    from merge.plan import soup_members

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
    assert "no-where/else cannot be fetched from the Hub" in refused("-m", "merge", "--config", path)
    stray = {"merge_method": "linear", "models": [{"model": "suop", "parameters": {"weight": 1}}]}
    path = write_recipe("bad.yaml", {"output_dir": str(run), "merge": stray})
    assert "no stage or folder is called suop; the nearest name is soup" in refused("-m", "merge", "--config", path)
    other = {"stage": "apo/3", "outputs": {}, "inputs": {"model": "another"}}
    (run / "apo" / "3" / "manifest.json").write_text(json.dumps(other))
    text = refused("-m", "merge", "--config", merge_file())
    assert f"{run}/apo/3 was trained from another model than {run}/apo/1" in text
    (run / "apo").rename(run / "gone")
    assert "run `make apo` first" in refused("-m", "merge", "--config", merge_file())


@pytest.fixture
def merge_run(merge_file):
    """Merge in this process, which saves the seconds that imports take."""

    def go(verify=False, **changes):
        from apo_soup.config.recipe import load
        from merge.linear import verify as verified
        from merge.plan import planned
        from merge.run import run

        recipe = load(merge_file(**changes), "merge")
        errors = {}
        for name in ("merged",) if recipe.values.get("one_pass") else ("soup", "merged"):
            plan = planned(recipe, name)
            run(plan.stage, plan.config, recipe, plan.where, plan.linear)
            if verify:
                from merge.plan import plain_linear

                errors[name] = verified(plan.linear or plain_linear(plan.config), plan.stage.folder, plan.where)
        return errors

    return go


def mixed(run, members=(1, 2, 3), soup=0.9):
    """The float64 average of the members and mid, tensor by tensor."""
    found = [state_dict(run / "apo" / str(k)) for k in members]
    mid = state_dict(run / "mid")
    return {
        name: soup * sum(m[name].double() for m in found) / len(members) + (1 - soup) * mid[name].double()
        for name in mid
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_one_pass_is_within_half_a_unit_in_the_last_place(run, merge_run, dtype):
    """Of the float64 average, in every tensor, and `--verify` says the same; half a unit is one correct rounding."""
    config = {"merge_method": "linear", "dtype": "float64", "out_dtype": dtype, "models": [
        {"model": "soup", "parameters": {"weight": 0.9}}, {"model": "mid", "parameters": {"weight": 0.1}},
    ]}  # fmt: skip
    errors = merge_run(one_pass=True, merge=config, verify=True)
    assert not (run / "soup").exists()
    written, exact = state_dict(run / "merged"), mixed(run)
    worst = 0.0
    for name, values in written.items():
        assert values.dtype == getattr(torch, dtype)
        info = torch.finfo(values.dtype)
        unit = 2.0 ** exact[name].abs().clamp(min=info.smallest_normal).log2().floor() * info.eps
        worst = max(worst, ((values.double() - exact[name]).abs() / unit).max().item())
    assert 0.4 < worst <= 0.5 + 1e-4
    assert errors["merged"] == pytest.approx(worst, abs=1e-3)


def test_two_steps_agree_with_one_pass_to_rounding(run, merge_run):
    merge_run(dtype="float32")
    two = state_dict(run / "merged")
    shutil.rmtree(run / "merged")
    merge_run(dtype="float32", one_pass=True)
    for name, tensor in state_dict(run / "merged").items():
        torch.testing.assert_close(tensor, two[name], atol=1e-6, rtol=2e-7)


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
    told = refused("-m", "merge", "--config", path, *words, "--only", "merged", "--verify")
    assert "tensor model.norm.weight" in told


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("slerp", {"base_model": "soup", "parameters": {"t": 0.1}}),
        ("ties", {"base_model": "mid", "parameters": {"density": 0.5}}),
        ("task_arithmetic", {"base_model": "mid", "parameters": {"normalize": False}}),
    ],
)
def test_other_methods_are_mergekits_own(run, merge_run, tmp_path, method, settings):
    models = [{"model": "soup", "parameters": {"weight": 0.9}}, {"model": "mid", "parameters": {"weight": 0.1}}]
    if method == "slerp":
        models = [{"model": "soup"}, {"model": "mid"}]
    config = {"merge_method": method, "dtype": "float32", "models": models, **settings}
    merge_run(merge=config)
    text = (
        yaml.safe_dump(config).replace("model: soup", f"model: {run}/soup").replace("model: mid", f"model: {run}/mid")
    )
    (tmp_path / "plain.yaml").write_text(text)
    script = "from mergekit.scripts.run_yaml import main; main()"
    words = [str(tmp_path / "plain.yaml"), str(tmp_path / "plain"), "--no-write-model-card"]
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)
    theirs = state_dict(tmp_path / "plain")
    for name, tensor in state_dict(run / "merged").items():
        assert torch.equal(tensor, theirs[name]), name
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"


def test_adapters_on_a_common_base_make_a_soup(run, merge_run, tiny_model):
    """The average of merged adapters, as peft merges them."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    merged = []
    # Two runs whose adapters end in the same two names.
    folders = [run / f"run{number}" / "apo" / "1" for number in (1, 2)]
    for number, folder in enumerate(folders):
        torch.manual_seed(number)
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        base.config.name_or_path = base.name_or_path = str(tiny_model)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
        model.save_pretrained(folder)
        plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        merged.append(PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict())
    soup = {"members": [str(f) for f in folders], "dtype": "float32"}
    # What a killed merge left must not be taken for the adapters of today.
    shutil.copytree(tiny_model, run / ".soup.adapters" / "apo" / "1")
    merge_run(soup=soup)
    average = {name: (merged[0][name] + merged[1][name]) / 2 for name in merged[0]}
    for name, tensor in state_dict(run / "soup").items():
        torch.testing.assert_close(tensor, average[name], atol=1e-6, rtol=1e-6)
    assert not (run / ".soup.adapters").exists()

    from apo_soup.evals.mix import Mixer
    from apo_soup.evals.suite import Mix

    mixed = Mixer("here").at(Mix("half", tuple((f, 0.5) for f in folders)))
    for name, parameter in mixed.named_parameters():
        torch.testing.assert_close(parameter, average[name], atol=1e-6, rtol=1e-6)
    settings = folders[1] / "adapter_config.json"
    settings.write_text(settings.read_text().replace(str(tiny_model), "somebody/else"))
    with pytest.raises(UserError, match="the adapters have different bases"):
        merge_run(soup=soup)


def test_a_long_context_is_asked_for_in_the_configuration_and_works(run, merge_run):
    from transformers import AutoModelForCausalLM

    merge_run(long_context={"factor": 2.0, "original_max_position_embeddings": 512})
    config = json.loads((run / "merged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 1024
    rope = config["rope_parameters"]
    assert (rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"]) == ("yarn", 2.0, 512)
    model = AutoModelForCausalLM.from_pretrained(run / "merged")
    with torch.no_grad():
        scores = model(torch.arange(10, 900)[None] % 1000, use_cache=False).logits
    assert scores.isfinite().all()
    plain = AutoModelForCausalLM.from_pretrained(run / "soup")
    assert plain.config.rope_parameters["rope_type"] == "default"
    assert plain.config.rope_parameters["rope_theta"] == rope["rope_theta"]


def test_the_card_tells_what_was_mixed_and_where_it_came_from(run, merge_run):
    made = {"stage": "apo/1", "outputs": {}, "inputs": {"model": "ab" * 32}, "config": {"beta": 0.05, "seed": 3}}
    for number in "123":
        (run / "apo" / number / "manifest.json").write_text(json.dumps(made))
    merge_run()
    card = (run / "soup" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "- apo/1: beta 0.05, seed 3, from model abababababab" in card
    assert "model: apo/2" in card
    assert str(run) not in card
    assert "weight: 0.9" in (run / "merged" / "README.md").read_text()


def without_index(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def other_words(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"][0]["content"] = "<other>"
    file.write_text(json.dumps(content))


def other_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def other_kind(folder):
    file = folder / "config.json"
    file.write_text(file.read_text().replace("SmolLM3ForCausalLM", "LlamaForCausalLM"))


def broken_config(folder):
    (folder / "config.json").write_text("{")


def set_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def other_heads(folder):
    set_config(folder, num_attention_heads=8, head_dim=4)


def other_theta(folder):
    set_config(folder, rope_parameters={"rope_type": "default", "rope_theta": 1000.0})


def other_end(folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": "<|endoftext|>"}))


def a_part_alone(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def an_index_that_promises_more(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"more": "model.safetensors"}}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (other_heads, "num_attention_heads is 8 in"),
        (other_theta, "rope_theta is 1000.0 in"),
        (other_end, "differ in their end-of-turn token"),
        (a_part_alone, "its weights are in parts and model.safetensors.index.json is missing"),
        (an_index_that_promises_more, "tensor more is not in model.safetensors"),
        (without_index, "is not whole: model-00002.safetensors, which its index names, is missing"),
        (cut_off, "apo/2/model.safetensors is cut off: it has"),
        (other_words, "differ in their tokens"),
        (other_template, "differ in their chat template"),
        (other_kind, "architectures is ['LlamaForCausalLM'] in"),
        (broken_config, "config.json is not valid JSON"),
    ],
)
def test_a_member_that_does_not_fit_is_told_before_anything_is_written(run, merge_run, harm, told):
    harm(run / "apo" / "2")
    with pytest.raises(UserError) as error:
        merge_run()
    assert told in str(error.value)
    assert "apo/2" in str(error.value)
    assert not (run / "soup").exists()


@pytest.mark.parametrize(
    ("weights", "parameters", "told"),
    [
        ((0.9, -0.9), {}, "sum to 0, and normalize divides by their sum"),
        ((0.9, 0.2), {"normalize": False}, "sum to 1.1 with normalize: false"),
        ((0.9, float("nan")), {}, "are not finite"),
    ],
)
def test_weights_that_make_no_average_are_refused(run, merge_run, weights, parameters, told):
    models = [{"model": m, "parameters": {"weight": w}} for m, w in zip(("soup", "mid"), weights, strict=True)]
    with pytest.raises(UserError, match=told):
        merge_run(merge={"merge_method": "linear", "dtype": "float32", "models": models, "parameters": parameters})


def test_a_full_disk_is_told_before_anything_is_written(run, merge_run, monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(1000))
    with pytest.raises(UserError, match="GB free and the merge needs about"):
        merge_run()


def test_a_killed_merge_leaves_no_folder(run, merge_file):
    """Killed while it writes: a large tensor makes it long enough."""
    import signal
    import time

    for name in ("apo/1", "apo/2", "apo/3"):
        file = run / name / "model.safetensors"
        tensors = load_file(file) | {"extra": torch.zeros(60_000_000)}
        save_file(tensors, file, metadata={"format": "pt"})
    partial = run / ".soup.partial" / "final" / "model.safetensors"
    process = subprocess.Popen([sys.executable, "-m", "merge", "--config", str(merge_file()), "--only", "soup"])
    while not partial.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not (run / "soup").exists()
    run_ok("-m", "merge", "--config", merge_file(), "--only", "soup")
    assert (run / "soup" / "manifest.json").is_file()


def test_shards_are_written_and_read(tmp_path, monkeypatch):
    """A folder of several files loads as transformers and safetensors know it."""
    from merge import tensors

    monkeypatch.setattr(tensors, "SHARD_BYTES", 4000)
    values = {f"t{n}": torch.randn(30 + n, 10) for n in range(7)}
    writer = tensors.Writer(tmp_path, {n: tuple(v.shape) for n, v in values.items()}, torch.float32)
    for name, tensor in values.items():
        writer.write(name, tensor.flatten()[:50])
        writer.write(name, tensor.flatten()[50:])
    writer.close()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    stored = tensors.stored_tensors(tmp_path, "here")
    assert {n: s.shape for n, s in stored.items()} == {n: tuple(v.shape) for n, v in values.items()}
    for name, tensor in state_dict(tmp_path).items():
        assert torch.equal(tensor, values[name])
        assert torch.equal(stored[name].read(20, 100), values[name].flatten()[20:120])


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


def test_a_sweep_scores_the_points_that_merge_would_write(run, merge_file, suite, tmp_path):
    """The point at 0.5 has the scores of the merged checkpoint, item by item; a second walk asks only what is new."""
    path = merge_file(weights=(0.5, 0.5), sweep={"weights": [0, 0.5, 1], "tasks": ["taste"], "bootstrap": 200})
    run_ok("-m", "merge", "--config", path)
    shown = run_ok("-m", "merge.sweep", "--config", path)
    found = json.loads((run / "sweep" / "sweep.json").read_text())
    assert [p["weight"] for p in found["points"]] == [0.0, 0.5, 1.0]
    assert found["metric"] == "taste"
    run_ok("-m", "apo_soup", "eval", "--config", suite, "--model", run / "merged", "--output_dir", tmp_path / "evals")
    (written,) = (tmp_path / "evals").glob("*/results.json")
    point = json.loads((run / "sweep_points" / "0.5" / "results.json").read_text())["metrics"]
    assert point["taste"]["items"] == json.loads(written.read_text())["metrics"]["taste"]["items"]
    assert "other" not in point
    assert not list(run.glob("sweep*/**/*.safetensors")), "no checkpoint is written"
    best = max(found["points"], key=lambda p: (p["scores"]["taste"], p["weight"]))
    assert found["chosen"]["weight"] == best["weight"]
    assert f"sweep: soup {best['weight']:g} has the best taste" in shown
    assert f"- {{model: mid, parameters: {{weight: {1 - best['weight']:g}}}}}" in shown
    assert (run / "sweep" / "sweep.png").stat().st_size > 5000
    again = run_ok("-m", "merge.sweep", "--config", path)
    assert "sweep: up to date" in again
    finer = run_ok("-m", "merge.sweep", "--config", path, "--sweep.weights", "[0, 0.25, 0.5, 1]")
    assert finer.count("evals/mix/") == 5, "three are up to date, one runs and tells its scores"
    assert "evals/mix/0.25: running" in finer


def metrics_of(**columns):
    return {n: {"value": sum(v) / len(v), "items": v, "better": "higher"} for n, v in columns.items()}


def test_the_best_point_keeps_its_guardrails_and_its_equals_are_named():
    """Weight 0 scores best and loses recall beyond noise; 0.9 and 0.8 score alike, and 0.9 is nearer to the soup."""
    from merge.sweep import choose, point

    good, bad = [1] * 95 + [0] * 5, [1] * 50 + [0] * 50
    found = {
        0.0: metrics_of(score=[1] * 100, recall=bad),
        0.8: metrics_of(score=[1] * 90 + [0] * 10, recall=good),
        0.9: metrics_of(score=[1] * 90 + [0] * 10, recall=good),
        1.0: metrics_of(score=bad, recall=good),
    }
    points = [point(w, m, found[1.0], ["score", "recall"], {"recall": 0.02}, 500, 0, "x") for w, m in found.items()]
    assert [p.fallen for p in points] == [("recall",), (), (), ()]
    chosen = choose(points, found, "score", 500, 0, "x")
    assert (chosen.weight, chosen.alike) == (0.9, (0.8,))
    assert points[0].differences["recall"].value == pytest.approx(-0.45)
    with pytest.raises(UserError, match="the suite has no metric speed with single items; it has score, recall"):
        point(0.0, found[0.0], found[1.0], ["speed"], {}, 100, 0, "x")


def test_a_loss_is_best_where_it_is_lowest(tmp_path):
    """As metric and as guardrail: 0.5 has the lowest loss, 0 the highest."""
    from merge.scores import gains
    from merge.sweep import choose, point

    values = {0.0: 7.2, 0.5: 6.9, 1.0: 7.0}
    found = {
        w: {"nll": {"value": v, "items": [v + 0.001 * n for n in range(50)], "better": "lower"}}
        for w, v in values.items()
    }
    points = [point(w, m, found[1.0], ["nll"], {"nll": 0.0}, 200, 0, "x") for w, m in found.items()]
    assert [p.fallen for p in points] == [("nll",), (), ()]
    assert points[1].differences["nll"].value == pytest.approx(0.1)
    assert choose(points, found, "nll", 200, 0, "x").weight == 0.5
    from dataclasses import asdict

    from apo_soup.report.sections import sweep_part

    (tmp_path / "sweep").mkdir()
    told = {"models": ["soup", "mid"], "metric": "nll", "guardrails": {}, "better": {"nll": "lower"}, "told": "-",
            "points": [asdict(p) for p in points]}  # fmt: skip
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(told))
    bars = [float(y) for y in re.findall(r'd="M[\d.]+ ([\d.]+)V', sweep_part(tmp_path))]
    assert bars[0] < bars[-1], "the bar of the highest loss stands highest, as its line does"
    with pytest.raises(UserError, match="length is better neither when higher nor when lower"):
        gains({"length": {"value": 1.0, "items": [1.0], "better": None}}, "length", "x")


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"weights": [0, float("nan"), 1]}, "lies between 0 and 1"),
        ({"weights": [-0.1, 1]}, "lies between 0 and 1"),
        ({"models": ["mid", "mid"]}, "sweep.models are one folder"),
    ],
)
def test_a_walk_that_makes_no_sense_is_told(run, merge_file, suite, sweep, told):
    from apo_soup.config.recipe import load
    from merge.sweep import planned

    shutil.copytree(run / "mid", run / "soup")
    with pytest.raises(UserError, match=told):
        planned(load(merge_file(sweep=sweep), "merge"))


def test_a_sweep_is_stale_when_what_its_suite_names_has_changed(run, merge_file, suite, tmp_path):
    from apo_soup.config.recipe import load
    from merge.sweep import planned

    shutil.copytree(run / "mid", run / "soup")
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages }}")
    suite.write_text(suite.read_text().replace("apo-soup", str(template)))
    hashes = set()
    for text in ("{{ messages }}", "{{ messages }}!"):
        template.write_text(text)
        hashes.add(planned(load(merge_file(sweep={"weights": [0, 1]}), "merge")).stage.inputs["suite"])
    assert len(hashes) == 2


def test_a_paired_difference_sees_what_unpaired_intervals_would_not():
    """Ten of 100 items turn right and none wrong: 0.1 better, surely above 0; the interval is that of 100 coins."""
    from apo_soup.statistics import paired_difference

    one = [0] * 50 + [1] * 50
    two = [1] * 10 + [0] * 40 + [1] * 50
    found = paired_difference(one, two)
    assert found.value == pytest.approx(0.1)
    assert found.beyond_noise
    # Binomial standard error of a share of 0.1 of 100 items is 0.03.
    assert found.low == pytest.approx(0.1 - 1.96 * 0.03, abs=0.015)
    assert found.high == pytest.approx(0.1 + 1.96 * 0.03, abs=0.015)
    assert not paired_difference(one, [*one[:-1], 0]).beyond_noise
    assert paired_difference(one, two, seed=1) == paired_difference(one, two, seed=1)
    with pytest.raises(ValueError, match="paired comparison of 100 and 1 items"):
        paired_difference(one, [1])


def test_a_greedy_soup_takes_members_while_the_score_does_not_fall(run, merge_file, suite, capsys):
    """Checked against plain averages of the same checkpoints, scored one by one."""
    from apo_soup.config.recipe import load
    from merge.greedy import greedy_members
    from merge.plan import soup_members
    from merge.scores import scores

    path = merge_file(soup={"members": "greedy", "metric": "taste", "dtype": "float32"})
    recipe = load(path, "merge")
    assert len(soup_members(recipe, ask=False)) == 3, "not worked out yet"
    kept = soup_members(recipe)
    told = json.loads((run / "greedy" / "greedy.json").read_text())
    folders = {k: run / "apo" / k for k in "123"}
    subsets = ["1", "2", "3", "12", "13", "23", "123"]
    mixes = {s: {folders[k]: 1 / len(s) for k in s} for s in subsets}
    value = {s: m["taste"]["value"] for s, m in scores(suite, mixes, run / "check", ["taste"]).items()}
    assert told["alone"] == pytest.approx({k: value[k] for k in "123"})
    expected, *rest = sorted("123", key=lambda k: -value[k])
    for name in rest:
        tried = expected + name
        if value["".join(sorted(tried))] >= value["".join(sorted(expected))]:
            expected = tried
    expected = list(expected)
    assert [f.name for f in kept] == expected == told["kept"]
    capsys.readouterr()
    assert greedy_members(recipe, list(folders.values()), ask=False) == kept
    assert "begins" not in capsys.readouterr().out, "the same members and suite ask nothing again"
    with pytest.raises(UserError, match=r"greedy needs soup\.metric"):
        soup_members(load(merge_file(soup={"members": "greedy"}), "merge"))


def test_a_mix_that_is_written_wrongly_is_told(suite):
    for mix in ("half", "half:a", "a/b:x=1", "half:x=much"):
        assert f"--mix {mix}: expected" in refused("-m", "apo_soup", "eval", "--config", suite, "--mix", mix)


@pytest.mark.parametrize("settings", [{}, {"merge_method": "slerp", "base_model": "mid", "parameters": {"t": 0.5}}])
def test_values_that_are_not_finite_stop_any_merge_before_it_writes(run, merge_run, settings):
    merge_run()
    file = run / "mid" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    shutil.rmtree(run / "merged")
    models = [{"model": m, **({} if settings else {"parameters": {"weight": 0.5}})} for m in ("soup", "mid")]
    merge = {"merge_method": "linear", "dtype": "float32", "models": models} | settings
    with pytest.raises(
        UserError, match=r"tensor model\.norm\.weight of .*mid/model\.safetensors holds values that are not"
    ):
        merge_run(merge=merge)
    assert not (run / "merged").exists()
    assert not (run / ".merged.partial").exists()


def test_a_hash_says_in_the_same_read_whether_all_values_are_finite(tmp_path):
    import hashlib

    from apo_soup.runs.model_files import not_finite, recorded
    from apo_soup.weights import hash_weights

    file = tmp_path / "model.safetensors"
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tensors = {"a": torch.ones(3, dtype=torch.int64), "b": torch.ones(400_001, dtype=dtype), "c": torch.ones(5)}
        save_file(tensors, file)
        assert hash_weights(file) == (hashlib.sha256(file.read_bytes()).hexdigest(), None)
        tensors["b"][400_000] = float("-inf")
        save_file(tensors, file)
        assert hash_weights(file) == (hashlib.sha256(file.read_bytes()).hexdigest(), "b")
    assert recorded(file)["finite"] is False
    assert not_finite(tmp_path) == (file, "b")


def test_verify_sees_what_is_missing_and_what_is_no_number(run, merge_run):
    from merge.linear import verify
    from merge.plan import Linear

    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))]
    merge_run(merge={"merge_method": "linear", "dtype": "float64", "out_dtype": "bfloat16", "models": models})
    linear = Linear((run / "soup", run / "mid"), (0.9, 0.1), True, "float64", "bfloat16")
    verify(linear, run / "merged", "here", lambda text: None)
    file = run / "merged" / "model.safetensors"
    good = load_file(file)
    save_file({k: v for k, v in good.items() if k != "model.norm.weight"}, file)
    with pytest.raises(UserError, match=r"tensor model\.norm\.weight is not in"):
        verify(linear, run / "merged", "here")
    save_file(good | {"model.norm.weight": torch.full((32,), float("nan"))}, file)
    with pytest.raises(UserError, match="holds values that are not finite"):
        verify(linear, run / "merged", "here")


def test_what_our_sum_would_do_otherwise_goes_to_mergekit(run, merge_run, tmp_path):
    """Without a dtype mergekit keeps and promotes the types that the inputs have, tensor by tensor."""
    file = run / "mid" / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))]
    merge_run(merge={"merge_method": "linear", "models": models})
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"
    assert {t.dtype for t in state_dict(run / "merged").values()} == {torch.float32}
    sliced = [
        {"sources": [{"model": m, "layer_range": [0, 4], "parameters": {"weight": 0.5}} for m in ("soup", "mid")]}
    ]
    merge_run(merge={"merge_method": "linear", "dtype": "float32", "slices": sliced})
    soup, mid = state_dict(run / "soup"), state_dict(run / "mid")
    for name, tensor in state_dict(run / "merged").items():
        torch.testing.assert_close(tensor, (soup[name] + mid[name].float()) / 2, atol=1e-6, rtol=1e-6)


PAIR = {
    "merge_method": "linear",
    "dtype": "float32",
    "models": [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))],
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"merge": {"merge_method": "linear", "models": ["soup", "mid"]}}, "a model of a merge is a mapping"),
        ({"merge": {"merge_method": "linear", "parameters": [1], "models": []}}, "merge.parameters is a dict"),
        ({"merge": {"merge_method": "linear", "dtype": "float32"}}, "mergekit refuses the file"),
        ({"options": {"safe_serialization": False}}, "weights are always safetensors"),
        ({"one_pass": True, "options": {"cuda": True}}, "one_pass does without it"),
        ({"options": {"cuda": True}}, "options.cuda needs a GPU"),
        ({"options": {"num_thread": 2}}, r"unknown key options\.num_thread"),
        ({"options": {"allow_crimes": True}}, "models of different architectures are refused first"),
        ({"soup": {"members": "all", "dtype": "int64"}}, "no type of weights is called int64"),
        ({"long_context": {"original_max_position_embeddings": 512}}, "long_context needs a factor"),
        ({"merge": PAIR | {"merge_method": "liner"}}, "mergekit has no merge_method liner; the nearest is linear"),
        ({"merge": PAIR | {"dtype": "floaty"}}, "no type of weights is called floaty"),
        ({"merge": PAIR | {"chat_template": "chatmll"}}, "chat_template chatmll is neither Jinja text nor one of"),
        ({"merge": PAIR | {"tokenizer": {"sorce": "union"}}}, r"unknown key merge\.tokenizer\.sorce"),
        ({"merge": PAIR | {"tokenizer_source": "unoin"}}, "no stage or folder is called unoin; the nearest"),
        ({"merge": PAIR | {"models": [{"model": "/no/where@main"}]}}, "/no/where@main is no stage, no folder"),
        (
            {"merge": {"merge_method": "linear", "slices": [{"sources": [
                {"model": m, "layer_range": [0, 4], "paramters": {"weight": 1}} for m in ("soup", "mid")]}]}},
            r"unknown key merge\.slices\.0\.sources\.0\.paramters",
        ),
        (
            {"merge": {"merge_method": "ties", "base_model": "mid", "dtype": "float32", "parameters": {"densty": 1},
                       "models": [{"model": "soup"}, {"model": "mid"}]}},
            "ties has no parameter densty",
        ),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_sensible_is_one_sentence(run, merge_run, changes, told):
    with pytest.raises(UserError, match=told):
        merge_run(**changes)
    assert not (run / "merged").exists()


def test_a_vocabulary_may_differ_where_the_merge_names_its_tokenizer(run, merge_run):
    file = run / "mid" / "model.safetensors"
    tensors = load_file(file)
    embedded = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([embedded, torch.zeros(8, embedded.shape[1])])
    save_file(tensors, file, metadata={"format": "pt"})
    set_config(run / "mid", vocab_size=len(tensors["model.embed_tokens.weight"]))
    with pytest.raises(UserError, match="vocab_size is"):
        merge_run(merge=PAIR)
    merge_run(merge=PAIR | {"tokenizer_source": "soup"})
    assert len(state_dict(run / "merged")["model.embed_tokens.weight"]) == len(embedded)


def test_options_reach_mergekit_as_they_are(run, merge_run, monkeypatch):
    """A GPU is made believe, and mergekit's own function is watched and then run without one."""
    import mergekit.merge
    from mergekit.options import MergeOptions

    seen = []
    original = mergekit.merge.run_merge

    def watched(config, out_path, options):
        seen.append(options)
        return original(config, out_path, MergeOptions(copy_tokenizer=options.copy_tokenizer, quiet=True))

    monkeypatch.setattr(mergekit.merge, "run_merge", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    merge_run(merge=PAIR, options={"cuda": True, "low_cpu_memory": True, "num_threads": 1})
    assert len(seen) == 2, "soup and merge"
    options = seen[-1]
    assert (options.cuda, options.low_cpu_memory, options.num_threads) == (True, True, 1)
    assert torch.get_num_threads() == 1
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"


def test_a_chat_template_that_the_merge_names_excuses_no_other_tokens(run, merge_run):
    file = run / "mid" / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    tokenizer = json.loads(text)
    a, b, *_ = vocabulary = tokenizer["model"]["vocab"]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    file.write_text(json.dumps(tokenizer))
    for chosen in ({}, {"chat_template": "chatml"}):
        with pytest.raises(UserError, match=r"differ in their tokens; .* key tokenizer_source"):
            merge_run(merge=PAIR | chosen)
    file.write_text(text, encoding="utf-8")
    (run / "mid" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match=r"differ in their chat template; .* key chat_template"):
        merge_run(merge=PAIR)
    merge_run(merge=PAIR | {"chat_template": "chatml"})
    assert "<|im_start|>" in (run / "merged" / "chat_template.jinja").read_text()


def test_a_first_model_without_a_tokenizer_is_refused(run, merge_run):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        for number in "123":
            (run / "apo" / number / file).unlink()
    with pytest.raises(UserError, match="1 has no tokenizer"):
        merge_run()
    assert not (run / "soup").exists()


def test_parents_settings_of_generation_are_kept(run, merge_run):
    settings = {"do_sample": False, "repetition_penalty": 1.1, "max_new_tokens": 77}
    (run / "apo" / "1" / "generation_config.json").write_text(json.dumps(settings))
    merge_run()
    merged = json.loads((run / "merged" / "generation_config.json").read_text())
    assert settings.items() <= merged.items()
    assert merged["eos_token_id"] == [2]
    assert "temperature" not in merged


def test_a_member_mixed_in_beside_its_soup_is_summed_once(run, merge_run):
    """0.9 of the mean of three and 0.1 of the first: weights 0.4, 0.3 and 0.3."""
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("apo/1", 0.1))]
    merge_run(merge=PAIR | {"dtype": "float64", "out_dtype": "float32", "models": models}, one_pass=True)
    members = [state_dict(run / "apo" / k) for k in "123"]
    for name, tensor in state_dict(run / "merged").items():
        exact = 0.4 * members[0][name].double() + 0.3 * (members[1][name].double() + members[2][name].double())
        torch.testing.assert_close(tensor.double(), exact, atol=0, rtol=1e-6)


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


def test_adapters_that_fill_the_disk_are_told_before_one_is_written(run, merge_run, tiny_model, monkeypatch):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    base.config.name_or_path = base.name_or_path = str(tiny_model)
    get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(run / "adapter")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(UserError, match="GB free and the merge needs about"):
        merge_run(soup={"members": [str(run / "adapter")], "dtype": "float32"})
    assert not list(run.glob(".soup*"))


@pytest.mark.parametrize(
    "header", ["[]", '{"x": {}}', '{"x": "y"}', '{"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}']
)
def test_a_header_that_makes_no_sense_is_told(tmp_path, header):
    from merge.tensors import stored_tensors

    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(64))
    with pytest.raises(UserError, match=r"no readable safetensors header|which its shape does not fit"):
        stored_tensors(tmp_path, "here")


@pytest.mark.parametrize(
    ("before", "rope"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}},
         {"rope_theta": 5e5, "partial_rotary_factor": 0.5}),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256,
                                             "beta_fast": 16}},
         {"rope_theta": 1e4, "original_max_position_embeddings": 256, "beta_fast": 16}),
    ],
)  # fmt: skip
def test_yarn_keeps_what_a_model_says_of_its_positions(before, rope):
    from merge.run import scaled

    config = scaled({"max_position_embeddings": 512, **before}, {"factor": 4.0}, "here")
    assert "rope_scaling" not in config
    assert "rope_theta" not in config
    expected = {"original_max_position_embeddings": 512, **rope, "rope_type": "yarn", "factor": 4.0}
    assert config["rope_parameters"] == expected
    assert config["max_position_embeddings"] == 4 * expected["original_max_position_embeddings"]
    layered = {"rope_parameters": {"full": {"rope_type": "default"}}, "max_position_embeddings": 512}
    with pytest.raises(UserError, match="differ from layer to layer"):
        scaled(layered, {"factor": 2.0}, "here")
