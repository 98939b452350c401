"""Generation in slots: what a model says beside others, and behind others, is what it says alone."""

import random

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MptConfig,
    Phi3Config,
    Qwen3Config,
)

from apo_soup.models.completion import Sampling
from apo_soup.models.generation import end_ids, fits_slots, generate, generate_batch
from apo_soup.models.slots import Slots, prompt_chunks

WORDS = "What is 4 + 5 the old dog sat by a tall tree note lamp Rome find".split()
SMALL = {
    "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def prompts_of(count, seed=0, beginning=""):
    draw = random.Random(seed)
    return [beginning + " ".join(draw.choices(WORDS, k=draw.randrange(1, 30))) for _ in range(count)]


@pytest.fixture(scope="module")
def talking(tiny_model, tokenizer):
    """A random model for which some of the tokens that it says end a turn."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ends = []
    for number, prompt in enumerate(prompts_of(9)[::2]):
        said = generate_batch(model, tokenizer, [prompt], Sampling(6), end_ids(tokenizer, model))[0]
        ends += tokenizer(said.text, add_special_tokens=False).input_ids[number : number + 1]
    model.generation_config.eos_token_id = ends
    return model


@pytest.mark.parametrize("size", [4, 64])
@pytest.mark.parametrize("beginning", ["", "the system prompt of all of them , long enough to be read once . "])
def test_answers_are_those_of_one_prompt_alone(talking, tokenizer, size, beginning):
    prompts = prompts_of(9, beginning=beginning)
    prompts += prompts[:2]
    found = generate(talking, tokenizer, prompts, Sampling(12), size, end_ids(tokenizer, talking))
    assert found == [
        generate_batch(talking, tokenizer, [p], Sampling(12), end_ids(tokenizer, talking))[0] for p in prompts
    ]
    assert beginning or len({c.tokens for c in found}) > 1, "they end at different places"


def test_two_halves_side_by_side_say_the_same(talking, tokenizer):
    """On two threads, one a half; a prompt's repeats are in one half, where they are read once."""
    prompts = [*prompts_of(7), "What is 4 + 5", "What is 4 + 5"]
    counts, before = [], torch.get_num_threads()
    expected = generate(talking, tokenizer, prompts, Sampling(12, 0.8), 4, end_ids(tokenizer, talking))
    torch.set_num_threads(2)
    try:
        found = generate(talking, tokenizer, prompts, Sampling(12, 0.8), 4, end_ids(tokenizer, talking), counts.append)
    finally:
        torch.set_num_threads(before)
    assert found == expected
    assert counts == list(range(1, 10))


def test_draws_are_an_answers_own(talking, tokenizer):
    """The same text beside others, one at a time, and in another order of slots; another text for a prompt's repeat."""
    prompts = ["What is 4 + 5"] * 4 + prompts_of(5)
    sampling = Sampling(8, 1.0, top_p=0.87, top_k=40, seed=3)
    found = generate(talking, tokenizer, prompts, sampling, 16, end_ids(tokenizer, talking))
    assert found == generate(talking, tokenizer, prompts, sampling, 1, end_ids(tokenizer, talking))
    assert found == generate(talking, tokenizer, prompts, sampling, 5, end_ids(tokenizer, talking))
    assert len({c.text for c in found[:4]}) > 1


@pytest.mark.parametrize(
    "config",
    [
        Qwen3Config(**SMALL),
        GemmaConfig(**SMALL),
        MistralConfig(**SMALL, sliding_window=None),
        GPT2Config(vocab_size=1024, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=2, pad_token_id=0),
    ],
    ids=lambda c: c.model_type,
)
def test_other_models_say_what_transformers_own_loop_says(config, tokenizer):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert fits_slots(model)
    prompts = prompts_of(9, beginning="a beginning of all of them is shared here . ")
    found = generate(model, tokenizer, prompts, Sampling(8), 4, end_ids(tokenizer, model))
    assert found == [generate_batch(model, tokenizer, [p], Sampling(8), end_ids(tokenizer, model))[0] for p in prompts]


def test_models_that_do_not_fit_are_run_by_transformers_own_loop(tokenizer):
    sliding = AutoModelForCausalLM.from_config(MistralConfig(**SMALL, sliding_window=8)).eval()
    recurrent = MambaForCausalLM(
        MambaConfig(vocab_size=1024, hidden_size=16, num_hidden_layers=1, state_size=4, pad_token_id=0, eos_token_id=2)
    ).eval()
    penalised = AutoModelForCausalLM.from_config(Qwen3Config(**SMALL)).eval()
    assert fits_slots(penalised)
    penalised.generation_config.repetition_penalty = 1.3
    for model in (sliding, recurrent, penalised):
        assert not fits_slots(model)
        prompts = prompts_of(3)
        assert len(generate(model, tokenizer, prompts, Sampling(4), 2, end_ids(tokenizer, model))) == 3


LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


@pytest.mark.parametrize(
    "config",
    [
        MptConfig(vocab_size=1024, d_model=32, n_heads=4, n_layers=2),
        FalconConfig(vocab_size=1024, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, alibi=True),
        Qwen3Config(**SMALL, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}),
        Phi3Config(**SMALL, rope_parameters={**LONG_ROPE, "original_max_position_embeddings": 24, "factor": 4.0}),
    ],
    ids=["columns", "alibi", "dynamic", "longrope"],
)
def test_models_whose_answers_would_hang_on_the_others_do_not_fit(config):
    """In slots MPT said something else to 10 of 20 prompts, a model with longrope to 19."""
    assert not fits_slots(AutoModelForCausalLM.from_config(config).eval())
    assert fits_slots(AutoModelForCausalLM.from_config(Qwen3Config(**SMALL)).eval())


def test_a_row_that_has_ended_goes_no_further_than_its_last_place():
    """A table of positions has none behind the window, which prompt and answer fill."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=1)
    model = AutoModelForCausalLM.from_config(config).eval()
    draw = random.Random(0)
    found = {}
    with torch.inference_mode():
        slots = Slots(model, Sampling(19, 1.0), {1, 2, 3}, found.__setitem__)
        slots.answer([[draw.randrange(4, 64) for _ in range(22)] for _ in range(80)], 32, range(80), bool)
    assert len(found) == 80
    assert {len(ids) for ids in found.values()} >= {2, 19}


def test_prompts_are_read_in_parts_of_bounded_size(monkeypatch):
    monkeypatch.setattr("apo_soup.models.slots.PROMPT_TOKENS_AT_ONCE", 10)
    assert prompt_chunks([0, 1, 2, 3], [[1] * n for n in (2, 5, 5, 20)]) == [[0, 1], [2], [3]]
    assert prompt_chunks([], []) == []
