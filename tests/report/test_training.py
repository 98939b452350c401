"""Curves of a training: which there are, and what they hold."""

import json

from apo_soup.report.run_files import read_run
from apo_soup.report.training import training_section


def test_scores_of_a_suite_while_training_are_curves_of_their_own(run):
    for name, low in (("mid", 0.0), ("apo/1", 0.5), ("apo/2", 0.6)):
        file = run / name / "trainer_state.json"
        log = json.loads(file.read_text())["log_history"]
        log += [
            {"step": step, "eval_suite/sums/think": low, "eval_suite/pairs/margin": -2.0, "eval_suite/seconds": 3.0}
            for step in (0, 400, 899)
        ]
        file.write_text(json.dumps({"log_history": log}))
    shown = training_section(read_run(run)).blocks[0].figures
    titles = [figure.title for figure in shown]
    for stage in ("mid", "apo"):
        assert f"{stage}: sums/think while it trains" in titles
        assert f"{stage}: pairs/margin while it trains" in titles
    assert not any("seconds" in title for title in titles)
