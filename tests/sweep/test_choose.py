"""Which point of a walk is chosen, and by what."""

from types import SimpleNamespace

import pytest

from apo_soup.errors import UserError
from apo_soup.sweep.choose import Yardstick


def scores(**columns):
    return {
        name: {"value": sum(items) / len(items), "items": items, "better": "higher", "headline": True}
        for name, items in columns.items()
    }


HALF, ALL, NONE = [1.0, 0.0] * 20, [1.0] * 40, [0.0] * 40


def yardstick(reference, **keys):
    usual = {"metric": None, "guardrails": None, "bootstrap": 200, "seed": 0}
    return Yardstick.of(SimpleNamespace(**usual | keys), reference, "file:1: metric")


def test_without_keys_the_first_headline_score_is_best_and_the_others_are_guarded():
    found = scores(first=HALF, second=HALF)
    found["third"] = found["second"] | {"headline": False}
    made = yardstick(found)
    assert (made.metric, made.guardrails) == ("first", {"second": 0.0})
    assert made.as_json()["better"] == {"first": "higher", "second": "higher"}


def test_a_guardrail_of_one_item_which_cannot_fall_is_refused():
    reference = scores(first=HALF, loss=[2.5])
    with pytest.raises(UserError, match="file:1: metric: expected guardrails with an interval, got loss of"):
        yardstick(reference, guardrails={"loss": 0.0})
    assert yardstick(reference, guardrails={"first": 0.0}).guardrails == {"first": 0.0}


def test_no_point_is_chosen_where_all_fall_and_a_margin_lets_one_stand():
    reference = scores(first=HALF, second=ALL)
    found = {"low": scores(first=ALL, second=NONE), "some": scores(first=ALL, second=[1.0] * 30 + [0.0] * 10)}
    for margin, chosen in ((0.0, None), (0.2, "some")):
        made = yardstick(reference, guardrails={"second": margin})
        points = [made.point(name, metrics) for name, metrics in found.items()]
        best = made.best(points, found)
        assert (best and best.label) == chosen


def test_a_point_that_fell_early_has_what_was_measured():
    made = yardstick(scores(first=HALF, second=ALL), guardrails={"second": 0.0})
    point = made.point("low", scores(second=NONE), partly=True)
    assert (point.fallen, point.scores) == (("second",), {"second": 0.0})
    with pytest.raises(UserError, match="expected one of second, which keep single items, got first"):
        made.point("low", scores(second=NONE))


def test_of_equal_scores_the_files_own_or_the_last_is_taken_and_the_other_named():
    made = yardstick(scores(first=HALF), metric="first", guardrails={})
    found = {"a": scores(first=ALL), "b": scores(first=ALL), "c": scores(first=NONE)}
    points = [made.point(name, metrics) for name, metrics in found.items()]
    for own, label, alike in ((), "b", "a"), (("a",), "a", "b"), (("c",), "b", "a"):
        best = made.best(points, found, own)
        assert (best.label, best.alike) == (label, (alike,))


def test_a_walk_over_nothing_that_has_items_is_told():
    with pytest.raises(UserError, match="expected a score with single items to choose a point by, got none"):
        yardstick({"speed": {"value": 1.0, "headline": True, "better": "higher"}})
