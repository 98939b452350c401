"""The settings of a run's stages, the main ones first."""

import json

from apo_soup.config.marked import marked_names
from apo_soup.report.configuration import settings_section
from apo_soup.report.run_files import read_run


def test_settings_that_are_declared_main_stand_in_the_table(tmp_path):
    config = {"global_batch_size": 16, "learning_rate": 1e-5, "optim": "sgd", "packing": None}
    manifest = {
        "stage": "sft",
        "config": config,
        "inputs": {},
        "outputs": {},
        "metrics": {},
        "command": "x /home/me/base",
    }
    manifest |= {"fingerprint": "f", "seconds": 3.0, "peak_memory_mb": 100, "machine": "x", "versions": {}}
    manifest |= {"git_commit": None}
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "manifest.json").write_text(json.dumps(manifest))
    folded, _ = settings_section(read_run(tmp_path)).blocks
    table, whole = folded.parts
    assert [cell.text for cell in table.rows[0]] == ["sft", "global_batch_size 16; learning_rate 1e-05", "x base"]
    assert '"optim": "sgd"' in whole.parts[0].text


def test_what_tells_members_apart_is_all_that_is_shown_of_them(demo_run):
    differences, *_ = settings_section(read_run(demo_run)).blocks
    assert [[cell.text for cell in row] for row in differences.rows] == [["seed", "1", "2", "3"]]


def test_names_with_a_mark_are_those_of_all_kinds_of_files_at_any_depth():
    assert {"learning_rate", "beta", "mode", "keep", "merge_method", "lr_scheduler_type"} <= set(marked_names("main"))
    assert marked_names("secret") == ("hub_token", "base_url", "api_key_env", "extra_body")
