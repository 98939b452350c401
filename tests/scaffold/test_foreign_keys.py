"""Keys of axolotl and LLaMA-Factory mean here what they mean there."""

import pytest
import yaml

from apo_soup.errors import UserError
from apo_soup.scaffold.converted import convert_recipe, converted_keys, leave_out_wrong


def _of(text, tmp_path):
    """Keys and fates of a configuration; its mixture is among the keys."""
    made = converted_keys(yaml.safe_load(text), tmp_path / "theirs.yml", tmp_path / "mine")
    leave_out_wrong(made, tmp_path / "mine")
    return made.keys | {"dataset_mixture": made.mixture}, {fate.key: (fate.taken, fate.why) for fate in made.fate}


def test_what_axolotl_does_where_nothing_is_written(tmp_path):
    keys, _ = _of("base_model: org/m\ndatasets: [{path: org/rows, type: chat_template}]\n", tmp_path)
    expected = {"warmup_steps": 0.03, "overflow": "drop", "assistant_only_loss": True, "lr_scheduler_type": "cosine"}
    assert {name: keys.get(name) for name in expected} == expected
    texts = "base_model: org/m\ndatasets: [{path: org/rows, type: completion}]\nload_in_4bit: true\nadapter: qlora\n"
    keys, _ = _of(texts, tmp_path)
    expected = {"overflow": "split", "assistant_only_loss": False, "use_bnb_nested_quant": True}
    assert {name: keys.get(name) for name in expected} == expected


def test_texts_beside_chats_are_told_to_train_prompts_too(tmp_path):
    rows = "[{path: org/a, type: completion}, {path: org/b, type: chat_template}]"
    keys, fate = _of(f"base_model: org/m\ndatasets: {rows}\n", tmp_path)
    assert keys["assistant_only_loss"] is False
    assert fate["train_on_inputs"][1] == "some rows are texts, so that the prompts of the others are trained too"


AXOLOTL_LINES = [
    ("batch_size: 8\nmicro_batch_size: 2", {"gradient_accumulation_steps": 4}),
    ("wandb_project: mine", {"report_to": ["wandb"], "project": "mine"}),
    ("tokens: [<|a|>]", {"add_tokens": ["<|a|>"], "resize_embeddings": True}),
    ("evaluation_strategy: epoch\nval_set_size: 0.1", {"eval_strategy": "epoch"}),
    ("eval_steps: 20\nval_set_size: 0.1", {"eval_strategy": "steps", "eval_steps": 20}),
    ("eval_steps: 20", {"eval_strategy": None, "eval_steps": None}),
    ("fsdp_config: {offload_params: false}\ndeepspeed: zero2.json", {"fsdp_config": None, "deepspeed": None}),
    ("bnb_config_kwargs: {bnb_4bit_use_double_quant: false}\nload_in_4bit: true\nadapter: qlora",
     {"use_bnb_nested_quant": False}),
    ("special_tokens: {eos_token: </s>, pad_token: <pad>}", {"eos_token": "</s>"}),
    ("excess_length_strategy: truncate", {"overflow": "truncate"}),
    ("context_parallel_size: 4", {"sequence_parallel_size": 4}),
    ("context_parallel_size: 1", {"sequence_parallel_size": None}),
    ("sequence_parallel_degree: 2", {"sequence_parallel_size": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), AXOLOTL_LINES)
def test_keys_of_axolotl_mean_the_same_here(lines, expected, tmp_path):
    keys, fate = _of(f"base_model: org/m\ndatasets: [{{path: org/rows, type: chat_template}}]\n{lines}\n", tmp_path)
    assert {name: [keys[name]] if name == "report_to" else keys.get(name) for name in expected} == expected
    for name in yaml.safe_load(lines):
        assert name in fate or name in ("val_set_size",), name


def test_duplicates_that_axolotl_drops_are_dropped(tmp_path):
    text = "base_model: org/m\ndatasets: [{path: org/rows, type: chat_template}]\ndataset_exact_deduplication: true\n"
    assert _of(text, tmp_path)[0]["dataset_mixture"]["deduplicate"] == "exact"


LLAMA_LINES = [
    ("pref_ftx: 0.5\nstage: dpo", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
    ("use_dft_loss: true", {"loss_type": "dft"}),
    ("stage: pt", {"packing": True, "assistant_only_loss": None}),
    ("quantization_bit: 4", {"load_in_4bit": True, "use_bnb_nested_quant": True}),
    ("quantization_bit: 4\nquantization_method: hqq", {"load_in_4bit": None}),
    ("disable_gradient_checkpointing: true", {"gradient_checkpointing": False}),
    ("context_parallel_size: 2", {"sequence_parallel_size": 2}),
    ("enable_liger_kernel: true\nsequence_parallel_size: 2", {"sequence_parallel_size": None}),
    ("additional_target: embed_tokens, lm_head", {"lora_modules_to_save": ["embed_tokens", "lm_head"]}),
]


@pytest.mark.parametrize(("lines", "expected"), LLAMA_LINES)
def test_keys_of_llama_factory_mean_the_same_here(lines, expected, tmp_path):
    text = f"model_name_or_path: org/m\nfinetuning_type: lora\ntemplate: qwen\ndataset: org/rows\n{lines}\n"
    keys, fate = _of(text, tmp_path)
    assert {name: keys.get(name) for name in expected} == expected
    assert yaml.safe_load(lines).keys() <= fate.keys()


def test_data_sets_of_llama_factory_are_looked_up_from_where_its_commands_run(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"mine": {"file_name": "rows.json"}}')
    monkeypatch.chdir(tmp_path)
    text = "model_name_or_path: org/m\nfinetuning_type: full\ntemplate: qwen\ndataset: mine\n"
    keys, _ = _of(text, tmp_path / "examples")
    assert keys["dataset_mixture"]["datasets"] == [{"id": "../../data/rows.json"}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("base_model: org/m\nval_set_size: 0.1\n", "datasets"),
        ("model_name_or_path: org/m\nfinetuning_type: lora\ntemplate: qwen\neval_dataset: identity\n", "dataset"),
    ],
)
def test_a_configuration_without_rows_is_told_in_its_own_words(text, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yml").write_text(text)
    with pytest.raises(UserError) as told:
        convert_recipe("mine", "theirs.yml", print)
    assert str(told.value) == (
        "theirs.yml: expected rows to train on, got none that a recipe could name; "
        f"write the file or the id of a data set below {rows}"
    )
