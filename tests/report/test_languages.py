"""Right answers by language and mode: families together, languages apart."""

from apo_soup.report.languages import answers_by_language, languages_section
from apo_soup.runs.results import EvaluatedCheckpoint


def test_families_of_a_language_are_taken_together(results):
    told = results("sft", 36, 34, 24)
    for name, items in (("add-fr", [1, 1, 0]), ("walk-fr", [0]), ("walk-de", [1, 1])):
        told["metrics"][f"problems/think/{name}"] = {"value": 0.5, "n": len(items), "headline": False, "items": items}
    stage = EvaluatedCheckpoint("sft", told, None)
    assert answers_by_language(stage) == {("problems", "think"): {"fr": [1, 1, 0, 0], "de": [1, 1]}}
    page = languages_section([stage])
    assert "problems think" in page
    assert "0.50<small>0.15 to 0.85</small>" in page
    assert "1.00<small>0.34 to 1.00</small>" in page
    assert languages_section([EvaluatedCheckpoint("sft", results("sft", 36, 34, 24), None)]) == ""
