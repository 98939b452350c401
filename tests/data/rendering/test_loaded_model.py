"""Where answers end: at the tokenizer's end, the generation settings', and the template's."""

import pytest
import torch

from apo_soup.data.rendering.loaded_model import load_model
from apo_soup.models.completion import Sampling
from apo_soup.models.generation import generate, generate_batch
from apo_soup.models.tokenizer import TokenizerKeys
from apo_soup.models.vllm import vllm_completion

WITHOUT_END = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize("template", [None, WITHOUT_END])
def test_an_answer_ends_where_the_template_ends_a_turn(template, base_like_qwen):
    asked = load_model(str(base_like_qwen), "MODEL", TokenizerKeys(template))
    end_of_text, end_of_turn = asked.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert asked.ends == ({end_of_text} if template else {end_of_text, end_of_turn})
    assert asked.end_texts == ["<|endoftext|>", "<|im_end|>"][: 1 if template else 2]


def test_every_loop_of_answers_ends_there(base_like_qwen):
    asked = load_model(str(base_like_qwen), "MODEL")
    prompts = [asked.renderer.prompt([{"role": "user", "content": "Go on."}], {})]
    torch.manual_seed(0)
    for loop in (
        lambda: generate(asked.model, asked.tokenizer, prompts, Sampling(200), 1, asked.ends),
        lambda: generate_batch(asked.model, asked.tokenizer, prompts, Sampling(200), asked.ends),
    ):
        (said,) = loop()
        assert said.finished
        assert "<|im_end|>" not in said.text


def test_vllms_answer_loses_any_of_the_ends(tokenizer):
    class Output:
        finish_reason, stop_reason = "stop", None

        def __init__(self, ids):
            self.token_ids = ids

    (word,) = tokenizer("4").input_ids
    for last in (1, 2):
        assert vllm_completion(Output([word, last]), tokenizer, {1, 2}).text == "4"
    assert vllm_completion(Output([word, 3]), tokenizer, {1, 2}).tokens == 2
