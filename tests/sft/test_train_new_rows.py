"""Training with new tokens end to end: what is saved, a kill, an adapter; two processes are in test_fsdp.py."""

import json

import pytest
import torch
from helpers import TRAINING, chat, state_dict
from programs import Programs, kill_at, program, run_ok
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = [chat(f"What is {a} + {b}?", f"<cite>{a} + {b}</cite>{a + b}", False) for a in range(9) for b in range(4)]
NEW = {"add_tokens": ["<cite>", "</cite>"], "resize_embeddings": True}
LORA = {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def cite_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A small sft recipe on answers with new tokens; keyword arguments override its keys."""

    def make(name="out", **changes):
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / name / "sft"),
            "dataset_mixture": {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}], "seed": 0},
            "assistant_only_loss": True,
            "packing": True,
            "max_length": 128,
            "max_steps": 3,
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "sft"

    return make


@pytest.fixture
def untied_model(tiny_model, tmp_path):
    """The tiny model with a head of its own."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, tie_word_embeddings=False)
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(model.lm_head.weight.shape))
    model.save_pretrained(tmp_path / "untied")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "untied")
    return tmp_path / "untied"


def test_a_model_grows_by_rows_of_the_mean_and_nothing_else_changes(cite_recipe, tiny_model):
    """Trained with a learning rate of 0; then a stage behind it, which has nothing left to resize."""
    path, folder = cite_recipe(**NEW, resize_embeddings_multiple_of=8, learning_rate=1e-50, max_steps=1)
    said = run_ok("-m", "sft", "--config", path)
    assert "sft: embeddings resized from 1,024 to 1,032 rows for 1,026 token ids; the new rows are the mean of" in said
    before, after = state_dict(tiny_model), state_dict(folder)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor[: len(before[name])], before[name])
    mean = before[EMBEDDINGS].double().mean(0).float()
    assert torch.equal(after[EMBEDDINGS][1024:], mean.expand(8, -1))

    config = json.loads((folder / "config.json").read_text())
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (1032, True)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer("<cite>x</cite>").input_ids[0::2] == [1024, 1025]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.generation_config.eos_token_id in (tokenizer.eos_token_id, [tokenizer.eos_token_id])
    assert model(torch.tensor([[1024, 5, 1025]])).logits.shape == (1, 3, 1032)

    path, behind = cite_recipe("behind", **NEW, model_name_or_path=str(folder), learning_rate=1e-50, max_steps=1)
    said = run_ok("-m", "sft", "--config", path)
    assert "sft: 1,032 embeddings hold 1,026 token ids, nothing is resized" in said
    assert (behind / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (behind / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_without_resizing_the_run_ends_before_any_row_is_tokenised(cite_recipe):
    path, folder = cite_recipe(add_tokens=["<cite>"])
    result = program("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert "add_tokens: expected a tokenizer of at most 1,024 ids" in result.stderr
    assert not (folder.parent / "prepared").exists()


def test_a_killed_adapter_with_new_rows_ends_with_the_same_bytes(cite_recipe):
    options = NEW | LORA | {"max_steps": 30, "save_steps": 5, "save_total_limit": None}
    whole_path, whole = cite_recipe("whole", **options)
    run_ok("-m", "sft", "--config", whole_path)
    path, folder = cite_recipe("killed", **options)
    partial = folder.parent / ".sft.partial"
    kill_at(Programs("-m", "sft", "--config", path), partial / "checkpoint-10" / "whole")
    assert (partial / "resized" / "config.json").is_file()
    assert "going on from step" in run_ok("-m", "sft", "--config", path)
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert state_dict(folder)[EMBEDDINGS].shape == (1026, 32)


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_trains_the_new_rows_and_no_others(cite_recipe, tiny_model, untied_model, tied):
    from peft import PeftModel

    base = tiny_model if tied else untied_model
    path, folder = cite_recipe(**NEW, **LORA, model_name_or_path=str(base))
    said = run_ok("-m", "sft", "--config", path)
    where = "model.embed_tokens" if tied else "model.embed_tokens and lm_head"
    assert f"adapter: the rows of 2 new tokens are trained too, in {where}" in said
    assert "resized" not in (folder / "adapter" / "README.md").read_text()
    before, after = state_dict(base), state_dict(folder)
    assert before.keys() == after.keys()
    for name in (EMBEDDINGS,) if tied else (EMBEDDINGS, HEAD):
        assert torch.equal(after[name][:1024], before[name])
        assert (after[name][1024:] - before[name].mean(0)).abs().amax(1).min() > 1e-3
    assert not torch.equal(
        after["model.layers.0.self_attn.q_proj.weight"], before["model.layers.0.self_attn.q_proj.weight"]
    )

    # The adapter by itself, as plain transformers and peft take it.
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(1026)
    ids = torch.tensor([[5, 1024, 7, 1025, 9]])
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(model, folder / "adapter")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=1e-4)


def test_one_of_two_tied_layers_is_refused_where_tokens_are_new(cite_recipe):
    """PEFT would untie them, and the head's rows of the new tokens would stay the mean."""
    path, _ = cite_recipe(**NEW, **LORA, lora_modules_to_save=["embed_tokens"])
    result = program("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert (
        "lora_modules_to_save: expected both model.embed_tokens and lm_head or none of them, for they are tied and the "
        "model has 2 new tokens, got one without lm_head; leave both out, and the rows of the new tokens are trained"
    ) in result.stderr
