"""The settings of a run's stages, the main ones first."""

import json

from apo_soup.config.marked import marked_names
from apo_soup.report.configuration import configuration_section


def test_settings_that_are_declared_main_stand_in_the_table(tmp_path):
    config = {"global_batch_size": 16, "learning_rate": 1e-5, "optim": "sgd", "packing": None}
    manifest = {"stage": "sft", "config": config, "inputs": {}, "outputs": {}, "metrics": {}, "command": "x"}
    manifest |= {"fingerprint": "f", "seconds": 3.0, "peak_memory_mb": 100, "machine": "x", "versions": {}}
    manifest |= {"git_commit": None}
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "manifest.json").write_text(json.dumps(manifest))
    cell = configuration_section(tmp_path).partition("<b>sft</b>")[2].partition("<details>")[0]
    assert "global_batch_size 16<br>learning_rate 1e-05<br>" in cell
    assert "optim" not in cell
    assert "packing" not in cell


def test_names_with_a_mark_are_those_of_all_kinds_of_files_at_any_depth():
    assert {"learning_rate", "beta", "mode", "keep", "merge_method", "lr_scheduler_type"} <= set(marked_names("main"))
    assert marked_names("secret") == ("hub_token", "base_url", "api_key_env", "extra_body")
