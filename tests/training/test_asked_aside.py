"""A model that is asked in the midst of its training is left as it was."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from apo_soup.models.completion import Sampling
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.models.generation import fits_slots, generate
from apo_soup.private import attention_implementation
from apo_soup.training.asked_aside import asked_aside

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model)


def draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_modes_forward_attention_and_random_numbers_are_as_before(model):
    attend_by_documents(model)
    model.train()
    frozen = model.model.layers[1].eval()
    own = model.forward = lambda *args, **kwargs: "training's own"
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = draws()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    with asked_aside(model, nullcontext) as asked:
        draws()
        assert attention_implementation(asked.config) == "sdpa"
        assert not any(module.training for module in asked.modules())
        assert fits_slots(asked), "what training put in the place of its forward hides what it takes"
        assert asked(input_ids=IDS).logits.shape[:2] == IDS.shape
    assert draws() == expected
    assert model.forward is own
    assert attention_implementation(model.config) == DOCUMENTS
    assert model.training
    assert not frozen.training
    assert model.model.layers[0].training


def test_it_is_asked_in_the_types_that_training_computes_in(model):
    def computing():
        return torch.autocast("cpu", torch.bfloat16)

    plain = model.eval()(input_ids=IDS).logits
    with asked_aside(model, computing) as asked:
        low = asked(input_ids=IDS).logits
    assert low.dtype == torch.bfloat16
    assert "forward" not in vars(model)
    assert (low.float() - plain).abs().max() < 0.1
    assert bool((model(input_ids=IDS).logits == plain).all())


def test_positions_of_its_longest_text_are_as_before(tiny_model):
    """A shorter text behind a long one is read with the long one's frequencies, which an evaluation begins anew."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = AutoModelForCausalLM.from_pretrained(tiny_model, rope_parameters=rope, max_position_embeddings=8)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    longest, shorter = torch.arange(5, 25)[None], torch.arange(5, 17)[None]
    alone = model(input_ids=shorter).logits
    model(input_ids=longest)
    before = model(input_ids=shorter).logits
    assert not bool((alone == before).all())
    with asked_aside(model, nullcontext) as asked:
        generate(asked, tokenizer, ["a b c", "a"], Sampling(3), 2, {tokenizer.eos_token_id})
    after = model(input_ids=shorter).logits
    after.sum().backward()
    assert bool((after == before).all())


def test_a_scoring_that_fails_leaves_it_so_too(model):
    model.train()
    with pytest.raises(RuntimeError, match="broken"), asked_aside(model, nullcontext):
        raise RuntimeError("broken")
    assert model.training
    assert "forward" not in vars(model)
