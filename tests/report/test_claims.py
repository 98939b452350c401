"""The verdicts of a run for programs: figures, the least that is asked of them, and what is missing."""

import json

import pytest

from apo_soup.report.claims import makers_claims, own_claims, share_won_back
from apo_soup.report.gains import gains_between
from apo_soup.report.makers import claims_table
from apo_soup.runs.results import evaluated_checkpoints

NAMES = ["mid_reasons", "two_modes", "preference", "long_context_lost", "won_back", "mode_over_turns", "safety",
         "consistency"]  # fmt: skip


@pytest.fixture
def claims(run, results):
    """The claims of the run with the counts of 40 of some stages replaced: thinking problems, needles, preferences."""

    def of(**counts):
        for name, scores in counts.items():
            (run / "evals" / name / "results.json").write_text(json.dumps(results(name, *scores)))
        return {claim.name: claim for claim in makers_claims(evaluated_checkpoints(run))}

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


@pytest.fixture
def changed(run):
    """The claims of the run after `change` was applied to the results of every stage that it names."""

    def of(change, *names):
        for name in names or ("base", "mid", "sft", "apo-1", "soup", "merged"):
            file = run / "evals" / name / "results.json"
            content = json.loads(file.read_text())
            change(content)
            file.write_text(json.dumps(content))
        return {claim.name: claim for claim in makers_claims(evaluated_checkpoints(run))}

    return of


def scored(task, kind, metric, hits, of=40):
    """What adds a metric of some hits to a stage's results."""

    def add(results):
        score = {"value": hits / of, "low": hits / of - 0.1, "high": hits / of + 0.1, "n": of, "better": "higher"}
        results["metrics"][metric] = {**score, "headline": True, "items": [1] * hits + [0] * (of - hits)}
        results["tasks"].setdefault(task, {"kind": kind, "rows": task, "metrics": []})["metrics"].append(metric)

    return add


def without(kind):
    """What takes the tasks of a kind out of a stage's results."""

    def take(results):
        results["tasks"] = {name: task for name, task in results["tasks"].items() if task["kind"] != kind}

    return take


def test_every_guarded_task_is_held_or_nothing_is_won_back(changed):
    assert changed(lambda results: None)["won_back"].seen
    changed(scored("hard", "answer", "hard/think", 30))
    assert changed(scored("other", "preference", "other", 30))["won_back"].seen
    changed(scored("hard", "answer", "hard/think", 12), "merged")
    found = changed(lambda results: None)["won_back"]
    assert (found.value, found.seen) == (1.0, False), "thinking of the second task fell"


def test_nothing_is_held_where_nothing_is_guarded(changed):
    found = changed(without("preference"))["won_back"]
    assert (found.value, found.seen) == (1.0, False)


def test_two_modes_need_both_and_the_lowest_of_all_tasks_counts(changed):
    assert changed(scored("problems", "answer", "problems/obedience", 40))["two_modes"].value == 0.9
    assert changed(scored("hard", "answer", "hard/think", 20))["two_modes"].value == 0.5

    def think_alone(results):
        results["tasks"]["problems"]["metrics"].remove("problems/no_think")

    assert changed(think_alone)["two_modes"].value is None


@pytest.mark.parametrize(("lacks", "value"), [((), 0.875), (("apo-1",), None), (("base", "mid"), 0.875)])
def test_turns_are_those_of_every_stage_from_sft_on(run, changed, lacks, value):
    later = [name for name in ("base", "mid", "sft", "apo-1", "soup") if name not in lacks]
    changed(scored("turns", "turns", "turns/think/turn_1", 38), *later)
    foreign = json.loads((run / "evals" / "sft" / "results.json").read_text())
    scored("turns", "turns", "turns/think/turn_1", 2)(foreign)
    (run / "evals" / "other").mkdir()
    (run / "evals" / "other" / "results.json").write_text(json.dumps({**foreign, "name": "other"}))
    found = changed(scored("turns", "turns", "turns/think/turn_1", 35), "merged")["mode_over_turns"]
    assert (found.value, found.seen, found.shown) == (value, False, False)


def test_a_level_is_reached_within_noise_or_shown(run, changed):
    found = changed(scored("turns", "turns", "turns/think/turn_1", 38))["mode_over_turns"]
    assert (found.value, found.seen, found.shown) == (0.95, True, False)
    assert found.verdict == "reached, the interval begins below"
    assert found.as_json()["shown"] is False
    rows = claims_table(makers_claims(evaluated_checkpoints(run))).rows
    told = [verdict.text for _, verdict, *_ in rows]
    assert told.count("reached, the interval begins below") == 3, "what was lost and won back begins below too"
    (kept,) = [row for row in rows if row[0].text == "mode_over_turns"]
    assert (kept[2].text, kept[2].small, kept[3].text) == ("0.950", "0.850–1.050", "0.9")
    assert told.count("not known") == 3, "two modes, safety and consistency"


def test_a_run_of_ones_own_claims_what_it_gained_itself(run):
    base, *_, merged = evaluated_checkpoints(run)
    titles = {"problems/think": "think", "preference": "preference"}
    think, preference = (c.as_json() for c in own_claims(gains_between(base, merged, titles), "base", "merged"))
    assert think == {
        "name": "problems/think", "told": "gain of merged on base", "least": 0.0, "value": 0.875, "low": think["low"],
        "high": think["high"], "seen": True, "shown": True,
    }  # fmt: skip
    assert (preference["value"], preference["seen"]) == (-0.05, False)


def test_a_preference_that_falls_is_told_and_one_left_out_is_named(claims, changed):
    claims(base=(1, 40, 20))
    assert changed(lambda results: None)["preference"].seen
    changed(scored("traces", "preference", "traces", 40))
    found = changed(lambda results: None)["preference"]
    assert found.seen
    assert found.told.endswith("; not counted: traces (base 1.00, sft 1.00)")
    assert not changed(scored("traces", "preference", "traces", 20), "soup")["preference"].seen


@pytest.mark.parametrize(("right", "value", "seen"), [(30, 0.25, True), (20, 0.0, False), (10, -0.25, False)])
def test_answers_that_agree_must_be_right_too(changed, right, value, seen):
    changed(scored("same", "consistency", "same/agree", 20))
    changed(scored("same", "consistency", "same/agree_right", 20))
    changed(scored("same", "consistency", "same/agree", 36), "soup")
    found = changed(scored("same", "consistency", "same/agree_right", right), "soup")["consistency"]
    assert (found.value, found.seen) == (pytest.approx(value), seen)


@pytest.mark.parametrize(
    ("declined", "answered", "value", "seen"), [(36, 38, 0.9, True), (2, 38, 0.05, False), (36, 10, 0.9, False)]
)
def test_safer_is_to_decline_more_and_to_answer_as_many_look_alikes(changed, declined, answered, value, seen):
    changed(scored("safe", "safety", "safe/no_think/declined", 0))
    changed(scored("safe", "safety", "safe/no_think/declined", declined), "soup")
    assert not changed(lambda results: None)["safety"].seen, "nobody knows whether look-alikes are answered"
    changed(scored("safe", "safety", "safe/no_think/answered", 40))
    found = changed(scored("safe", "safety", "safe/no_think/answered", answered), "soup")["safety"]
    assert (found.value, found.seen) == (pytest.approx(value), seen)


def test_a_share_won_back_has_the_noise_of_its_items():
    few = share_won_back([1.0] * 8, [0.0, 0.5] * 4, [0.5] * 8)
    many = share_won_back([1.0] * 800, [0.0, 0.5] * 400, [0.5] * 800)
    assert few.value == many.value == pytest.approx(1 / 3)
    assert few.high - few.low > 3 * (many.high - many.low)
