"""Answers on disk: a journal that was torn anywhere."""

from dataclasses import replace

import pytest

from apo.pairs.journal import Answer, Journal
from apo_soup.errors import UserError
from apo_soup.models.completion import Completion

RIGHT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, True)
WRONG = Completion("<think>\n2 + 2 = 5\n</think>\n5", 12, True)
CUT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, False)


def test_a_journal_torn_at_any_byte_keeps_what_was_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    first, second = (
        Answer("a", [RIGHT], 7),
        Answer("b", [WRONG, replace(CUT, text="né", calls=({"name": "f", "arguments": {}},))]),
    )
    with Journal(path) as journal:
        journal.add([first])
        journal.add([second, Answer("refused", [], problem="no")])
        assert journal.done == {"a", "b"}
    text = path.read_bytes()
    end = text.index(b"\n") + 1
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        with Journal(path) as journal:
            assert list(journal.answers.values()) == ([first, second] if size == len(text) else [first] * (size >= end))
            journal.add([replace(second, prompt="c")])
        with Journal(path) as journal:
            assert journal.answers["c"].completions == second.completions, "what is added behind a cut is whole"
    for line in ('{"not": "ours"}', '[{"prompt": [1], "completions": []}]', "[" * 10**5):
        path.write_text(f"{line}\n")
        with pytest.raises(UserError, match=r"answers.jsonl:1: expected a record of answers, got another line"):
            Journal(path)
    path.write_text('{"not": "ours"}\n')
    with pytest.raises(
        UserError, match=r"answers.jsonl:1: expected a record of answers, got another line .*remove it to ask again"
    ):
        Journal(path)
