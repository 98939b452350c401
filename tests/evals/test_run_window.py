"""Answers for which a model has no places are not asked for."""

import pytest
from helpers import chat

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.run import evaluate_model


def test_prompts_and_answers_fit_the_model_s_window(tiny_model, write_rows, write_recipe, tmp_path):
    rows = [{"messages": chat(f"{n} + 1?", "")["messages"][:1], "answer": "4"} for n in (1, 22)]
    data = str(write_rows("q.jsonl", rows))
    for kind in ("answer", "turns"):
        task = {"name": "sums", "kind": kind, "data": data, "modes": "no_think", "max_new_tokens": 4}
        task |= {"turns": 2, "switch": 0} if kind == "turns" else {}
        path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
        assert evaluate_model(load(path, "eval"), tiny_model)["metrics"]
        path.write_text(path.read_text().replace("max_new_tokens: 4", "max_new_tokens: 490"))
        told = r"eval.yaml:\d+: tasks.0.max_new_tokens: expected prompts of at most 22 tokens, for which the model's"
        with pytest.raises(UserError, match=f"{told} window of 512 has room beside an answer of 490, got "):
            evaluate_model(load(path, "eval"), tiny_model)
