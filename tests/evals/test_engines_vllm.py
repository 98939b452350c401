"""What vLLM is asked for by our own kinds, on a package of its interface."""

import importlib.util
import sys

import pytest
from helpers import chat

from apo_soup.config.load import load
from apo_soup.evals.run import evaluate_model

VLLM = """
from types import SimpleNamespace as S
__version__, started, ended, seeds, stops = "9.9", [], [], [], []
class SamplingParams(S): pass
class LLM:
    def __init__(self, **arguments):
        started.append(arguments["model"])
        self.llm_engine = S(engine_core=S(shutdown=lambda: ended.append(arguments["model"])))
    def generate(self, requests, parameters, use_tqdm):
        seeds.extend(p.seed for p in parameters)
        stops.extend(p.stop_token_ids for p in parameters)
        said = S(token_ids=[5, 2], finish_reason="stop", stop_reason=None)
        return [S(outputs=[said]) for _ in requests]
"""


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    (tmp_path / "vllm.py").write_text(VLLM)
    spec = importlib.util.spec_from_file_location("vllm", tmp_path / "vllm.py")
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    monkeypatch.setitem(sys.modules, "vllm", package)
    return package


def test_every_model_has_an_engine_of_its_own_that_ends_with_it(vllm, tiny_model, write_rows, write_recipe, tmp_path):
    rows = [{"messages": chat(f"{n} + 1?", "")["messages"][:1], "answer": "4"} for n in range(3)]
    drawn = {"temperature": 1.0, "repeats": 2}
    task = {"name": "sums", "kind": "answer", "data": str(write_rows("q.jsonl", rows)), "modes": "no_think", **drawn}
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task], "engine": "vllm"})
    for seed in ("0", "1"):
        found = evaluate_model(load(path, "eval", ["--seed", seed]), tiny_model)
    assert found["engine"]["answers"] == "vllm"
    assert vllm.started == vllm.ended == [str(tiny_model)] * 2
    assert len(set(vllm.seeds)) == 12, "two suites' seeds share no answer's"


def test_an_answer_ends_where_the_template_ends_a_turn(vllm, base_like_qwen, write_rows, write_recipe, tmp_path):
    rows = write_rows("q.jsonl", [{"messages": chat("1 + 1?", "")["messages"][:1], "answer": "4"}])
    task = {"name": "sums", "kind": "answer", "data": str(rows), "modes": "no_think"}
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task], "engine": "vllm"})
    found = evaluate_model(load(path, "eval"), base_like_qwen)
    assert vllm.stops == [[0, 2]]
    assert "<|im_end|>" not in found["samples"][0]["answer"]
