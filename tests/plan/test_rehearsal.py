"""A rehearsed step holds what the stages' own code holds on real tensors."""

import gc

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from apo.packed_pairs import PairIds, pack_pairs
from apo.pair_attention import PAIRS, register_pair_attention
from apo.scoring import add_scoring, answer_logprobs
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.plan import rehearsal
from apo_soup.plan.live_memory import LiveMemory
from apo_soup.plan.rehearsal import STAND_IN, RehearsedBatch, RehearsedModel, rehearse, weights_of

SHAPE = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIG = LlamaConfig(
    **SHAPE, num_key_value_heads=2, vocab_size=512, tie_word_embeddings=True, max_position_embeddings=512
)
# Embeddings, and three layers of query, key, value, output, gate, up, down and two norms, and the last norm.
COUNT = 512 * 64 + 3 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 192 + 2 * 64) + 64


def model(attention="sdpa", **given):
    return RehearsedModel(CONFIG, "float32", "float32", "float32", attention, **given)


def test_weights_and_states_are_those_of_the_architecture():
    rehearsed = rehearse(model(), RehearsedBatch(1, 64, 32), 2.0, holds_gradients=False)
    assert rehearsed.weights == rehearsed.trained == 4 * COUNT
    assert weights_of(model()) == (4 * COUNT, 4 * COUNT)
    assert rehearsed.outside == 512 * 64 + 64
    assert rehearsed.largest_layer * 3 + rehearsed.outside == COUNT
    # Forward 2 operations a weight and place, backward 4; the LM head three times for scored places.
    layers = COUNT - rehearsed.outside - 3 * 2 * 64
    assert rehearsed.operations == 6 * (layers * 64 + 512 * 64 * 32)


def real_peak(step):
    """The most bytes beside the weights that a step on real tensors holds."""
    live = LiveMemory()
    with live.counting():
        real = LlamaForCausalLM(CONFIG).train()
        gc.collect()
        live.set_apart([*real.parameters(), *real.buffers()])
        weights = live.now
        live.peak = weights  # to draw the weights took more
        step(real).backward()
        return live.peak - weights


@pytest.mark.parametrize("attention", ["sdpa", PAIRS])
def test_a_step_of_pairs_holds_what_the_real_one_does(attention):
    pairs = [PairIds([5] * 40, [6] * 30, [7] * 31) for _ in range(4)]
    row = pack_pairs(pairs)

    def step(real):
        add_scoring(real)
        register_pair_attention()
        real.set_attn_implementation(attention)
        return answer_logprobs(real, row, attention).sum()

    batch = RehearsedBatch(1, len(row), len(row.targets), of_pairs=True)
    rehearsed = rehearse(model(attention), batch, 2.0, holds_gradients=False)
    # Pair by pair it is taken for one pair of equal parts, whatever the real ones are.
    assert rehearsed.passes == pytest.approx(real_peak(step), rel=0.02 if attention == "sdpa" else 0.05)


def test_a_step_of_documents_holds_what_the_real_one_does(tokenizer):
    from trl.trainer.utils import add_fused_lm_head

    from sft.trained_places import add_trained_places

    lengths = [100, 60, 90]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    labels = torch.full((1, 250), 9)
    labels[0, ::2] = -100

    def step(real):
        attend_by_documents(real)
        add_fused_lm_head(real, outputs=("log_probs", "entropy", "is_top1"))
        add_trained_places(real, tiles=True)
        return real(
            input_ids=labels.clamp(min=0), position_ids=positions, labels=labels, fused_lm_head=True
        ).log_probs.sum()

    scored = int((labels[:, 1:] != -100).sum())
    rehearsed = rehearse(model(DOCUMENTS), RehearsedBatch(1, 247, scored, documents=3), 2.0, holds_gradients=False)
    assert rehearsed.passes == pytest.approx(real_peak(step), rel=0.04)


def test_checkpointing_holds_less_and_computes_more():
    batch = RehearsedBatch(2, 256, 128)
    whole = rehearse(model(STAND_IN), batch, 2.0, holds_gradients=False)
    less = rehearse(model(STAND_IN, checkpointing={}), batch, 2.0, holds_gradients=False)
    assert less.activations < 0.6 * whole.activations
    layers = COUNT - whole.outside - 3 * 2 * 64
    # All of a layer is computed again but its last product, which nothing in its backward pass reads.
    assert less.operations - whole.operations == 2 * (layers - 3 * 64 * 192) * 512


def test_weights_and_states_are_no_activations():
    batch = RehearsedBatch(1, 64, 32)
    few, many = (rehearse(model(), batch, states, holds_gradients=False) for states in (0.0, 50.0))
    assert few.activations == many.activations <= few.passes == many.passes


def test_gradients_that_are_held_come_on_top():
    batch = RehearsedBatch(1, 256, 128)
    first = rehearse(model(STAND_IN), batch, 2.0, holds_gradients=False)
    next_one = rehearse(model(STAND_IN), batch, 2.0, holds_gradients=True)
    assert 0 < next_one.passes - first.passes <= first.trained


def test_an_adapter_is_trained_on_a_frozen_base():
    adapter = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    rehearsed = rehearse(
        RehearsedModel(CONFIG, "bfloat16", "float32", "bfloat16", STAND_IN, adapter),
        RehearsedBatch(1, 64, 8),
        2.0,
        False,
    )
    assert rehearsed.trained == 4 * 3 * 4 * (64 + 64)
    assert rehearsed.weights == 2 * COUNT + rehearsed.trained


def test_a_base_of_four_bits_takes_less():
    adapter = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    plain, few = (
        weights_of(RehearsedModel(CONFIG, "bfloat16", "float32", "bfloat16", STAND_IN, adapter, None, size))[0]
        for size in (None, 0.5)
    )
    layers = COUNT - 512 * 64 - 64 - 3 * 2 * 64
    assert plain - few == 1.5 * layers


@pytest.mark.parametrize("attention", ["sdpa", "eager", STAND_IN, DOCUMENTS, PAIRS])
def test_any_architecture_is_rehearsed(attention, tiny_model):
    config = AutoConfig.from_pretrained(tiny_model)
    rehearsed = rehearse(
        RehearsedModel(config, "float32", "float32", "float32", attention), RehearsedBatch(2, 64, 20), 2.0, False
    )
    real = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert rehearsed.weights == sum(parameter.nbytes for parameter in real.parameters())
    assert rehearsed.passes > rehearsed.trained


def test_a_step_of_three_billion_weights_is_counted_here():
    """SmolLM3-3B's shape with a tenth of its layers: no number of a real tensor's could be had in a test's time."""
    shape = {"hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 4}
    config = LlamaConfig(**shape, num_hidden_layers=4, vocab_size=128_256, tie_word_embeddings=True)
    rehearsed = rehearse(
        RehearsedModel(config, "float32", "float32", "bfloat16", STAND_IN, checkpointing={}),
        RehearsedBatch(1, 65_536, 65_536),
        2.0,
        False,
    )
    assert rehearsed.weights == 4 * (128_256 * 2048 + 4 * (2048 * (2 * 2048 + 2 * 512 + 3 * 11008) + 2 * 2048) + 2048)
    assert 4e9 < rehearsed.activations < 4e10


@pytest.mark.parametrize("types", [("float32",) * 3, ("bfloat16", "float32", "bfloat16"), ("bfloat16",) * 3])
@pytest.mark.parametrize("places", [700, 2700])
def test_tiles_that_are_alike_are_counted_and_not_walked(types, places, monkeypatch):
    """With tiles of 256 places a batch has three of them, and eleven."""
    of_head = RehearsedModel(CONFIG, *types, "sdpa")
    batch = RehearsedBatch(8, 400, places)
    monkeypatch.setattr(rehearsal, "SCORE_TILE_LOGITS", 256 * CONFIG.vocab_size)
    some = rehearse(of_head, batch, 2.0, holds_gradients=False)
    monkeypatch.setattr(rehearsal, "DIFFERENT_TILES", 10**6)
    assert rehearse(of_head, batch, 2.0, holds_gradients=False) == some
