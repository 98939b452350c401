"""Names of scores, as they are known before a task's rows are read."""

import pytest
from pydantic import TypeAdapter

from apo_soup.config.eval import Task
from apo_soup.config.score_names import score_fault, score_names

CODE = {"release": "release_v1"}


def task(**values):
    return TypeAdapter(Task).validate_python({"name": "t"} | values)


@pytest.mark.parametrize(
    ("values", "names", "groups"),
    [
        (
            {"kind": "answer", "data": "x"},
            "t/think t/think/tokens t/no_think t/no_think/tokens t/obedience t/closed",
            "t/think/ t/no_think/",
        ),
        (
            {"kind": "answer", "data": "x", "modes": "no_think", "repeats": 4, "pass_at": [2, 1], "temperature": 1},
            "t/no_think/avg@4 t/no_think/pass@1 t/no_think/pass@2 t/no_think/tokens t/obedience",
            "t/no_think/",
        ),
        ({"kind": "tool", "data": "x", "modes": "think"}, "t/think/valid t/think/right", ""),
        (
            {"kind": "turns", "data": "x", "modes": "think", "turns": 3},
            "t/think/kept t/think/turn_1 t/think/turn_2 t/think/turn_3 t/think_to_no_think/kept "
            "t/think_to_no_think/turn_3",
            "",
        ),
        ({"kind": "turns", "data": "x", "modes": "think", "turns": 1}, "t/think/kept t/think/turn_1", ""),
        (
            {"kind": "consistency", "data": "x", "modes": "think"},
            "t/agree t/agree_right t/think/agree t/think/agree_right",
            "",
        ),
        (
            {"kind": "safety", "data": "x", "modes": "think"},
            "t/think/declined t/think/answered t/think/tokens",
            "t/think/declined/ t/think/answered/",
        ),
        ({"kind": "recall", "data": "x"}, "", "t/"),
        ({"kind": "preference", "data": "x"}, "t t/margin", ""),
        ({"kind": "loss", "data": "x"}, "t t/think t/no_think", ""),
        ({"kind": "context_loss", "data": "x", "length": 200}, "t/64 t/128 t/200", ""),
        ({"kind": "bfcl", "python": "x", "modes": "think"}, "t/think", "t/think/"),
        ({"kind": "livecodebench", "modes": "think", **CODE}, "t/think/tokens t/think/code", ""),
        (
            {"kind": "livecodebench", "modes": "think", "program": "x", "unsafe_code": True, **CODE},
            "t/think t/think/tokens t/think/code",
            "t/think/",
        ),
    ],
)
def test_each_kind_has_its_scores(values, names, groups):
    found = score_names(task(**values))
    assert (list(found.certain), list(found.groups)) == (names.split(), groups.split())
    assert {name for name, chosen in found.certain.items() if not chosen} == {
        name for name in names.split() if name.endswith("tokens")
    }


SUMS = {"kind": "answer", "data": "x", "name": "sums", "modes": ["no_think"]}
KNOWN = "(sums/no_think, sums/obedience, sums/no_think/GROUP)"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sums", f"expected one of its scores {KNOWN}, got sums; "),
        ("sums/no-think", f"expected one of its scores {KNOWN}, got sums/no-think; the nearest is sums/no_think"),
        ("sums/think", f"expected one of its scores {KNOWN}, got sums/think; the nearest is sums/no_think"),
        ("sums/no_think/avg@4", f"expected one of its scores {KNOWN}, got sums/no_think/avg@4; "),
        ("sums/no_think/", f"expected one of its scores {KNOWN}, got sums/no_think/; the nearest is sums/no_think"),
        ("sums/no_think/tokens", f"expected a score that is better when higher or lower {KNOWN}, got sums/no_think/"),
        ("pairs/accuracy", "expected one of its scores (pairs, pairs/margin), got pairs/accuracy; "),
        ("summs/no_think", "expected a score of one of the tasks (sums, pairs, mmlu), got summs/no_think; correct the"),
    ],
)
def test_a_score_that_no_task_has_is_told(name, told):
    others = [{"kind": "preference", "data": "x", "name": "pairs"}, {"kind": "harness", "name": "mmlu", "tasks": "m"}]
    tasks = [task(**values) for values in (SUMS, *others)]
    assert str(score_fault(name, tasks)).startswith(told)
    right = ("sums/no_think", "sums/no_think/hard", "sums/obedience", "pairs", "pairs/margin", "mmlu", "mmlu/m/acc")
    assert [score_fault(other, tasks) for other in right] == [None] * len(right)
