"""Batched generation against one prompt at a time."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from apo_soup.models.completion import Sampling
from apo_soup.models.generation import completion_of_ids, end_ids, generate


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_a_model_may_end_its_turn_with_another_token_than_the_tokenizers(model, tokenizer):
    other = tokenizer.convert_tokens_to_ids("<|im_start|>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, other]
    try:
        assert end_ids(tokenizer, model) == {tokenizer.eos_token_id, other}
        ids = [*tokenizer("Ann").input_ids, other, tokenizer.pad_token_id]
        assert completion_of_ids(ids, tokenizer, end_ids(tokenizer, model)).finished
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id


def test_batched_greedy_generation_equals_one_at_a_time(model, tokenizer):
    prompts = ["What is 4 + 5?", "Hi", "the old dog sat by the tall tree . note lamp Rome .\nfind lamp ?"]
    ends = end_ids(tokenizer, model)
    together = generate(model, tokenizer, prompts, Sampling(12), 3, ends)
    alone = [generate(model, tokenizer, [p], Sampling(12), 1, ends)[0] for p in prompts]
    assert together == alone
    sampled = [generate(model, tokenizer, prompts, Sampling(12, 1.0, seed=4), 3, ends) for _ in range(2)]
    assert sampled[0] == sampled[1]
