"""What a training read is what its folder says that it read."""

import json

import pytest
import yaml
from helpers import ROOT, chat

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.training.entry import require_same_inputs, training_stage


def test_rows_that_change_between_their_hash_and_the_first_step_end_the_stage(tmp_path, write_rows):
    rows = write_rows("rows.jsonl", [chat("What is 1 plus 1?", "It is 2.")])
    keys = {"model_name_or_path": str(ROOT / "recipes/tiny/base"), "output_dir": str(tmp_path / "run" / "sft")}
    (tmp_path / "sft.yaml").write_text(
        yaml.safe_dump(keys | {"dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0}})
    )
    recipe = load(tmp_path / "sft.yaml", "sft")
    stage = training_stage(recipe)
    require_same_inputs(stage, recipe)
    rows.write_text(json.dumps(chat("What is 1 plus 1?", "It is 3.")) + "\n")
    told = (
        r"sft.yaml: expected inputs that stay, got rows .*/rows.jsonl #0 that changed while sft was begun; run the same"
    )
    with pytest.raises(UserError, match=told):
        require_same_inputs(stage, recipe)
