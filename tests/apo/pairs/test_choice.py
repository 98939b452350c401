"""The two answers that make a pair, and the balance of lengths, by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apo.pairs.choice import PairChoice, chosen_and_rejected, shingle_similarity, unbalanced_pairs
from apo.pairs.judge import AnswerFilters, JudgedCompletion, judged_completion
from apo.pairs.prompts import Prompt
from apo_soup.models.completion import Completion
from apo_soup.verify.answers import verifier

THINK = AnswerFilters(True)
PROMPT = Prompt("p", [{"role": "user", "content": "2 + 2?"}], {}, "4", "rows.jsonl:1")
RIGHT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, True)
WRONG = Completion("<think>\n2 + 2 = 5\n</think>\n5", 12, True)
CUT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, False)
SILENT = Completion("4", 1, True)
NUMBER = verifier("number", "pairs.yaml:1")
BEST = PairChoice("right_over_wrong")


def judged(completions, verifier=NUMBER):
    return [judged_completion(c, PROMPT, THINK, verifier) for c in completions]


def picked(strong, weak, choice=BEST, verifier=NUMBER):
    """The chosen and the rejected completion, or the reason there are none."""
    outcome = chosen_and_rejected(judged(strong, verifier), judged(weak, verifier), choice)
    return outcome if isinstance(outcome, str) else tuple(j.completion for j in outcome)


def test_the_first_right_strong_answer_over_the_first_wrong_weak_one():
    assert picked([WRONG, RIGHT], [RIGHT, WRONG]) == (RIGHT, WRONG)


@pytest.mark.parametrize(
    ("strong", "weak", "reason"),
    [
        ([WRONG], [WRONG], "strong: wrong"),
        ([CUT], [WRONG], "strong: cut off"),
        ([SILENT, SILENT, CUT], [WRONG], "strong: no think block"),
        ([RIGHT], [RIGHT], "weak: right too"),
        ([RIGHT], [], "weak: no answer"),
    ],
)
def test_a_prompt_without_a_pair_says_why(strong, weak, reason):
    assert picked(strong, weak) == reason


def test_right_over_anything_and_strong_over_weak():
    other = replace(RIGHT, text="<think>\ntwo and two\n</think>\n4")
    assert picked([WRONG, RIGHT], [other], PairChoice("right_over_any")) == (RIGHT, other)
    assert picked([RIGHT], [other, WRONG], PairChoice("right_over_any")) == (RIGHT, WRONG), "the worst of n"
    assert picked([WRONG], [RIGHT], PairChoice("strong_over_weak"), verifier=None) == (WRONG, RIGHT)


def test_best_and_worst_of_n_by_a_score_between_0_and_1():
    def score(text, reference):
        return int(text.rsplit("\n", 1)[-1]) / 10

    found = [replace(RIGHT, text=f"<think>\nhm\n</think>\n{n}") for n in (6, 9, 7, 2, 1, 3)]
    chosen, rejected = picked(found, found, verifier=score)
    assert (chosen.text[-1], rejected.text[-1]) == ("9", "1")


def test_a_rejected_answer_never_scores_above_the_chosen_one():
    better, worse = (
        JudgedCompletion(Completion(text, 2, True), None, s) for text, s in (("it is 4", 0.9), ("it is 5", 0.6))
    )
    assert chosen_and_rejected([worse], [better], PairChoice("right_over_any")) == "weak: better than strong"
    assert chosen_and_rejected([better], [worse], PairChoice("right_over_any")) == (better, worse)
    unknown = replace(better, score=None)
    assert chosen_and_rejected([worse], [unknown], PairChoice("strong_over_weak")) == (worse, unknown)


def test_ties_go_to_the_first_shortest_longest_or_closest_in_length():
    def of(words, right):
        text = f"<think>\n{'so ' * words}\n</think>\n{4 if right else words}"
        return Completion(text, words, True)

    strong, weak = [of(30, True), of(10, True), of(50, True)], [of(20, False), of(48, False), of(9, False)]
    lengths = {}
    for name, choice in {
        "first": BEST,
        "shortest": replace(BEST, tie_break="shortest"),
        "longest": replace(BEST, tie_break="longest"),
        "closest": replace(BEST, balanced=True),
    }.items():
        lengths[name] = tuple(c.tokens for c in picked(strong, weak, choice))
    assert lengths == {"first": (30, 20), "shortest": (10, 9), "longest": (50, 48), "closest": (50, 48)}


def test_equal_and_nearly_equal_sides_make_no_pair():
    text = "<think>\n" + " ".join(f"word{n}" for n in range(60)) + "\n</think>\n5"
    spaced, changed = text.replace(" ", "  "), text.replace("word30", "other")
    one = Completion(text, 60, True)
    free = PairChoice("strong_over_weak")
    assert picked([one], [replace(one, text=spaced)], free) == "both sides are the same"
    assert picked([one], [replace(one, text=changed)], replace(free, near=0.8)) == "both sides are nearly the same"
    assert picked([one], [replace(one, text=changed)], replace(free, near=0.9)) == (one, replace(one, text=changed))
    # 10 words have 6 runs of five; a change of the last word leaves 5 of 7 different runs in common.
    assert shingle_similarity("a b c d e f g h i j", "a b c d e f g h i k") == pytest.approx(5 / 7)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=60), st.sampled_from([0.5, 0.6, 0.9, 1.0])
)
def test_no_side_is_the_longer_one_too_often(lengths, share):
    dropped = unbalanced_pairs(lengths, share)
    left = [pair for n, pair in enumerate(lengths) if n not in dropped]
    for longer in (sum(c > r for c, r in left), sum(c < r for c, r in left)):
        assert longer <= max(share * len(left), 0)
    if share == 1.0:
        assert not dropped


def test_the_pairs_furthest_apart_in_length_go_first():
    assert unbalanced_pairs([(100, 10), (30, 10), (12, 10), (10, 11)], 0.5) == {0, 1}
