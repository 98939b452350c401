"""Sides in this process end their answers where the template ends a turn."""

import sys
from types import SimpleNamespace

import pytest

from apo.pairs.engines.engine import make_engine
from apo.pairs.prompts import Prompt
from apo.pairs.side import asked_side
from apo_soup.config.load import load

PROMPT = Prompt("a", [{"role": "user", "content": "Go on."}], {}, None, "p:1")


@pytest.fixture
def side(base_like_qwen, pairs_recipe):
    def make(**keys):
        strong = {"model": str(base_like_qwen), "temperature": 1.0, **keys}
        path, _ = pairs_recipe(strong=strong, max_new_tokens=200)
        return asked_side(load(path, "pairs"), "strong")

    return make


def test_by_transformers(side):
    engine, kept = make_engine(side()), []
    engine.answer([PROMPT], set(), kept.extend)
    (answer,) = kept
    assert all(said.finished and "<|im_end|>" not in said.text for said in answer.completions)


def test_by_vllm(side, monkeypatch):
    asked = []

    class LLM:
        def __init__(self, **arguments):
            self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=512))

        def generate(self, requests, parameters, use_tqdm):
            asked.extend(parameters)
            said = [SimpleNamespace(token_ids=[5, end], finish_reason="stop", stop_reason=None) for end in (0, 2)]
            return [SimpleNamespace(outputs=said) for _ in requests]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=SimpleNamespace))
    monkeypatch.delitem(sys.modules, "apo.pairs.engines.vllm", raising=False)
    kept = []
    make_engine(side(engine="vllm")).answer([PROMPT], set(), kept.extend)
    assert [p.stop_token_ids for p in asked] == [[0, 2]]
    assert [said.tokens for said in kept[0].completions] == [1, 1]
