"""Supervised training end to end on a tiny model: loss, resuming after a kill, PEFT, two processes."""

import json

import pytest
import torch
from data_helpers import trained_ids
from helpers import ROOT, TRAINING, chat, python, state_dict
from programs import Programs, kill_at, program, run_ok

ROWS = [
    chat(f"What is {a} + {b}?", f"<think>\n{a} + {b} = {a + b}\n</think>\n{a + b}", True)
    for a in range(9)
    for b in range(9)
]


@pytest.fixture
def sft_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A small sft recipe; keyword arguments override its keys."""

    def make(name="out", **changes):
        rows = write_rows("rows.jsonl", ROWS)
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / name / "sft"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0},
            "assistant_only_loss": True,
            "packing": True,
            "max_length": 128,
            "max_steps": 6,
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "sft"

    return make


def test_sft_writes_a_whole_folder_and_skips_when_nothing_changed(sft_recipe):
    path, folder = sft_recipe()
    first = run_ok("-m", "sft", "--config", path)
    assert "sft: running, because it has not run yet" in first
    names = {f.name for f in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "manifest.json"} <= names
    assert not list(folder.parent.glob(".sft.*"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["metrics"]["steps"] == 6
    assert manifest["config"]["learning_rate"] == 1e-2
    assert set(manifest["inputs"]) == {"model", f"rows {path.parent}/rows.jsonl #0"}
    assert manifest["metrics"]["data"][1]["mode"] == "think"
    assert manifest["metrics"]["data"][1]["kept"] == 81
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    losses = [r["loss"] for r in log if "loss" in r]
    assert losses[-1] < losses[0] - 0.5
    again = run_ok("-m", "sft", "--config", path)
    assert "sft: up to date, skipped" in again
    changed = python("-m", "sft", "--config", path, "--learning_rate", "1e-3", "--state")
    assert changed.returncode == 3
    assert "sft: stale, because learning_rate was 0.01 and is 0.001" in changed.stdout


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(sft_recipe):
    options = {"max_steps": 40, "save_steps": 5, "save_total_limit": None, "weight_decay": 0.1}
    whole_path, whole = sft_recipe("whole", **options)
    run_ok("-m", "sft", "--config", whole_path)
    path, folder = sft_recipe("killed", **options)
    partial = folder.parent / ".sft.partial"
    kill_at(Programs("-m", "sft", "--config", path), partial / "checkpoint-10" / "whole")
    assert not folder.exists()
    (partial / "checkpoint-39").mkdir()  # as a kill in the middle of a save leaves it
    output = run_ok("-m", "sft", "--config", path)
    assert "going on from step" in output
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_loss_of_a_step_is_the_mean_over_its_trained_tokens(sft_recipe, tiny_model, tokenizer):
    """Two rows in one step against a plain forward pass of each document alone, in float32."""
    from transformers import AutoModelForCausalLM

    from apo_soup.data.char_to_token import token_ranges
    from apo_soup.data.conversations.conversation import parse_conversation
    from apo_soup.data.rendering.trained_spans import Renderer
    from apo_soup.models.tokenizer import encode

    path, folder = sft_recipe(max_steps=1, per_device_train_batch_size=8, max_length=512, lr_scheduler_type="constant")
    run_ok("-m", "sft", "--config", path)
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    renderer, total, count = Renderer(tokenizer), 0.0, 0
    from datasets import load_from_disk

    (prepared,) = (folder.parent / "prepared").glob("sft-*")
    rows = load_from_disk(str(prepared))["train"]
    assert sum(len(r) for r in rows["seq_lengths"]) == len(ROWS)
    for row in ROWS:
        rendered = renderer.conversation(parse_conversation(row, {}))
        encoding = encode(tokenizer, [rendered.text])[0]
        ((first, last),) = token_ranges(encoding.offsets, rendered.spans)
        ids = torch.tensor([encoding.ids])
        with torch.no_grad():
            scores = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        total -= scores.gather(1, ids[0, 1:, None])[first - 1 : last - 1].sum().item()
        count += last - first
    assert len(rows) <= 8, "all documents must be in the first step"
    assert log[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_packing_changes_no_loss_and_no_weight(sft_recipe):
    """All rows in one step, packed or a row each: the same loss, and the same weights after it."""
    rows = {"per_device_train_batch_size": 81, "max_steps": 2, "lr_scheduler_type": "constant"}
    packed_path, packed = sft_recipe("packed", packing=True, packing_strategy="bfd", max_length=64, **rows)
    plain_path, plain = sft_recipe("plain", packing=False, max_length=64, **rows)
    losses = []
    for path, folder in ((packed_path, packed), (plain_path, plain)):
        run_ok("-m", "sft", "--config", path)
        losses.append([r["loss"] for r in json.loads((folder / "trainer_state.json").read_text())["log_history"][:2]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, tensor in state_dict(packed).items():
        torch.testing.assert_close(state_dict(plain)[name], tensor, atol=1e-5, rtol=1e-4)


def test_an_adapter_is_merged_into_a_plain_folder(sft_recipe, tiny_model):
    path, folder = sft_recipe(use_peft=True, lora_r=4, lora_target_modules=["q_proj", "v_proj"], max_steps=4)
    run_ok("-m", "sft", "--config", path)
    before, after = state_dict(tiny_model), state_dict(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if "q_proj" in n or "v_proj" in n}
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()


def test_two_processes_train_on_the_whole_step(sft_recipe):
    """Two ranks of batch 2 make the same first step as one rank of batch 4: same loss, same weights to 1e-5."""
    one_path, one = sft_recipe("one", max_steps=2, per_device_train_batch_size=4)
    two_path, two = sft_recipe("two", max_steps=2, per_device_train_batch_size=2)
    run_ok("-m", "sft", "--config", one_path)
    launched = python("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "sft", "--config", two_path)
    assert launched.returncode == 0, launched.stderr
    for name, tensor in state_dict(one).items():
        torch.testing.assert_close(state_dict(two)[name], tensor, atol=1e-5, rtol=1e-4)


def test_bad_rows_are_counted_kept_aside_and_stop_the_run_when_many(sft_recipe, write_rows):
    path, folder = sft_recipe(max_steps=1)
    rows = write_rows("rows.jsonl", [*ROWS, {"messages": [{"role": "user", "content": 3}]}])
    with rows.open("a") as file:
        file.write("{not json\n")
    result = program("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert "max_reject_share: expected at most 0.01 of the rows rejected, got 2 of 83" in result.stderr
    assert f"{rows}:82: field messages[0].content: expected text, got int 3" in result.stderr
    rejects = [json.loads(line) for line in (folder.parent / "prepared" / "sft-rejects.jsonl").read_text().splitlines()]
    assert [r["row"] for r in rejects] == [f"{rows}:82", f"{rows}:83"]
    assert "not valid JSON" in rejects[1]["reason"]
    run_ok("-m", "sft", "--config", path, "--max_reject_share", "0.05")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sum(s["kept"] for s in manifest["metrics"]["data"]) == 81
    assert sum(s["rejected"] for s in manifest["metrics"]["data"]) == 2


@pytest.mark.parametrize("name", ["mid", "sft"])
def test_a_published_recipe_file_trains_with_model_and_data_paths_changed(name, tiny_model, write_rows, tmp_path):
    rows = write_rows("rows.jsonl", ROWS)
    words = [
        "--model_name_or_path",
        tiny_model,
        "--output_dir",
        tmp_path / name,
        "--dataset_mixture.datasets.0.id",
        rows,
    ]
    words += ["--dataset_mixture.datasets.0.split", "train", "--max_steps", "1", "--max_length", "256"]
    config = ROOT / "tests" / "handbook" / f"{name}.yaml"
    if name == "sft":
        words += ["--dataset_mixture.datasets.1.id", rows, "--dataset_mixture.datasets.1.split", "train"]
        words += ["--dataset_mixture.datasets.1.weight", "0.5"]
    output = run_ok("-m", "sft", "--config", config, *words)
    assert "torch_dtype is read as dtype" in output
    assert "flash_attention_2 is not available here, sdpa is used" in output
    assert (tmp_path / name / "model.safetensors").is_file()


def test_a_column_that_no_row_has_is_an_error(sft_recipe):
    path, _ = sft_recipe()
    result = program(
        "-m", "sft", "--config", path, "--dataset_mixture.datasets.0.columns", "[messages, chat_template_kwarg]"
    )
    assert result.returncode == 2
    assert "expected columns that the rows have, got chat_template_kwarg, which no row has" in result.stderr


def test_prompt_and_completion_rows_train_on_the_completion_only(sft_recipe, write_rows, tokenizer):
    from datasets import load_from_disk

    no_think = {"chat_template_kwargs": {"enable_thinking": False}}
    path, folder = sft_recipe(assistant_only_loss=False, packing=False, max_steps=1, **no_think)
    before = [*chat("One?", "It was 1")["messages"], {"role": "user", "content": "Two?"}]
    rows = [{"prompt": f"Say {n}", "completion": f"It is {n}"} for n in range(4)]
    write_rows("rows.jsonl", [*rows, {"prompt": before, "completion": "It is 2"}])
    run_ok("-m", "sft", "--config", path)
    (prepared,) = (folder.parent / "prepared").glob("sft-*")
    for row in load_from_disk(str(prepared))["train"]:
        trained = tokenizer.decode(trained_ids(row["input_ids"], row["trained_ranges"]))
        assert trained.startswith("It is ")
        assert trained.endswith("<|im_end|>")


def test_non_finite_gradients_stop_the_run(sft_recipe, tiny_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    path, folder = sft_recipe(model_name_or_path=str(broken))
    result = program("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert (
        "step 0: expected finite weights, got model.norm.weight with values that are not; train or fetch"
        in result.stderr
    )
    assert not folder.exists()


def test_options_for_loading_that_the_model_does_not_take_are_one_sentence(sft_recipe):
    path, _ = sft_recipe(model_init_kwargs={"nonsense": 1}, max_steps=1)
    refused = program("-m", "sft", "--config", path)
    assert refused.returncode == 2
    assert "model_init_kwargs: expected arguments that the model is loaded with, got a refusal" in refused.stderr
    assert "Traceback" not in refused.stderr
