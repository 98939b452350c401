"""Reasoning is taken off what the harness's models say."""

import pytest

from apo_soup.errors import UserError
from apo_soup.evals.harness.models import RefusesOverflow, has_open_reasoning, without_special_tokens


@pytest.mark.parametrize(
    ("answer", "before", "unfinished"),
    [
        ("<think>so 4", "assistant\n", True),
        ("<think>so</think>4", "assistant\n", False),
        ("so 4", "<think>\n", True),
        ("so</think>4", "<think>\n", False),
        ("4", "</think>\n", False),
    ],
)
def test_an_open_reasoning_is_told_from_an_answer(answer, before, unfinished):
    assert has_open_reasoning(answer, before) is unfinished


def test_special_tokens_are_taken_off_but_the_think_tags(tokenizer):
    assert without_special_tokens("<think>a</think>b<|im_end|><|endoftext|>", tokenizer) == "<think>a</think>b"
    assert without_special_tokens("a<|im_start|>", tokenizer) == "a", "one without a name"


def test_a_template_without_end_stops_the_harness_with_a_sentence(monkeypatch, tokenizer):
    """The harness renders by transformers' own means, which set no limit."""

    class Rendering:
        def apply_chat_template(self, history):
            text = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
            return tokenizer.apply_chat_template(history, chat_template=text, tokenize=False)

    class Limited(RefusesOverflow, Rendering):
        pass

    monkeypatch.setattr("apo_soup.evals.harness.models.TIME_LIMIT", 0.1)
    with pytest.raises(UserError, match="expected a template that ends, got one that is not done with a row"):
        Limited().apply_chat_template([{"role": "user", "content": "x"}])
