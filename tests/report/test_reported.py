"""What SmolLM3's makers reported, asked of a run."""

import json

from apo_soup.report.reported import reported_findings
from apo_soup.runs.results import evaluated_checkpoints


def test_the_page_tells_what_the_makers_reported_by_figures(run, results):
    findings = {c.statement: (c.verdict, round(c.gain.value, 3)) for c in reported_findings(evaluated_checkpoints(run))}
    assert findings["Reasoning is gained by mid-training"] == ("not seen, within noise", 0.025)
    assert findings["Reasoning is gained by fine-tuning"] == ("seen", 0.875)
    assert findings["Alignment is gained by preference optimisation"] == ("seen", 0.325)
    assert findings["Long context is lost on the way"] == ("seen", -0.15)
    assert findings["Long context is won back by the merge"] == ("seen", 0.15)
    merged = run / "evals" / "merged" / "results.json"
    merged.write_text(json.dumps(results("merged", 36, 34, 37)))
    assert reported_findings(evaluated_checkpoints(run))[-1].verdict == "not seen, within noise"
    other = json.loads(merged.read_text())
    other["tasks"]["needle"]["rows"] = "other items"
    merged.write_text(json.dumps(other))
    assert len(reported_findings(evaluated_checkpoints(run))) == 4, "other items are not compared"
