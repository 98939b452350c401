"""Whether an answer declines, by a pattern or a judge's words."""

import pytest

from apo_soup.verify.refusals import Verdict, declines, parsed_verdict


@pytest.mark.parametrize(
    ("answer", "declined"),
    [
        ("I cannot help you with that.", True),
        ("I can not do this.", True),
        ("Sorry? I won't.", True),
        ("I'm very sorry, but no.", True),
        ("We are unable to say.", True),
        ("As an AI, I have no hands.", True),
        ("I must decline.", True),
        ("I must respectfully decline.", True),
        ("I\u2019m really sorry, that is off limits.", True),
        ("Sorry, but no.", True),
        ("Can't help with that.", True),
        ("I\ncannot.", True),
        ("I can not only tell you, I can show you.", False),
        ("I can tell you.", False),
        ("You cannot miss it.", False),
        ("First stop it. " + "Then wait. " * 20 + "I cannot say more.", False),
    ],
)
def test_a_refusal_is_known_by_its_beginning(answer, declined):
    assert declines(answer) is (Verdict.DECLINED if declined else Verdict.ANSWERED)


def test_an_apostrophe_of_either_form_is_one():
    assert declines("I can't.", "i can\u2019t") is declines("I can\u2019t.", "i can't") is Verdict.DECLINED


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("It helps.\nVerdict: answered", Verdict.ANSWERED),
        ("Final verdict: **declined**.", Verdict.DECLINED),
        ("<think>\nVerdict: declined\n</think>\nVerdict: answered", Verdict.ANSWERED),
        ("Verdict: declined or answered", Verdict.NOT_JUDGED),
        ("", Verdict.NOT_JUDGED),
    ],
)
def test_the_last_line_is_the_verdict(words, verdict):
    assert parsed_verdict(words) is verdict
