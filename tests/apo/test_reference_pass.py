"""The reference: computed once, for what decides its values, and not in memory after."""

import gc
import shutil

import pytest
import torch
from apo_helpers import facts, log_of, logged, train_members, varied_pairs
from safetensors.torch import load_file, save_file


def test_the_reference_is_computed_anew_for_what_changes_its_values(packed_recipe):
    options = {"max_steps": 1, "learning_rate": 1e-50}
    path, folder = packed_recipe(**options)
    train_members(path)
    assert facts(folder)["reference_passes"] > 0
    train_members(path, "--model_init_kwargs", "{rms_norm_eps: 0.5}")
    assert facts(folder)["reference_passes"] > 0
    assert logged(folder, "loss") == [1.0], "policy and reference are the same model"
    train_members(path, "--seed", "9", "--bf16", "true")
    assert facts(folder)["reference_passes"] > 0
    train_members(path, "--seed", "10")
    assert facts(folder)["reference_passes"] == 0


def test_two_jobs_may_write_one_reference(tmp_path):
    """Members of a cluster array: the second waits for the lock, and whoever writes leaves a whole file."""
    from filelock import FileLock, Timeout

    from apo.reference import ReferenceStore

    store = ReferenceStore(tmp_path / "reference", {"model": "m"})
    values = torch.arange(3.0), torch.arange(3.0) + 1
    with store.locked("train"):
        with pytest.raises(Timeout):
            FileLock(store.locked("train").lock_file, timeout=0).acquire()
        store.write("train", *values)
    found = store.read("train", 3)
    assert all(torch.equal(a, b) for a, b in zip(found, values, strict=True))
    assert not list(tmp_path.rglob("*.partial"))
    assert store.with_content(mixed_precision="bf16").read("train", 3) is None


def test_three_members_need_one_reference_pass_and_later_runs_none(packed_recipe, write_rows, tiny_model, tmp_path):
    """Counted passes: as many as there are rows, once; changed rows or weights are computed anew."""
    settings_ = {"max_steps": 2, "members": [{"seed": 1}, {"seed": 2, "beta": 0.2}, {"seed": 3, "learning_rate": 1e-3}]}
    path, folder = packed_recipe(**settings_)
    train_members(path)
    passes = [facts(folder, member)["reference_passes"] for member in (1, 2, 3)]
    assert passes[0] > 0
    assert passes[1:] == [0, 0]
    train_members(path, "--beta", "0.5", "--learning_rate", "1e-5")
    assert [facts(folder, member)["reference_passes"] for member in (1, 2, 3)] == [0, 0, 0]
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"][0] += 0.5
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    train_members(path, "--model_name_or_path", str(other), "--members", "[{seed: 1}]")
    assert facts(folder)["reference_passes"] == passes[0]
    write_rows("run.jsonl", varied_pairs(5, 24))
    train_members(path, "--members", "[{seed: 1}]")
    assert facts(folder)["reference_passes"] > 0


def test_the_reference_runs_once_for_three_members_as_the_model_itself_counts(packed_recipe, monkeypatch):
    """Forward passes without gradients, counted at the model and not by our program."""
    from transformers import SmolLM3ForCausalLM

    counted = []
    original = SmolLM3ForCausalLM.__call__

    def counting(self, *args, **kwargs):
        if not torch.is_grad_enabled() and "scored_positions" in kwargs:
            counted.append(len(kwargs["targets"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SmolLM3ForCausalLM, "__call__", counting)
    path, folder = packed_recipe(max_steps=1, members=[{"seed": 1}])
    train_members(path)
    first = len(counted)
    passes = facts(folder)["reference_passes"]
    probes = first - passes
    assert passes > 0
    counted.clear()
    train_members(path, "--members", "[{seed: 1, beta: 0.3}, {seed: 2}]")
    assert len(counted) == 2 * probes, "later members only probe"


@pytest.mark.parametrize(
    ("members", "loss"),
    [
        ([{"ld_alpha": 0.5}, {"ld_alpha": 0.1}], "apo_zero"),
        ([{"bf16": True}, {"bf16": False}], "hinge"),
        ([{}, {"model_init_kwargs": {"rms_norm_eps": 0.5}}], "hinge"),
    ],
    ids=["ld_alpha", "precision", "loading"],
)
def test_the_stock_trainers_reference_is_never_another_settings(packed_recipe, members, loss):
    """Without learning policy and reference are one model, and both losses are 1."""
    path, folder = packed_recipe(max_steps=1, learning_rate=1e-50, loss_type=loss, members=members)
    train_members(path)
    for number in (1, 2):
        (entry,) = [entry for entry in log_of(folder, number) if "loss" in entry]
        assert entry["loss"] == pytest.approx(1.0, abs=1e-5)


def test_after_the_reference_pass_no_reference_model_is_in_memory(packed_recipe, monkeypatch):
    """One more model is alive than before the run: the one that is trained."""
    from transformers import SmolLM3ForCausalLM

    from apo.trainer import PackedDPOTrainer

    def alive():
        gc.collect()
        return sum(type(found) is SmolLM3ForCausalLM for found in gc.get_objects())

    seen = []
    original = PackedDPOTrainer.training_step

    def looking(self, *args, **kwargs):
        seen.append(alive())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PackedDPOTrainer, "training_step", looking)
    path, _ = packed_recipe(max_steps=1)
    before = alive()
    train_members(path)
    assert seen == [before + 1]


def test_no_hash_of_the_weights_is_computed_for_packed_pairs(packed_recipe, monkeypatch):
    """TRL names a cache file by it that is not read here; at 3 B parameters it takes 18 s."""
    from trl.trainer import dpo_trainer

    hashed = []
    original = dpo_trainer.hash_module
    monkeypatch.setattr(dpo_trainer, "hash_module", lambda module: hashed.append(module) or original(module))
    path, _ = packed_recipe(max_steps=1)
    train_members(path)
    assert hashed == []
    path, _ = packed_recipe("stock", max_steps=1, packed_pairs=False)
    train_members(path)
    assert len(hashed) == 1, "the stock trainer does need it, and is given TRL's own function back"


@pytest.mark.parametrize("packed", [None, False])
def test_a_fault_of_the_reference_pass_is_no_mistake_in_the_recipe(packed_recipe, monkeypatch, packed):
    from apo.reference import ReferenceStore

    def broken(self, split):
        raise ValueError("a fault of our own")

    monkeypatch.setattr(ReferenceStore, "key", broken)
    path, _ = packed_recipe(max_steps=1, packed_pairs=packed)
    with pytest.raises(ValueError, match="a fault of our own"):
        train_members(path)


def test_pairs_without_a_reference_are_not_trained_on():
    """A trainer whose reference pass was forgotten stops at its first row."""
    from datasets import Dataset

    from apo.prepared_pairs import PreparedPairs

    pairs = PreparedPairs(Dataset.from_dict({n: [[1, 2]] for n in ("prompt_ids", "chosen_ids", "rejected_ids")}))
    assert pairs.packed_pairs([0]).pair_count == 1
    with pytest.raises(KeyError, match="ref_chosen_logps"):
        pairs.packed_row([0])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_checkpointing": True},
        {"use_peft": True, "lora_r": 2, "lora_target_modules": ["q_proj", "up_proj"]},
    ],
    ids=["all", "checkpointing", "adapter"],
)
def test_in_bfloat16_too_a_training_begins_at_a_margin_of_zero(packed_recipe, changes):
    """In two epochs, each with rows of its own: at a learning rate of zero every margin is nothing at all."""
    path, folder = packed_recipe(
        pairs=10, bf16=True, learning_rate=1e-50, num_train_epochs=2, max_steps=-1, logging_steps=1, **changes
    )
    train_members(path)
    assert logged(folder, "rewards/margins") == [0.0] * len(logged(folder, "loss"))
    assert logged(folder, "loss") == [1.0] * len(logged(folder, "loss"))
    assert facts(folder)["reference_passes"] < 2 * 10, "rows hold several pairs"


def test_pairs_that_a_short_training_does_not_reach_need_no_reference(packed_recipe):
    path, folder = packed_recipe(pairs=24, bf16=True, max_steps=1)
    train_members(path)
    short = facts(folder)["reference_passes"]
    train_members(path, "--max_steps", "3")
    assert facts(folder)["reference_passes"] > short


BROKEN = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "empty": lambda file: file.write_bytes(b""),
    "of no form": lambda file: file.write_text("nothing of the kind"),
    "without a side": lambda file: save_file({"chosen": torch.zeros(3)}, file),
    "of more pairs": lambda file: save_file({"chosen": torch.zeros(4), "rejected": torch.zeros(4)}, file),
    "of another shape": lambda file: save_file({"chosen": torch.zeros(3, 1), "rejected": torch.zeros(3, 1)}, file),
    "of whole numbers": lambda file: save_file(
        {"chosen": torch.zeros(3).long(), "rejected": torch.zeros(3).long()}, file
    ),
    "not finite": lambda file: save_file({"chosen": torch.full((3,), torch.nan), "rejected": torch.zeros(3)}, file),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_stored_reference_that_is_broken_is_computed_again(tmp_path, capsys, name):
    from apo.reference import ReferenceStore

    store = ReferenceStore(tmp_path / "reference", {"model": "m"})
    store.write("train", torch.zeros(3), torch.ones(3))
    BROKEN[name](store.file("train"))
    assert store.read("train", 3) is None
    assert f"reference: {store.file('train')} " in (said := capsys.readouterr().out)
    assert "it is computed again" in said
    store.write("train", torch.zeros(3), torch.ones(3))
    assert store.read("train", 3)[1].tolist() == [1, 1, 1]


def test_a_stock_reference_of_other_pairs_is_removed(tmp_path, capsys):
    from datasets import Dataset

    from apo.stock_trainer import remove_broken

    Dataset.from_dict({"ref_chosen_logps": [1.0, 2.0]}).save_to_disk(tmp_path / "kept")
    (cache,) = (tmp_path / "kept").glob("*.arrow")
    remove_broken(cache, 2)
    assert cache.is_file()
    whole = cache.read_bytes()
    for content, pairs in ((whole, 3), (whole[:-50], 2), (b"", 2)):
        cache.write_bytes(content)
        remove_broken(cache, pairs)
        assert not cache.exists()
    assert capsys.readouterr().out.count("it is computed again") == 3


def test_values_of_which_a_page_was_lost_are_computed_again(tmp_path, capsys, monkeypatch):
    """They are as many finite numbers as before."""
    from apo.reference import ReferenceStore
    from apo_soup.progress import QUIET

    monkeypatch.setenv(QUIET, "1")
    store = ReferenceStore(tmp_path, {})
    store.write("train", torch.full((100,), -3.0), torch.full((100,), -5.0))
    file = store.file("train")
    whole = file.read_bytes()
    file.write_bytes(whole[:-64] + bytes(64))
    assert store.read("train", 100) is None
    told = f"reference: {file} has changed since it was written; it is computed again"
    assert capsys.readouterr().out == f"warning: {told}\n"
    file.write_bytes(whole)
    assert store.read("train", 100)[1].tolist() == [-5.0] * 100
