"""Judges: which words are a score, what a reward model says, and what that makes of pairs."""

import json

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from apo.pairs.choice import PairChoice, chosen_and_rejected
from apo.pairs.judge import JudgedCompletion
from apo.pairs.verdicts import judge_text, parsed_score
from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.models.completion import Completion

JUDGE = {"model": "j", "base_url": "http://x/v1"}


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        ("Score: 7", 7),
        ("Fine.\n\nscore: 7.5\n", 7.5),
        ("**Score: 1**", 1),
        ("**Score:** 10.", 10),
        ("<think>Score: 3</think>\nScore: 4", 4),
        ("Score: 0", None),
        ("Score: 10.01", None),
        ("Score: 7/10", 7),
        ("**Score**: 7 / 10", 7),
        ("### Final score: [8.5]", 8.5),
        (r"Score: \boxed{8}", 8),
        ("Score: 7/7", None),
        ("Score: 7 of 8", None),
        ("Score: seven", None),
        ("Score: 5\nScore: 7 or so", None),
        ("7", None),
        ("", None),
        ("<think>Score: 3", None),
    ],
)
def test_a_score_stands_alone_in_the_last_line(verdict, score):
    assert parsed_score(verdict, 1, 10) == score


def test_what_is_filled_into_a_template_is_not_read_again():
    assert judge_text("Q {question} A {answer} {least}-{most} {other}", "{answer}", "{question}\\1", 0, 5) == (
        "Q {answer} A {question}\\1 0-5 {other}"
    )


def scored(text, score):
    return JudgedCompletion(Completion(text, 3, True), None, None, score)


def test_a_judge_must_score_the_chosen_answer_higher_by_the_margin():
    def picked(strong, weak, margin=0.0):
        found = chosen_and_rejected(
            [scored(f"s{n}", x) for n, x in enumerate(strong)],
            [scored(f"w{n}", x) for n, x in enumerate(weak)],
            PairChoice("strong_over_weak", margin=margin),
        )
        return found if isinstance(found, str) else tuple(one.judge_score for one in found)

    assert picked([5, 8], [4, 6]) == (8, 4)
    assert picked([5], [5]) == "judge: no margin"
    assert picked([-3.0], [-5.0], 2) == (-3, -5)
    assert picked([7], [5.5], 2) == "judge: no margin"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"judge": JUDGE | {"template": "Judge {answer}"}}, r"judge.template: expected \{question\} in it"),
        ({"judge": JUDGE | {"scale": [5, 1]}}, "judge.scale: expected the least score first, got 5, 1"),
        ({"judge": JUDGE | {"scale": [1, 2, 3]}}, "judge.scale: "),
        ({"judge": JUDGE | {"scale": [1, 5]}, "margin": 4.5}, "margin: expected at most 4, the width of the judge's"),
        ({"judge": JUDGE | {"votes": 0}}, "judge.votes: expected "),
        ({"judge": JUDGE | {"votes": 3}}, "judge.votes: expected a temperature above 0 for 3 votes, which"),
        ({"judge": {"model": "j"}}, "judge.base_url: expected text, got nothing"),
        ({"judge": {"engine": "reward", "model": "j", "votes": 3}}, "judge.votes: expected "),
        ({"margin": 1}, "margin: expected judge beside it"),
    ],
)
def test_mistakes_about_judges_are_sentences(pairs_recipe, keys, told):
    path, _ = pairs_recipe(**keys)
    with pytest.raises(UserError, match=told):
        load(path, "pairs")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory, tokenizer):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_labels=1, pad_token_id=None, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reward")
    Qwen3ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_scores_pairs(pairs_recipe, reward_model, tokenizer, make_here):
    """In batches it says of a conversation what it says of it alone."""
    path, folder = pairs_recipe(judge={"engine": "reward", "model": str(reward_model), "batch_size": 5}, margin=0.1)
    make_here(path)
    pairs = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(pairs) > 3
    model = Qwen3ForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    for pair in pairs[:6]:
        told = pair["provenance"]["scores"]
        assert told["chosen"] >= told["rejected"] + 0.1
        for side in ("chosen", "rejected"):
            text = tokenizer.apply_chat_template(pair["prompt"] + pair[side], tokenize=False, enable_thinking=False)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
            with torch.no_grad():
                assert model(**ids).logits.item() == pytest.approx(told[side], abs=1e-4)
    assert pairs[0]["provenance"]["judge"]["engine"] == "reward"


def test_a_classifier_of_several_classes_is_no_reward_model(pairs_recipe, reward_model, tmp_path, make_here, tokenizer):
    model = Qwen3ForSequenceClassification.from_pretrained(reward_model, num_labels=3, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "classes")
    tokenizer.save_pretrained(tmp_path / "classes")
    path, _ = pairs_recipe(judge={"engine": "reward", "model": str(tmp_path / "classes")})
    with pytest.raises(UserError, match=r"judge.model: expected a reward model, .* got 3 logits; name another"):
        make_here(path)
