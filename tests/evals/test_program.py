"""The evaluation's program: what its results say that they are of."""

import json
import shutil

import pytest
from helpers import ROOT

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.mix import Mixer
from apo_soup.evals.models_to_evaluate import models_to_evaluate
from apo_soup.evals.program import evaluation_stages, run_evaluation


def test_a_model_that_is_made_anew_before_its_turn_comes_gets_no_results(tmp_path):
    model = tmp_path / "merged"
    shutil.copytree(ROOT / "recipes/tiny/base", model)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "1 + 1?", "answer": "2"}) + "\n")
    task = {"name": "sums", "kind": "answer", "data": str(tmp_path / "rows.jsonl"), "verifier": "number"}
    suite = {"output_dir": str(tmp_path / "run" / "evals"), "models": {"merged": str(model)}, "tasks": [task]}
    (tmp_path / "eval.yaml").write_text(json.dumps(suite))
    recipe = load(tmp_path / "eval.yaml", "eval")
    ((stage, evaluated),) = evaluation_stages(recipe, models_to_evaluate(recipe, None, [], [])).values()
    (model / "generation_config.json").write_text('{"do_sample": true}')
    told = r"models\.merged: expected a model that stays, got .*/merged, which changed since this command began; run it"
    with pytest.raises(UserError, match=told):
        run_evaluation(recipe, stage, evaluated, Mixer(str(recipe.path), False))
    assert not (tmp_path / "run").exists()
