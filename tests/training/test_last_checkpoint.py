"""Checkpoints of a stage that was killed: only those that were written to their end count."""

from apo_soup.runs.stage import Stage
from apo_soup.training.checkpoints import WHOLE, begin_stage, last_checkpoint


def test_a_stage_goes_on_from_its_newest_whole_checkpoint(tmp_path):
    stage = Stage("sft", tmp_path / "sft", {}, {})
    begin_stage(stage)
    assert last_checkpoint(stage.partial) is None
    for step in (5, 10, 100, 105):
        (stage.partial / f"checkpoint-{step}").mkdir()
    for step in (5, 100):
        (stage.partial / f"checkpoint-{step}" / WHOLE).touch()
    assert last_checkpoint(stage.partial) == stage.partial / "checkpoint-100", "by number, not by name"
    begin_stage(stage)
    assert sorted(f.name for f in stage.partial.glob("checkpoint-*")) == ["checkpoint-100", "checkpoint-5"]
