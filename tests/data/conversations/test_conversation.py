"""Rows as conversations and pairs: what is read, and what is refused with its field."""

import pytest
from data_helpers import BAD, GOOD, PROMPT, parsed_row
from helpers import chat

from apo_soup.data.conversations.conversation import parse_conversation, parse_supervised
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.sources.rows import RowError


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "field messages: expected a value, got a row with text; map a column to it"),
        (
            {"messages": [{"role": "tool", "content": "3"}, *chat("Q", "A")["messages"]]},
            r"messages\[0\].role: expected tool behind assistant or tool, got one that comes first; mend the row",
        ),
        (
            {"messages": [*chat("Q", "A")["messages"], PROMPT[0], {"role": "tool", "content": "3"}]},
            r"messages\[3\].role: expected tool behind assistant or tool, got one behind a user turn",
        ),
        (
            {"prompt": chat("Q", "A")["messages"], "completion": "B"},
            "field prompt: expected turns that end before the assistant answers, got an assistant turn at their end",
        ),
        (
            {"prompt": [*chat("Q", "A")["messages"], PROMPT[0]], "completion": PROMPT},
            "field completion: expected an assistant turn, got none, so nothing is trained; add one",
        ),
        ({"messages": "x"}, "field messages: expected a list of turns, got str 'x'"),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content: expected text, got int 3"),
        (
            {"messages": [{"role": "assistant", "content": None, "refusal": "I cannot."}]},
            "got NoneType None; write its refusal there if it is to be trained, or leave the row out",
        ),
        (
            {"messages": [{"role": "alien", "content": "x"}]},
            r"messages\[0\].role: expected one of .*, got 'alien'; correct",
        ),
        (chat("Q", " "), r"messages\[1\].content: expected an answer, got an assistant turn that is empty"),
        (chat("Q", "<think>\nno end"), "expected </think>, got a think block that is never closed"),
        ({"messages": chat("Q", "A")["messages"][:1]}, "expected an assistant turn, got none"),
        ({**chat("Q", "A"), "chat_template_kwargs": 3}, "expected a mapping, got int"),
    ],
)
def test_a_bad_row_names_field_and_finding(row, reason):
    with pytest.raises(RowError, match=reason):
        parse_conversation(row, {})


def test_the_prompt_may_be_implied_by_two_conversations():
    shared = chat("Q1", "A1")["messages"] + [{"role": "user", "content": "Q2"}]
    row = {
        "prompt": "Q1",
        "chosen": [*shared, {"role": "assistant", "content": "good"}],
        "rejected": [*shared, {"role": "assistant", "content": "bad"}],
    }
    item = parse_pair(row, {})
    assert item.prompt == shared
    assert item.chosen == [{"role": "assistant", "content": "good"}]
    assert item.rejected == [{"role": "assistant", "content": "bad"}]


@pytest.mark.parametrize("column", ["tools", "xml_tools", "python_tools"])
def test_an_empty_column_of_tools_says_nothing(column):
    row = chat("What?", "That.", False)
    for empty in ("", "  ", [], "[]"):
        assert column not in parse_supervised({**row, column: empty}, {}).kwargs
        own = {**row, column: empty, "chat_template_kwargs": {column: [{"name": "f"}]}}
        assert parse_supervised(own, {}).kwargs[column] == [{"name": "f"}]


def test_marks_beside_the_words_do_not_part_a_pair():
    sides = {s: [{**PROMPT[0], "id": s}, a] for s, a in (("chosen", GOOD[0]), ("rejected", BAD[0]))}
    item = parsed_row(sides, pairs=True)[1]
    assert (item.prompt[0]["content"], item.chosen, item.rejected) == ("What?", GOOD, BAD)
    same = {s: [{**PROMPT[0]}, {**GOOD[0], "id": s}] for s in ("chosen", "rejected")}
    with pytest.raises(RowError, match="expected two answers, got the same one twice"):
        parsed_row(same, pairs=True)


def test_pairs_that_part_before_their_last_turn_are_no_pair():
    sides = [[*PROMPT, {"role": "assistant", "content": a}, *PROMPT, *GOOD] for a in ("one", "two")]
    with pytest.raises(RowError, match="expected one assistant turn behind the prompt, got 3 turns"):
        parse_pair({"chosen": sides[0], "rejected": sides[1]}, {})


@pytest.mark.parametrize("beside", [{}, {"prompt": PROMPT}, {"system": "Be brief."}])
def test_conversations_that_share_no_prompt_are_no_pair(beside):
    other = [{"role": "user", "content": "Another?"}]
    for sides in ((PROMPT + GOOD, other + BAD), (PROMPT + PROMPT + GOOD, PROMPT + other + BAD)):
        with pytest.raises(RowError, match="expected a shared prompt that ends before an assistant turn"):
            parsed_row(dict(zip(("chosen", "rejected"), sides, strict=True)) | beside, pairs=True)


@pytest.mark.parametrize(
    ("scores", "fits"),
    [
        ({"score_chosen": 9, "score_rejected": 9}, True),
        ({"chosen-rating": 4.5, "rejected-rating": 1}, True),
        ({"chosen_score": 1, "rejected_score": 9}, False),
        ({"rating_chosen": 1, "rating_rejected": 1.5}, False),
        ({"score_chosen": "low", "score_rejected": "high"}, True),
    ],
)
def test_scores_that_contradict_the_sides_of_a_pair_are_refused(scores, fits):
    row = {"prompt": "What?", "chosen": "That.", "rejected": "No.", **scores}
    if fits:
        assert parse_pair(row, {}).chosen[0]["content"] == "That."
        return
    with pytest.raises(RowError, match="expected the chosen answer to score no less than the rejected one, got 1 and "):
        parse_pair(row, {})


def test_reasoning_that_is_context_alone_makes_no_think_row():
    """It stands in a turn that a flag masks, or before the completion, so nothing of it is trained."""
    thought, plain = ({"role": "assistant", "content": text} for text in ("<think>\nr\n</think>\n\nA", "B"))
    asked = {"role": "user", "content": "Q"}
    turns = [asked, thought, asked, plain]
    assert parse_conversation({"messages": turns}, {}).reasons
    assert not parse_conversation({"messages": [asked, {**thought, "weight": 0}, asked, plain]}, {}).reasons
    assert not parse_conversation({"prompt": turns[:3], "completion": [plain]}, {}).reasons
    assert parse_conversation({"prompt": [asked, plain, asked], "completion": [thought]}, {}).reasons


@pytest.mark.parametrize("pairs", [False, True])
def test_a_row_that_states_two_modes_is_refused(pairs):
    asked = [{"role": "system", "content": "Be brief. /think"}, {"role": "user", "content": "What?"}]
    answer, worse = ({"role": "assistant", "content": text} for text in ("That.", "No."))
    row = {"prompt": asked, "chosen": [answer], "rejected": [worse]} if pairs else {"messages": [*asked, answer]}
    told = "field enable_thinking: expected the mode that the system text states with /think, got False; remove one"
    for stated in (
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning": "off"},
    ):
        with pytest.raises(RowError, match=told):
            parsed_row({**row, **stated}, pairs)
    parse = parse_pair if pairs else parse_supervised
    assert parse(row, {"enable_thinking": False}).stated_mode is True
    assert parsed_row({**row, "enable_thinking": True}, pairs)[1].stated_mode is True
