"""Packed pairs against plain sequences and against the stock trainer, in float32 on CPU."""

import gc
import json
import random
import re
import shutil
from itertools import chain

import pytest
import torch
from helpers import TINY_SHAPE, TRAINING, preference, run_ok, state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from apo.losses import LOSSES
from apo.rows import assign, build, places_of, plan, visible
from apo.scoring import add_scoring, tiled_logprobs
from apo.steps import micro_batches
from apo_soup.errors import UserError

PART = st.lists(st.integers(5, 200), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apo_zero", [1.0, 0.537883, 0.950042]),
        ("apo_down", [1.0, 0.850262, 0.975145]),
        ("sigmoid", [0.693147, 0.126928, 0.598139]),
    ],
)
def test_losses_equal_numbers_worked_by_hand(name, expected):
    """beta 0.1; log-ratios (0, 0), (10, -10), and (1, -1):

    s(1) = 0.731059, s(2) = 0.880797, s(0.1) = 0.524979, s(0.2) = 0.549834. For (1, -1):
    apo_zero 1 - 0.524979 + 0.475021 = 0.950042; apo_down 0.524979 + 1 - 0.549834 = 0.975145; sigmoid -log 0.549834.
    """
    chosen, rejected = torch.tensor([0.0, 10.0, 1.0]), torch.tensor([0.0, -10.0, -1.0])
    torch.testing.assert_close(LOSSES[name](chosen, rejected, 0.1), torch.tensor(expected), atol=2e-6, rtol=0)


@given(st.lists(st.tuples(PART, PART, PART), min_size=1, max_size=4))
@settings(max_examples=60)
def test_a_row_holds_every_token_where_it_belongs(pairs):
    row = build(pairs)
    assert len(row.input_ids) == sum(places_of(*map(len, pair)) for pair in pairs)
    seen = visible(row)
    for number, (prompt, *answers) in enumerate(pairs):
        for side, answer in enumerate(answers):
            scored = (row.answers == 2 * number + side).nonzero()[:, 0]
            assert row.targets[scored].tolist() == answer
            for step, place in enumerate(row.places[scored].tolist()):
                places = seen[place].nonzero()[:, 0]
                whole = [*prompt, *answer]
                assert row.input_ids[places].tolist() == whole[: len(prompt) + step], "it sees its own sequence so far"
                assert row.position_ids[places].tolist() == list(range(len(prompt) + step))


@given(
    st.lists(st.integers(3, 90), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 5), st.integers(30, 100)
)
def test_a_step_holds_every_pair_once_on_every_rank_alike(lengths, ranks, count, capacity):
    pairs = list(range(len(lengths)))
    plans = [micro_batches(pairs, lengths, capacity, ranks, rank, count) for rank in range(ranks)]
    placed = sorted(p for micros in plans for micro in micros for row in micro.rows for p in row)
    assert placed == pairs
    for micros in zip(*plans, strict=True):
        assert len({len(m.rows) for m in micros}) == 1, "as many passes on every rank"
        assert all(m.total == len(pairs) for m in micros)
    assert all(plan_[-1].rows for plan_ in plans)
    for micro in chain(*plans):
        for row in micro.rows:
            assert len(row) <= 1 or sum(min(lengths[p], capacity) for p in row) <= capacity


def test_pairs_are_balanced_over_ranks_by_places():
    lengths = [random.Random(n).randrange(10, 1000) for n in range(64)]
    loads = [sum(lengths[p] for p in share) for share in assign(lengths, 4)]
    assert max(loads) - min(loads) < 0.02 * sum(loads)
    assert plan([5, 200, 6], 100) == [[1], [0, 2]]


@pytest.mark.parametrize("tile", [1, 5, 36, 37, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_tiles_change_neither_values_nor_gradients(tile, biased):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(*shape, generator=generator) for shape in ((37, 8), (50, 8), (50,))]
    targets = torch.randint(0, 50, (37,), generator=generator)
    found = []
    for tiled in (True, False):
        hidden, weight, bias = (t.clone().requires_grad_() for t in start)
        if tiled:
            values = tiled_logprobs(hidden, weight, bias if biased else None, targets, tile)
        else:
            logits = torch.nn.functional.linear(hidden, weight, bias if biased else None)
            values = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        (values * torch.linspace(-1, 1, 37)).sum().backward()
        found.append((values.detach(), hidden.grad, weight.grad, bias.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


def test_tiles_leave_a_frozen_head_alone_and_follow_autocast():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    hidden = torch.randn(9, 8, generator=generator).requires_grad_()
    targets = torch.arange(9)
    tiled_logprobs(hidden, weight, None, targets, 4).sum().backward()
    assert weight.grad is None
    whole = hidden.grad.clone()
    hidden.grad, moving = None, weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        values = tiled_logprobs(hidden, moving, None, targets, 4)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert hidden.grad.dtype == moving.grad.dtype == torch.float32
    assert not torch.equal(hidden.grad, whole)
    torch.testing.assert_close(hidden.grad, whole, rtol=0.05, atol=0.05)


def tiny(kind, tokens=300):
    """A random model of one architecture, small enough for a test."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        SmolLM3Config,
        SmolLM3ForCausalLM,
    )

    torch.manual_seed(0)
    config_class, model_class = {
        "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[kind]
    config = config_class(
        **TINY_SHAPE,
        vocab_size=tokens,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.2,
    )
    return model_class(config).eval()


@pytest.mark.parametrize("kind", ["smollm3", "llama", "qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_log_probabilities_equal_those_of_separate_sequences(kind, attention):
    """Chosen and rejected of three packed pairs; FlexAttention has no backward pass on CPU, its forward is enough."""
    from apo.attention_mask import attention_mask

    model = tiny(kind)
    generator = random.Random(1)
    pairs = [
        tuple([generator.randrange(2, 300) for _ in range(n)] for n in lengths)
        for lengths in ((9, 5, 7), (1, 3, 2), (14, 1, 9))
    ]
    alone = []
    with torch.no_grad():
        for prompt, *answers in pairs:
            for answer in answers:
                ids = torch.tensor([[*prompt, *answer]])
                scores = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                alone.append(scores.gather(1, torch.tensor(answer)[:, None]).sum())
        model.set_attn_implementation(attention)
        add_scoring(model)
        row = build(pairs)
        logprobs = model(
            input_ids=row.input_ids[None],
            position_ids=row.position_ids[None],
            attention_mask=attention_mask(row, attention),
            places=row.places,
            targets=row.targets,
        )
    packed = torch.zeros(6).index_add(0, row.answers, logprobs)
    torch.testing.assert_close(packed, torch.stack(alone), rtol=1e-5, atol=1e-5)


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran", "off", "to", "see", "you"]


def varied(seed: int, count: int) -> list[dict]:
    """Pairs of very different lengths."""
    generator = random.Random(seed)

    def text(most):
        return " ".join(generator.choices(WORDS, k=generator.randrange(1, most)))

    return [preference(text(12), f"{text(15)} {n}", f"{text(20)} no {n}") for n in range(count)]


@pytest.fixture
def packed_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    def make(name="run", pairs=24, **changes):
        rows = write_rows(f"{name}.jsonl", varied(0, pairs))
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / name / "apo"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0},
            "loss_type": "apo_zero",
            "beta": 0.1,
            "precompute_ref_log_probs": True,
            "learning_rate": 1.0e-4,
            "max_steps": 20,
            "max_length": 128,
            "save_strategy": "no",
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "apo"

    return make


def trained(path, *words):
    """Train all members in this process, which saves the seconds that imports take."""
    from apo.train import train
    from apo_soup.config.recipe import load
    from apo_soup.runs.members import kept_checkpoints, member_recipes
    from apo_soup.training.entry import training_stage

    for member in member_recipes(load(path, "apo", list(words))):
        stage = training_stage(member)
        train(member, stage, kept_checkpoints(member, stage))


def log_of(folder):
    return json.loads((folder / "1" / "trainer_state.json").read_text())["log_history"]


def logged(folder, key):
    return [entry[key] for entry in log_of(folder) if key in entry]


SETTINGS = {
    "plain": {},
    "apo_down": {"loss_type": "apo_down"},
    "sigmoid": {"loss_type": "sigmoid"},
    "accumulation": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4, "num_train_epochs": 10},
    "checkpointing": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    "lora": {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"], "learning_rate": 1e-2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_steps_equal_those_of_the_stock_trainer(packed_recipe, capsys, name):
    """The first loss to 1e-6, gradient norms to 1e-4 relative, weights after 20 steps to 1e-5."""
    path, folder = packed_recipe("packed", **SETTINGS[name])
    trained(path)
    assert "stock trainer" not in capsys.readouterr().out
    path, stock = packed_recipe("stock", packed_pairs=False, **SETTINGS[name])
    trained(path)
    assert "apo/1: pairs run on the stock trainer, because of packed_pairs: false" in capsys.readouterr().out
    assert logged(folder, "loss")[0] == pytest.approx(logged(stock, "loss")[0], abs=1e-6)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)  # Adam has amplified rounding
    assert len(logged(folder, "loss")) == 20
    assert logged(folder, "grad_norm") == pytest.approx(logged(stock, "grad_norm"), rel=1e-4)
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"):
        assert logged(folder, key) == pytest.approx(logged(stock, key), rel=1e-4, abs=1e-5), key
    expected = state_dict(stock / "1")
    for tensor_name, tensor in state_dict(folder / "1").items():
        torch.testing.assert_close(tensor, expected[tensor_name], atol=1e-5, rtol=1e-5)


# Plain gradient descent at this rate: weights move by -rate times the gradient, far beyond their own rounding.
DESCENT = {"optim": "sgd", "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0.0,
           "learning_rate": 1e3, "max_steps": 1}  # fmt: skip
# An adapter's A has no gradient in the first step. What moves is the weights it is merged into.
LORA_DESCENT = SETTINGS["lora"] | {"learning_rate": 1.0, "max_steps": 2, "lora_target_modules": "all-linear"}


def assert_same_moves(ours, stock, before, moving=""):
    """Every tensor named so has moved as in the stock trainer, to 1e-4 of the length of its way; the others rest."""
    assert ours.keys() == stock.keys() == before.keys()
    for name, start in before.items():
        way = stock[name].double() - start.double()
        assert (way.norm() > 0) == (moving in name), name
        assert (ours[name].double() - start.double() - way).norm() <= 1e-4 * way.norm(), name


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss_type": loss, "gradient_accumulation_steps": 3} for loss in LOSSES),
        SETTINGS["checkpointing"],
        LORA_DESCENT,
    ],
    ids=[*LOSSES, "checkpointing", "lora"],
)
def test_every_gradient_is_the_stock_trainers(packed_recipe, changes):
    """Per tensor to 1e-4 relative."""
    ends = []
    still = {"learning_rate": 0.0, "max_steps": 1}
    for name, more in (("packed", {}), ("stock", {"packed_pairs": False}), ("before", still)):
        path, folder = packed_recipe(name, **DESCENT | changes | more)
        trained(path)
        ends.append(state_dict(folder / "1"))
    assert_same_moves(*ends, moving="_proj.weight" if changes.get("use_peft") else "")


def test_log_probabilities_of_every_pair_are_the_stock_trainers(packed_recipe):
    """One pair a step and no learning, so that every log entry is one pair's: 24 pairs to 1e-5 relative."""
    options = {"per_device_train_batch_size": 1, "learning_rate": 0.0, "max_steps": 24}
    path, folder = packed_recipe("packed", **options)
    trained(path)
    path, stock = packed_recipe("stock", packed_pairs=False, **options)
    trained(path)
    for key in ("logps/chosen", "logps/rejected"):
        assert len(set(logged(stock, key))) > 20
        assert logged(folder, key) == pytest.approx(logged(stock, key), rel=1e-5)


def test_cut_pairs_are_told(packed_recipe):
    """12 steps of 2 pairs: the shares logged come to the pairs that lack an end of turn, `<|im_end|>` with id 2."""
    from datasets import load_from_disk

    path, folder = packed_recipe(max_length=60, max_steps=12)
    trained(path)
    (prepared,) = folder.parent.glob("prepared/apo-*/train")
    pairs = load_from_disk(str(prepared))
    cut = sum({p["chosen_ids"][-1], p["rejected_ids"][-1]} != {2} for p in pairs)
    assert len(pairs) == 24
    assert 0 < cut < 24
    assert sum(logged(folder, "truncated_share")) * 2 == pytest.approx(cut)
    assert json.loads((prepared.parent / "stats.json").read_text())["total"]["cut"] == cut


def test_kept_checkpoints_are_members_of_their_own(packed_recipe, capsys):
    """`1-at-2` is what a run of two steps ends with; a member is whole only with its checkpoints."""
    options = {"lr_scheduler_type": "constant", "warmup_steps": 0}
    path, short = packed_recipe("short", max_steps=2, **options)
    trained(path)
    path, folder = packed_recipe("long", max_steps=4, checkpoints=[2, 0.75], **options)
    trained(path)
    assert sorted(f.name for f in folder.glob("[!.]*")) == ["1", "1-at-0.75", "1-at-2"]
    expected = state_dict(short / "1")
    for name, tensor in state_dict(folder / "1-at-2").items():
        assert torch.equal(tensor, expected[name]), name
    assert json.loads((folder / "1-at-0.75" / "manifest.json").read_text())["metrics"] == {"steps": 3}
    assert run_ok("-m", "apo", "--config", path).count("up to date") == 3
    final = state_dict(folder / "1")
    shutil.rmtree(folder / "1-at-2")
    again = run_ok("-m", "apo", "--config", path)
    assert "apo/1-at-2: running, because it has not run yet" in again
    assert (folder / "1-at-2" / "model.safetensors").is_file()
    assert all(torch.equal(t, final[n]) for n, t in state_dict(folder / "1").items())


@pytest.mark.parametrize(
    ("checkpoints", "told"),
    [
        ([0], "a checkpoint is"),
        ([2, 2], "checkpoint 2 is given twice"),
        ([0.5, 2], "checkpoints 0.5 and 2 are both step 2 of 4"),
        ([4], "checkpoint 4 is not before the end; the member has 4 steps"),
    ],
)
def test_a_checkpoint_that_cannot_be_kept_is_told(packed_recipe, checkpoints, told):
    path, folder = packed_recipe(max_steps=4, checkpoints=checkpoints)
    with pytest.raises(UserError, match=re.escape(told)):
        trained(path)
    assert not (folder / "1").exists()


def test_a_last_step_that_is_not_full_is_the_mean_over_its_pairs(packed_recipe):
    """7 pairs in steps of 4, in micro-batches of 2: the second step holds 3, as stock's does with batches of 4."""
    options = {"pairs": 7, "max_steps": 2, "max_grad_norm": 100.0}
    path, folder = packed_recipe("packed", per_device_train_batch_size=2, gradient_accumulation_steps=2, **options)
    trained(path)
    path, stock = packed_recipe("stock", per_device_train_batch_size=4, packed_pairs=False, **options)
    trained(path)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)
    assert logged(folder, "grad_norm") == pytest.approx(logged(stock, "grad_norm"), rel=1e-4)


def scorers(model):
    """Packed pairs and plain sequences under a model, as the probe takes them."""
    from apo.attention_mask import attention_mask

    add_scoring(model)

    def plain(ids):
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    def score(pairs):
        row = build(pairs)
        logprobs = model(
            input_ids=row.input_ids[None],
            position_ids=row.position_ids[None],
            attention_mask=attention_mask(row, "sdpa"),
            places=row.places,
            targets=row.targets,
        )
        return torch.zeros(2 * row.pairs).index_add(0, row.answers, logprobs)

    return score, plain


def test_a_model_that_cannot_be_packed_is_found_before_it_trains():
    """Llama's answers are the same packed and alone; those of a recurrent model, of ALiBi, of a window that our mask
    would widen, and of a head with a layer of its own are not.
    """
    from transformers import (
        BertConfig,
        BertLMHeadModel,
        BloomConfig,
        BloomForCausalLM,
        MambaConfig,
        MambaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    from apo.which_trainer import NotPackable, probe

    with torch.no_grad():
        probe(*scorers(tiny("llama")), 300, exact=True)
        torch.manual_seed(0)
        small = {"vocab_size": 300, "hidden_size": 32, "initializer_range": 0.3}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4}
        for model in (
            MambaForCausalLM(MambaConfig(**small, num_hidden_layers=2, state_size=8)),
            BloomForCausalLM(BloomConfig(**small, n_layer=2, n_head=4)),
            MistralForCausalLM(
                MistralConfig(**small, **heads, intermediate_size=64, num_key_value_heads=2, sliding_window=4)
            ),
            BertLMHeadModel(BertConfig(**small, **heads, intermediate_size=64, is_decoder=True)),
        ):
            with pytest.raises(NotPackable):
                probe(*scorers(model.eval()), 300, exact=True)


def test_a_model_the_probe_refuses_trains_on_the_stock_path(packed_recipe, tokenizer, tmp_path, capsys):
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.3, **ids
    )
    folder = tmp_path / "mamba"
    MambaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path, output = packed_recipe(model_name_or_path=str(folder), max_steps=1, attn_implementation=None)
    trained(path)
    assert "apo/1: pairs run on the stock trainer, because of a model" in capsys.readouterr().out
    assert "reference_passes" not in facts(output)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sliding_window": 8}, "a model with sliding-window attention"),
        ({"layer_types": ["full_attention", "conv"]}, "a model with conv layers"),
        ({"attention_dropout": 0.1}, "a model with attention_dropout"),
        ({"sliding_window": 8, "use_sliding_window": False}, None),
        ({"final_logit_softcapping": 30.0}, "a model with final_logit_softcapping"),
    ],
)
def test_configurations_that_packing_would_compute_otherwise_are_known(changes, reason):
    from types import SimpleNamespace

    from apo.which_trainer import model_reason

    assert model_reason(SimpleNamespace(**changes)) == reason


def test_the_reference_is_computed_anew_for_what_changes_its_values(packed_recipe, monkeypatch):
    options = {"max_steps": 1, "learning_rate": 0.0}
    path, folder = packed_recipe(**options)
    trained(path)
    assert facts(folder)["reference_passes"] > 0
    trained(path, "--model_init_kwargs", "{rms_norm_eps: 0.5}")
    assert facts(folder)["reference_passes"] > 0
    assert logged(folder, "loss") == [1.0], "policy and reference are the same model"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trained(path, "--seed", "9")
    assert facts(folder)["reference_passes"] > 0
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    trained(path, "--seed", "10")
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


def facts(folder, member=1):
    return json.loads((folder / str(member) / "manifest.json").read_text())["metrics"]


def test_three_members_need_one_reference_pass_and_later_runs_none(packed_recipe, write_rows, tiny_model, tmp_path):
    """Counted passes: as many as there are rows, once; changed rows or weights are computed anew."""
    settings_ = {"max_steps": 2, "members": [{"seed": 1}, {"seed": 2, "beta": 0.2}, {"seed": 3, "learning_rate": 1e-3}]}
    path, folder = packed_recipe(**settings_)
    trained(path)
    passes = [facts(folder, member)["reference_passes"] for member in (1, 2, 3)]
    assert passes[0] > 0
    assert passes[1:] == [0, 0]
    trained(path, "--beta", "0.5", "--learning_rate", "1e-5")
    assert [facts(folder, member)["reference_passes"] for member in (1, 2, 3)] == [0, 0, 0]
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"][0] += 0.5
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    trained(path, "--model_name_or_path", str(other), "--members", "[{seed: 1}]")
    assert facts(folder)["reference_passes"] == passes[0]
    write_rows("run.jsonl", varied(5, 24))
    trained(path, "--members", "[{seed: 1}]")
    assert facts(folder)["reference_passes"] > 0


def test_held_out_pairs_are_scored_as_the_stock_trainer_scores_them(packed_recipe, tmp_path):
    found = {}
    for name, packed in (("packed", None), ("stock", False)):
        rows = {"datasets": [{"id": str(tmp_path / f"{name}.jsonl")}], "seed": 0, "test_split_size": 0.25}
        path, folder = packed_recipe(name, dataset_mixture=rows, packed_pairs=packed, max_steps=3)
        trained(path)
        found[name] = facts(folder)
    for key in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert found["packed"][f"eval_{key}"] == pytest.approx(found["stock"][f"eval_{key}"], rel=1e-4, abs=1e-6), key
    assert found["packed"]["eval_lengths/chosen"] > 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss_type": "hinge"}, "loss_type hinge"),
        ({"loss_type": ["apo_zero", "sft"], "loss_weights": [1.0, 0.1]}, "loss_type apo_zero, sft"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
        ({"loss_type": "sigmoid", "f_divergence_type": "js_divergence"}, "f_divergence_type"),
        ({"use_weighting": True}, "use_weighting"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config.split_batches"),
    ],
)
def test_what_the_packed_path_does_not_know_runs_on_the_stock_one_and_says_so(packed_recipe, capsys, change, reason):
    path, folder = packed_recipe(max_steps=1, **change)
    trained(path)
    assert f"apo/1: pairs run on the stock trainer, because of {reason}\n" in capsys.readouterr().out
    assert "reference_passes" not in facts(folder)


@pytest.mark.parametrize("changes", [{}, DESCENT], ids=["twenty steps", "one gradient"])
def test_two_processes_take_the_steps_of_one(packed_recipe, tiny_model, changes):
    """Two ranks of batch 2 against the stock trainer's one rank of batch 4: losses, weights, and every gradient."""
    options = {"gradient_accumulation_steps": 2, "num_train_epochs": 10} | changes
    path, folder = packed_recipe("two", per_device_train_batch_size=2, **options)
    run_ok("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "apo", "--config", path)
    path, stock = packed_recipe("one", per_device_train_batch_size=4, packed_pairs=False, **options)
    trained(path)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)
    assert logged(folder, "rewards/margins") == pytest.approx(logged(stock, "rewards/margins"), rel=1e-3, abs=1e-5)
    ours, expected = state_dict(folder / "1"), state_dict(stock / "1")
    if changes:
        assert_same_moves(ours, expected, state_dict(tiny_model))
        return
    assert len(logged(folder, "loss")) == 20
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)


def test_a_fall_of_the_chosen_answers_is_told_once(packed_recipe, capsys):
    path, _ = packed_recipe(loss_type="apo_down", learning_rate=0.05, max_steps=12, lr_scheduler_type="constant")
    trained(path)
    assert capsys.readouterr().out.count("warning: chosen answers have become") == 1


@given(st.lists(st.tuples(PART, PART, PART), min_size=1, max_size=30))
@settings(max_examples=15)
def test_a_block_mask_made_in_bands_is_the_one_made_at_once(pairs):
    from torch.nn.attention.flex_attention import create_block_mask

    from apo.attention_mask import block_mask
    from apo.rows import sees

    row = build(pairs)
    size = len(row.input_ids)
    ours = block_mask(row)
    whole = create_block_mask(lambda b, h, q, k: sees(row, q, k), None, None, size, size, device="cpu")
    assert ours.shape == whole.shape
    assert torch.equal(ours.to_dense(), whole.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        assert torch.equal(getattr(ours, name).flatten(), getattr(whole, name).flatten()), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disable_dropout": False}, "disable_dropout"),
        ({"metric_for_best_model": "eval_mean_token_accuracy"}, "metric_for_best_model"),
        ({"optim": "galore_adamw_layerwise"}, "optim"),
        ({}, None),
        ({"metric_for_best_model": "eval_rewards/accuracies"}, None),
    ],
)
def test_settings_that_packing_would_change_go_to_stock(changes, reason, tmp_path):
    from transformers import LlamaConfig
    from trl import DPOConfig

    from apo.which_trainer import stock_reason

    arguments = DPOConfig(output_dir=str(tmp_path), loss_type="apo_zero", use_cpu=True, bf16=False)
    for name, value in changes.items():
        setattr(arguments, name, value)
    assert stock_reason(arguments, LlamaConfig()) == reason


def test_positions_that_depend_on_the_longest_of_a_row_go_to_stock():
    from transformers import BloomConfig, LlamaConfig

    from apo.which_trainer import NotPackable, attention_of, model_reason

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert "dynamic positions" in model_reason(LlamaConfig(rope_parameters=rope))
    assert model_reason(LlamaConfig()) is None
    assert attention_of(LlamaConfig(), None, on_gpu=True) == "flex_attention"
    assert attention_of(LlamaConfig(), "sdpa", on_gpu=True) == "sdpa"
    with pytest.raises(NotPackable, match="BloomForCausalLM, which has no"):
        attention_of(BloomConfig(), None, on_gpu=False)


def test_the_reference_runs_once_for_three_members_as_the_model_itself_counts(packed_recipe, monkeypatch):
    """Forward passes without gradients, counted at the model and not by our program."""
    from transformers import SmolLM3ForCausalLM

    counted = []
    original = SmolLM3ForCausalLM.__call__

    def counting(self, *args, **kwargs):
        if not torch.is_grad_enabled() and "places" in kwargs:
            counted.append(len(kwargs["targets"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SmolLM3ForCausalLM, "__call__", counting)
    path, folder = packed_recipe(max_steps=1, members=[{"seed": 1}])
    trained(path)
    first = len(counted)
    passes = facts(folder)["reference_passes"]
    probes = first - passes
    assert passes > 0
    counted.clear()
    trained(path, "--members", "[{seed: 1, beta: 0.3}, {seed: 2}]")
    assert len(counted) == 2 * probes, "later members only probe"


def test_figures_of_a_row_by_hand():
    """Two pairs, beta 0.5: log-ratios 2 and -1, and 1 and 3, so rewards 1 and -0.5, and 0.5 and 1.5."""
    from apo.metrics import SUMS, means, pair_sums

    reference = torch.tensor([[-4.0, -6.0], [-10.0, -2.0]])
    logps = reference + torch.tensor([[2.0, -1.0], [1.0, 3.0]])
    lengths = torch.tensor([[4, 8], [2, 2]])
    sums = pair_sums(torch.tensor([0.25, 0.75]), logps, reference, lengths, 0.5, truncated=1, places=30)
    told = means(dict(zip(SUMS, sums.tolist(), strict=True)))
    assert told == pytest.approx(
        {
            "loss": 0.5,
            "rewards/chosen": 0.75,
            "rewards/rejected": 0.5,
            "rewards/margins": 0.25,
            "rewards/accuracies": 0.5,
            "logps/chosen": -5.5,
            "logps/rejected": -3.0,
            "logps_per_token/chosen": -11 / 6,
            "logps_per_token/rejected": -0.6,
            "logratios_per_token/chosen": 0.5,
            "lengths/chosen": 3.0,
            "lengths/rejected": 5.0,
            "truncated_share": 0.5,
        }
    )
    assert dict(zip(SUMS, sums.tolist(), strict=True))["places"] == 30


def test_losses_away_from_the_reference_are_the_stock_trainers(packed_recipe):
    """Where policy and reference differ, to 1e-6; plain descent, which does not amplify rounding as Adam does."""
    steps = DESCENT | {"learning_rate": 1.0, "max_steps": 8, "per_device_train_batch_size": 3, "num_train_epochs": 2}
    found = []
    for name, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        path, folder = packed_recipe(name, **steps | more)
        trained(path)
        found.append(logged(folder, "loss"))
    assert min(abs(loss - 1) for loss in found[1][1:]) > 1e-3, "no loss but the first is that of the reference"
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory, tokenizer):
    """A Llama with a head of its own."""
    folder = tmp_path_factory.mktemp("untied")
    model = tiny("llama", len(tokenizer))
    assert not model.config.tie_word_embeddings
    model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


OTHERS = {
    "a head of its own": {},
    "reentrant checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "a trained head beside an adapter": SETTINGS["lora"] | {"lora_modules_to_save": ["lm_head"], "learning_rate": 1e-4},
    "DoRA": SETTINGS["lora"] | {"use_dora": True},
}


@pytest.mark.parametrize("name", OTHERS)
def test_six_steps_of_other_set_ups_equal_those_of_the_stock_trainer(packed_recipe, untied_model, name):
    ends = []
    for run, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        options = {"model_name_or_path": str(untied_model), "max_steps": 6} | OTHERS[name] | more
        path, folder = packed_recipe(run, **options)
        trained(path)
        ends.append((logged(folder, "loss"), state_dict(folder / "1")))
    (ours, weights), (stock, expected) = ends
    assert ours == pytest.approx(stock, rel=1e-5)
    for tensor_name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[tensor_name], atol=1e-5, rtol=1e-5)


def test_a_killed_member_goes_on_inside_an_epoch_to_the_same_bytes(packed_recipe, monkeypatch):
    """Stopped right after the save of step 3 of 8, in the second micro-batch of an epoch of four steps."""
    from apo.trainer import PackedDPOTrainer

    options = {"gradient_accumulation_steps": 3, "num_train_epochs": 2, "max_steps": -1, "save_strategy": "steps",
               "save_steps": 3, "logging_steps": 2}  # fmt: skip
    path, whole = packed_recipe("whole", **options)
    trained(path)
    assert len(logged(whole, "loss")) == 4
    path, folder = packed_recipe("killed", **options)
    original = PackedDPOTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PackedDPOTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(path)
    monkeypatch.undo()
    trained(path)
    # The log of step 4 holds steps 3 and 4 of the whole run, and of the killed one what it did itself.
    assert logged(folder, "loss")[2:] == logged(whole, "loss")[2:]
    assert facts(folder)["tokens_seen"] == facts(whole)["tokens_seen"] > 0
    expected = state_dict(whole / "1")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state_dict(folder / "1").items())


def test_an_evaluation_while_training_changes_nothing_and_equals_the_stock_trainers(packed_recipe, tmp_path):
    found = {}
    for name, more in (("plain", {}), ("watched", {"eval_strategy": "steps", "eval_steps": 1, "logging_steps": 3}),
                       ("stock", {"eval_strategy": "steps", "eval_steps": 1, "packed_pairs": False})):  # fmt: skip
        rows = {"datasets": [{"id": str(tmp_path / f"{name}.jsonl")}], "seed": 0, "test_split_size": 0.25}
        path, folder = packed_recipe(name, dataset_mixture=rows, max_steps=4, **more)
        trained(path)
        found[name] = folder
    ends = [state_dict(found[name] / "1") for name in ("plain", "watched")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    for key in ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies"):
        watched, stock = (logged(found[name], key) for name in ("watched", "stock"))
        assert len(watched) >= 4
        assert watched == pytest.approx(stock, rel=1e-4, abs=1e-6), key
    # What is logged every three steps, and at the end, is the mean over their pairs, whatever was evaluated in between.
    steps = logged(found["plain"], "lengths/chosen")
    assert logged(found["watched"], "lengths/chosen") == pytest.approx([sum(steps[:3]) / 3, steps[3]])
    assert facts(found["watched"])["tokens_seen"] == facts(found["plain"])["tokens_seen"] > 0


def test_samples_a_second_count_the_pairs_of_all_ranks(packed_recipe):
    path, folder = packed_recipe(max_steps=-1, num_train_epochs=1)
    trained(path)
    seen = facts(folder)
    assert seen["train_samples_per_second"] * seen["train_runtime"] == pytest.approx(24, abs=0.1)


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
    path, folder = packed_recipe(max_steps=1, learning_rate=0.0, loss_type=loss, members=members)
    trained(path)
    for number in (1, 2):
        (entry,) = [e for e in json.loads((folder / str(number) / "trainer_state.json").read_text())["log_history"]
                    if "loss" in e]  # fmt: skip
        assert entry["loss"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("loading", "told"),
    [
        ({"sliding_window": 4, "layer_types": ["sliding_attention"] * 4}, "a model with sliding-window attention"),
        ({"attention_dropout": 0.5}, "a model with attention_dropout"),
    ],
    ids=["window", "dropout"],
)
def test_what_a_model_is_loaded_with_counts_as_its_own_configuration(packed_recipe, capsys, loading, told):
    path, _ = packed_recipe(max_steps=1, model_init_kwargs=loading)
    trained(path)
    assert f"apo/1: pairs run on the stock trainer, because of {told}\n" in capsys.readouterr().out


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
    trained(path)
    assert seen == [before + 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be 1 or more, found 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be 1 or more, found 0"),
        ({"beta": 0}, "beta must be above 0, found 0"),
        ({"max_steps": 0}, "max_steps must be 1 or more"),
        ({"loss_type": []}, "loss_type names no loss"),
        ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rat": 0.1}}, "min_lr_rat"),
        ({"model_init_kwargs": {"rms_norm_epss": 0.1}}, "rms_norm_epss"),
        ({"model_init_kwargs": "abc"}, "model_init_kwargs must be a mapping, found 'abc'"),
        ({"accelerator_config": {"split_batchs": True}}, "split_batchs"),
        ({"attn_implementation": "sdpaa"}, "attn_implementation sdpaa is none of"),
        ({"checkpoints": ["abc"]}, "a checkpoint is a step's number"),
    ],
)
def test_a_slip_in_a_recipe_is_told_and_not_traced(packed_recipe, changes, told):
    path, _ = packed_recipe(**{"max_steps": 1} | changes)
    with pytest.raises(UserError, match=re.escape(told)) as raised:
        trained(path)
    assert str(raised.value).startswith(str(path))


def test_a_metric_that_nothing_measures_is_told(packed_recipe, tmp_path):
    rows = {"datasets": [{"id": str(tmp_path / "run.jsonl")}], "seed": 0, "test_split_size": 0.25}
    path, _ = packed_recipe(dataset_mixture=rows, max_steps=2, eval_strategy="steps", eval_steps=1, save_steps=1,
                            save_strategy="best", metric_for_best_model="eval_losss")  # fmt: skip
    with pytest.raises(UserError, match="eval_losss"):
        trained(path)


def test_options_without_effect_on_packed_pairs_are_told(packed_recipe, capsys):
    path, _ = packed_recipe(max_steps=1, dataloader_in_order=False, precompute_ref_batch_size=4)
    trained(path)
    told = capsys.readouterr().out
    assert "dataloader_in_order has no effect on packed pairs" in told
    assert "precompute_ref_batch_size has no effect on packed pairs" in told
    path, _ = packed_recipe(max_steps=1, dataloader_in_order=True, model_init_kwargs={"attn_implementation": "eager"})
    trained(path, "--seed", "9")
    told = capsys.readouterr().out
    assert "has no effect" not in told
    assert "attn_implementation: packed pairs are run with sdpa, because eager does not take their mask" in told


def test_a_member_alone_tells_what_its_file_was_mapped_to(packed_recipe):
    path, _ = packed_recipe(max_steps=1, members=[{"seed": 1}, {"seed": 2}], max_length=None, max_seq_length=128)
    text = path.read_text().replace("max_length: null\n", "")
    path.write_text(text)
    alone = run_ok("-m", "apo", "--config", path, "--member", "2")
    assert alone.count("max_seq_length is read as max_length") == 1
    both = run_ok("-m", "apo", "--config", path, "--seed", "5")
    assert both.count("max_seq_length is read as max_length") == 1


FAULTY = {
    "an empty prompt": ({"prompt": "", "chosen": "good", "rejected": "bad"}, "the prompt has no tokens"),
    "an empty answer": ({"prompt": "Q", "chosen": "", "rejected": "bad"}, "chosen"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_pairs_without_tokens_are_rejected_with_the_reason(packed_recipe, write_rows, name):
    row, reason = FAULTY[name]
    bare = (
        "{%- for m in messages -%}{{- m.content -}}"
        "{%- if m.role == 'assistant' -%}{{- '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
    )
    path, folder = packed_recipe(max_steps=1, max_reject_share=0.5, pairs=4, chat_template=bare)
    write_rows("run.jsonl", [*({"prompt": f"Q {n}", "chosen": f"good {n}", "rejected": "bad"} for n in range(4)), row])
    trained(path)
    (line,) = (folder.parent / "prepared" / "apo-rejects.jsonl").read_text().splitlines()
    assert reason in json.loads(line)["reason"]


def test_tokens_that_do_not_begin_with_the_prompts_are_refused():
    from apo_soup.data.conversation import RowError
    from apo_soup.data.encode import pair_ids

    with pytest.raises(RowError, match="not a prefix of prompt \\+ rejected"):
        pair_ids([[5, 6], [5, 6, 7], [5, 9, 7]], end_of_turn=1)
