"""The verdicts of a run for programs: figures, the least that is asked of them, and what is missing."""

import json

import pytest

from apo_soup.report.claims import run_claims, share_won_back
from apo_soup.runs.results import evaluated_checkpoints

NAMES = ["mid_reasons", "two_modes", "preference", "long_context_lost", "won_back", "mode_over_turns", "safety",
         "consistency"]  # fmt: skip


@pytest.fixture
def claims(run, results):
    """The claims of the run with the counts of 40 of some stages replaced: thinking problems, needles, preferences."""

    def of(**counts):
        for name, scores in counts.items():
            (run / "evals" / name / "results.json").write_text(json.dumps(results(name, *scores)))
        return {claim.name: claim for claim in run_claims(evaluated_checkpoints(run))}

    return of


def test_every_claim_has_a_line_whatever_the_run_holds(claims):
    found = claims()
    assert list(found) == NAMES
    assert found["mid_reasons"].value == pytest.approx(1 / 40)
    assert not found["mid_reasons"].seen, "one problem more is no reasoner"
    missing = found["mode_over_turns"].as_json()
    assert (missing["value"], missing["low"], missing["seen"]) == (None, None, False)


def test_a_claim_is_seen_from_the_least_that_is_asked_of_it(claims):
    assert claims(mid=(20, 39, 30))["mid_reasons"].seen
    assert not claims(mid=(16, 39, 30))["mid_reasons"].seen, "0.375 is below 0.4, though beyond noise"


def test_preference_counts_only_what_base_does_not_prefer(claims):
    assert claims()["preference"].value is None, "base prefers 39 of 40"
    found = claims(base=(1, 40, 20))["preference"]
    assert (round(found.value, 3), found.seen) == (0.325, True)
    assert claims(sft=(36, 34, 39))["preference"].value is None, "nothing is left to gain"


def test_what_is_won_back_is_a_share_of_what_was_lost(claims):
    found = claims()
    assert (found["long_context_lost"].value, found["long_context_lost"].seen) == (pytest.approx(0.15), True)
    assert (found["won_back"].value, found["won_back"].seen) == (1.0, True)
    assert not claims(merged=(20, 40, 37))["won_back"].seen, "thinking fell"
    assert not claims(merged=(36, 36, 37))["won_back"].seen, "a third, within noise"


def test_a_share_won_back_has_the_noise_of_its_items():
    few = share_won_back([1.0] * 8, [0.0, 0.5] * 4, [0.5] * 8)
    many = share_won_back([1.0] * 800, [0.0, 0.5] * 400, [0.5] * 800)
    assert few.value == many.value == pytest.approx(1 / 3)
    assert few.high - few.low > 3 * (many.high - many.low)
