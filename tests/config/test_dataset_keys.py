"""Keys by which TRL and alignment-handbook name rows: copies of the keys of their files, not of the files."""

import pytest
import yaml

from apo_soup.config.load import load
from apo_soup.errors import UserError

# What the files of alignment-handbook have in common, and what each kind of them adds.
COMMON = """
model_name_or_path: org/model
torch_dtype: bfloat16
attn_implementation: flash_attention_2
dataset_num_proc: 12
bf16: true
gradient_accumulation_steps: 2
gradient_checkpointing: true
gradient_checkpointing_kwargs: {use_reentrant: false}
hub_model_id: model-sft
hub_strategy: every_save
learning_rate: 5.0e-7
log_level: info
logging_steps: 5
logging_strategy: steps
lr_scheduler_type: cosine
max_steps: -1
num_train_epochs: 1
output_dir: data/model-sft
overwrite_output_dir: true
per_device_train_batch_size: 8
push_to_hub: true
remove_unused_columns: true
report_to: [tensorboard, wandb]
save_strategy: "no"
seed: 42
warmup_ratio: 0.1
"""
EVALUATES = "do_eval: true\neval_strategy: steps\neval_steps: 100\nper_device_eval_batch_size: 8\n"
NAMED = "dataset_name: org/rows\ndataset_config: all\ndataset_train_split: train_sft\ndataset_test_split: test_sft\n"
MIXER = "dataset_mixer: {org/a: 1.0, org/b: 0.5}\ndataset_splits: [train_prefs, test_prefs]\n"
MIXTURE = "dataset_mixture: {datasets: [{id: org/a, config: default, weight: 1.0}], test_split_size: 2000, seed: 0}\n"
PAIRS = "beta: 0.01\nmax_length: 1024\nmax_prompt_length: 512\noptim: adamw_torch\n"


def loaded(folder, kind, text):
    (folder / f"{kind}.yaml").write_text(text)
    return load(folder / f"{kind}.yaml", kind)


def test_a_dataset_by_its_name_is_a_mixture_of_one(tmp_path):
    text = COMMON + NAMED + EVALUATES + "max_seq_length: 8192\n"
    recipe = loaded(tmp_path, "sft", text)
    (source,) = recipe.dataset_mixture.datasets
    assert (source.id, source.config, source.split, source.weight) == ("org/rows", "all", "train_sft", 1)
    assert (recipe.max_length, recipe.eval_strategy, recipe.dataset_mixture.test_split_size) == (8192, "no", None)
    lines = text.splitlines()
    for key in ("dataset_name", "dataset_config", "dataset_train_split"):
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(f"{key}:"))
        assert f"{tmp_path}/sft.yaml:{number}: {key} is read into dataset_mixture" in recipe.notes
    told = [note for note in recipe.notes if "eval_s" in note or "do_eval" in note or "dataset_test_split" in note]
    assert len(told) == 4


def test_a_mixer_gives_every_training_split_its_share(tmp_path):
    recipe = loaded(tmp_path, "apo", COMMON + MIXER + PAIRS + EVALUATES)
    assert [(s.id, s.split, s.weight) for s in recipe.dataset_mixture.datasets] == [
        ("org/a", "train_prefs", 1.0),
        ("org/b", "train_prefs", 0.5),
    ]


def test_rows_held_out_by_number_and_revisions_of_the_hub_are_taken(tmp_path):
    recipe = loaded(
        tmp_path, "apo", COMMON + MIXTURE + PAIRS + EVALUATES + "hub_model_revision: dpo\nlogging_dir: logs\n"
    )
    assert recipe.dataset_mixture.test_split_size == 2000
    assert (recipe.hub_revision, recipe.eval_strategy, recipe.logging_dir) == ("dpo", "steps", "logs")


def test_the_example_of_trl_is_taken(tmp_path):
    example = {"model_name_or_path": "org/m", "dataset_name": "org/rows", "report_to": "none", "learning_rate": 0.0001}
    recipe = loaded(
        tmp_path, "sft", yaml.safe_dump({**example, "lr_scheduler_type": "cosine", "output_dir": "test-sft"})
    )
    assert recipe.dataset_mixture.datasets[0].split == "train"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            NAMED + MIXTURE,
            "dataset_name: expected one of dataset_name and dataset_mixture, which name the rows, got both",
        ),
        (NAMED + MIXER, "dataset_name: expected one of dataset_name and dataset_mixer"),
        ("dataset_name: [a, b]\n", "dataset_name: expected an id or a path"),
        ("dataset_mixer: org/a\n", "dataset_mixer: expected a mapping of ids and their shares, got 'org/a'"),
        (
            "dataset_mixer: {org/a: 1}\ndataset_splits: [test]\n",
            "dataset_splits: expected a split to train on, got test",
        ),
        ("dataset_mixer: {org/a: 1}\ndataset_configs: [a, b]\n", "dataset_configs: expected one for each of the 1"),
        (
            "dataset_name: org/a\ndataset_splits: [train_sft]\n",
            "dataset_splits: expected it beside dataset_mixer, got it beside dataset_name; write dataset_train_split",
        ),
        (
            "dataset_name: org/a\ndataset_configs: [b]\n",
            "dataset_configs: expected it beside dataset_mixer, got it beside dataset_name; write dataset_config,",
        ),
        (
            "dataset_mixer: {org/a: 1}\ndataset_train_split: b\n",
            "dataset_train_split: expected it beside dataset_name, got it beside dataset_mixer; write dataset_splits,",
        ),
        ("dataset_mixer: {org/a: much}\n", "dataset_mixture.datasets.0.weight: expected"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, more, sentence):
    with pytest.raises(UserError) as raised:
        loaded(tmp_path, "sft", COMMON + more)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_of_orpo_is_told_that_it_is_another_method(tmp_path):
    orpo = COMMON.replace("model-sft", "model-orpo") + PAIRS + "dataset_name: org/rows\n"
    with pytest.raises(UserError, match="got one of ORPO, another method, without a reference"):
        loaded(tmp_path, "apo", orpo)
    assert loaded(tmp_path, "apo", orpo + "loss_type: apo_zero\n").loss_type == ["apo_zero"]


@pytest.mark.parametrize("name", ["corpora", "me/corporate-llm", "data/torporous"])
def test_a_name_with_orpo_inside_a_word_is_no_other_method(tmp_path, name):
    text = COMMON.replace("model-sft", name).replace("data/data", "data") + PAIRS + "dataset_name: org/rows\n"
    assert loaded(tmp_path, "apo", text).hub_model_id == name


def test_a_file_of_orpo_is_told_its_other_mistakes_too(tmp_path):
    orpo = COMMON.replace("model-sft", "zephyr_orpo") + "dataset_name: org/rows\nno_such_key: 1\n"
    with pytest.raises(UserError, match="another method") as raised:
        loaded(tmp_path, "apo", orpo)
    assert "no_such_key" in str(raised.value)


def test_a_mixer_may_be_streamed_and_keeps_no_best_checkpoint(tmp_path):
    text = COMMON.replace('save_strategy: "no"', "save_strategy: best")
    recipe = loaded(
        tmp_path, "apo", text + MIXER + EVALUATES + "dataset_streaming: true\nload_best_model_at_end: true\n"
    )
    assert all(source.streaming for source in recipe.dataset_mixture.datasets)
    assert not recipe.load_best_model_at_end
    assert recipe.save_strategy != "best"
    told = [note for note in recipe.notes if "is dropped, since no rows are held out" in note]
    assert len([note for note in told if "load_best" in note or "save_strategy" in note]) == 2
