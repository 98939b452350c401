"""Filters and verdicts of one completion, by hand."""

from dataclasses import replace

import pytest

from apo.pairs.journal import Answer
from apo.pairs.judge import AnswerFilters, failed_filter, judged_candidates
from apo.pairs.prompts import Prompt
from apo_soup.models.completion import Completion
from apo_soup.verify.answers import verifier

THINK, PLAIN = AnswerFilters(True), AnswerFilters(False)
PROMPT = Prompt("p", [{"role": "user", "content": "2 + 2?"}], {}, "4", "rows.jsonl:1")
RIGHT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, True)
WRONG = Completion("<think>\n2 + 2 = 5\n</think>\n5", 12, True)
CUT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, False)


def test_only_what_passes_the_filters_and_has_a_reference_gets_a_verdict():
    number = verifier("number", "pairs.yaml:1")
    found = judged_candidates(Answer("p", [RIGHT, WRONG, CUT]), PROMPT, THINK, number)
    assert [(j.failed_filter, j.score, j.right) for j in found] == [
        (None, 1.0, True),
        (None, 0.0, False),
        ("cut off", None, None),
    ]
    found = judged_candidates(Answer("p", [RIGHT]), replace(PROMPT, reference=None), THINK, number)
    assert [j.right for j in found] == [None]


@pytest.mark.parametrize(
    ("completion", "filters", "reason"),
    [
        (RIGHT, THINK, None),
        (Completion("", 3, True, "the server's content filter"), PLAIN, "the server's content filter"),
        (CUT, THINK, "cut off"),
        (Completion("<think>\nso", 3, True), THINK, "think block not closed"),
        (Completion("<think>\n</think>\n4", 3, True), THINK, "no think block"),
        (Completion("<think>\nso\n</think>\n ", 3, True), THINK, "empty answer"),
        (RIGHT, PLAIN, "a think block in no-think mode"),
        (Completion("  ", 1, True), PLAIN, "empty answer"),
        (Completion("no", 2, True), AnswerFilters(False, min_tokens=3), "too short"),
        (Completion("no", 9, True), AnswerFilters(False, max_tokens=8), "too long"),
    ],
)
def test_every_filter_names_its_fault(completion, filters, reason):
    assert failed_filter(completion, PROMPT, filters) == reason


def test_an_empty_block_before_an_answer_is_taken_off_where_none_is_wanted():
    """Qwen3 writes one when it is told not to think, wherever its template did not."""
    answer = Answer("p", [Completion("<think>\n\n</think>\n\n4<|im_end|>", 9, True)])
    plain, think = (judged_candidates(answer, PROMPT, filters, None)[0] for filters in (PLAIN, THINK))
    assert (plain.completion.text, plain.failed_filter) == ("4", None)
    assert think.failed_filter == "no think block"


NOT_OFFERED = "a call of a tool that was not offered"


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, None),
        ({"xml_tools": ['{"name": "add"}']}, None),
        ({"xml_tools": '[{"type": "function", "function": {"name": "add"}}]'}, None),
        ({"python_tools": ["def add(a, b): ..."]}, None),
        ({"python_tools": ["adds two numbers"]}, None),
        (
            {"xml_tools": ['{"name": "sub"}'], "python_tools": ["def mul(a, b): ..."]},
            "a call of a tool that was not offered",
        ),
        ({}, "a call of a tool that was not offered"),
    ],
)
def test_calls_are_held_to_the_tools_whose_names_can_be_read(tools, reason):
    call = Completion("", 3, True, calls=({"name": "add", "arguments": {}},))
    assert failed_filter(call, replace(PROMPT, kwargs=tools), PLAIN) == reason


GERMAN = "Der Zug fährt um acht Uhr ab und kommt am späten Nachmittag in der großen Stadt an."
FRENCH = "Le train part à huit heures et arrive en fin d'après-midi dans la grande ville du nord."
CHINESE = (
    "小明和他的朋友们打算在这个周末去城市北边的山上旅行，他们准备了很多食物、饮料和雨伞，早上八点从学校门口出发，"
    "坐公共汽车大约需要一个半小时才能到达山脚下的村庄，然后他们还要步行三公里。请问他们大概什么时候能到达山顶？"
)


def test_an_answer_in_another_language_is_a_fault_and_a_short_or_numeric_one_is_not():
    filters = AnswerFilters(False, language=True, languages=("de", "en", "fr"))
    german = replace(PROMPT, messages=[{"role": "user", "content": GERMAN}])
    assert failed_filter(Completion(FRENCH, 20, True), german, filters) == "another language"
    assert failed_filter(Completion(GERMAN.upper(), 20, True), german, filters) is None
    assert (
        failed_filter(
            Completion("12 345 678 901 234 567 890 + 1 = 12 345 678 901 234 567 891", 20, True), german, filters
        )
        is None
    )
    assert failed_filter(Completion("Oui, merci.", 4, True), german, filters) is None
    chinese = replace(PROMPT, messages=[{"role": "user", "content": CHINESE}])
    every = AnswerFilters(False, language=True)
    assert failed_filter(Completion(GERMAN, 20, True), chinese, every) == "another language"
    assert failed_filter(Completion(CHINESE, 20, True), chinese, every) is None
    thought = Completion(f"<think>\n{FRENCH}\n</think>\n{GERMAN}", 40, True)
    assert failed_filter(thought, german, replace(filters, think=True)) is None, "reasoning may be in any language"
