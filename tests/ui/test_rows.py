"""Rows on pages: what becomes of large, odd and refused ones, and of sources that are not there."""

import gzip
import json
import threading

import pytest
import yaml
from helpers import chat, preference
from ui_helpers import client_of, site_of

from apo_soup.cli.ui import opened_file
from apo_soup.ui.rows import CHARACTERS_A_TEXT, RowViews


@pytest.fixture
def views(recipe):
    return RowViews(recipe, opened_file)


def write(recipe, rows) -> None:
    (recipe / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def sources(recipe, *ids, name="sft") -> None:
    file = recipe / f"{name}.yaml"
    keys = yaml.safe_load(file.read_text()) | {"dataset_mixture": {"datasets": [{"id": one} for one in ids]}}
    file.write_text(yaml.safe_dump(keys))


def test_pages_follow_each_other_through_a_file(views, recipe):
    write(recipe, [chat(f"What is {n} + 1?", f"It is {n + 1}.", False) for n in range(23)])
    seen = []
    for first, more in ((0, True), (10, True), (20, False)):
        shown = views.page("sft", 0, first)
        assert shown.more == more
        seen += [row.place.rpartition(":")[2] for row, _ in shown.rows]
    assert seen == [str(n) for n in range(1, 24)]
    page = client_of(site_of(recipe)).get("/rows/sft/0?from=10").text
    assert 'rel="prev" href="../../rows/sft/0?from=0"' in page
    assert 'rel="next" href="../../rows/sft/0?from=20"' in page


def test_a_row_that_is_rejected_stands_with_its_reason(views, recipe):
    wrong = {"messages": [{"role": "user", "content": "1 + 1?"}], "chat_template_kwargs": {"enable_thinking": False}}
    (recipe / "rows.jsonl").write_text(json.dumps(chat("1?", "1.", False)) + "\n{\n" + json.dumps(wrong) + "\n")
    (one, _), (two, _), (three, _) = views.page("sft", 0).rows
    assert one.mode == "no_think"
    assert two.notes[0].startswith("rejected: expected a JSON object, got a line that is not valid JSON")
    assert three.notes[0].startswith("rejected: ")


def test_a_large_row_is_shortened_in_its_middle_and_whole_when_asked_for(views, recipe):
    text = "word " * 20_000
    write(recipe, [chat("How many?", text + "end.", False)])
    file = recipe / "sft.yaml"
    file.write_text(file.read_text() + "overflow: split\n")
    ((row, cut),) = views.page("sft", 0).rows
    shown = "".join(piece.text for piece in row.texts[0].pieces)
    assert cut
    assert len(shown) < CHARACTERS_A_TEXT + 50
    assert "characters ...]" in shown
    assert shown.startswith("<|im_start|>")
    assert shown.rstrip().endswith("end.<|im_end|>")
    ((row, cut),) = views.page("sft", 0, whole=True).rows
    assert not cut
    assert text in "".join(piece.text for piece in row.texts[0].pieces)


def test_text_from_right_to_left_and_of_control_is_shown_as_text(recipe):
    write(recipe, [chat("\u05de\u05d4 \u05d6\u05d4?\u202e", "\u05e9\u05dc\u05d5\u05dd\x1b[31m", False)])
    page = client_of(site_of(recipe)).get("/rows/sft/0").text
    assert "\u05e9\u05dc\u05d5\u05dd\ufffd[31m" in page
    assert "unicode-bidi: plaintext" in client_of(site_of(recipe)).get("/static/ui.css").text


def test_pairs_stand_side_by_side(recipe):
    keys = yaml.safe_load((recipe / "sft.yaml").read_text())
    del keys["assistant_only_loss"]
    (recipe / "apo.yaml").write_text(yaml.safe_dump(keys | {"output_dir": str(recipe / "apo")}))
    (recipe / "pairs.jsonl").write_text(
        json.dumps(preference("Why?", "because it is good", "because it is bad")) + "\n"
    )
    sources(recipe, "pairs.jsonl", name="apo")
    page = client_of(site_of(recipe)).get("/rows/apo/0").text
    assert "<mark> good&lt;|im_end|&gt;</mark>" in page
    assert '<mark class="worse"> bad&lt;|im_end|&gt;</mark>' in page


def test_a_source_that_is_not_there_is_a_sentence_and_the_others_are_shown(views, recipe):
    """A file that nobody makes, a dataset of the Hub without a network, and rows that another stage makes."""
    sources(recipe, "rows.jsonl", "gone.jsonl", "nobody/nothing", str(recipe / "pairs" / "train.jsonl"))
    (recipe / "pairs.yaml").write_text(yaml.safe_dump({"output_dir": str(recipe / "pairs")}))
    assert len(views.page("sft", 0).rows) == 2
    assert "expected a data file, got gone.jsonl, which is not there" in views.page("sft", 1).problem
    assert "source nobody/nothing: expected a dataset, got " in views.page("sft", 2).problem
    told = views.page("sft", 3).problem
    assert "which pairs.yaml has not made yet; make them: `apo-soup run pairs" in told
    assert views.page("sft", 4) is None


def test_a_wrong_file_is_told_with_its_line_until_it_is_mended(views, recipe):
    file = recipe / "sft.yaml"
    right = file.read_text()
    file.write_text(right + "learning_rat: 1\n")
    assert "learning_rat" in views.page("sft", 0).problem
    file.write_text(right)
    assert views.page("sft", 0).problem == ""


def test_a_row_with_reasoning_where_none_was_expected_is_told_at_the_row(views, recipe):
    rows = [{"messages": chat("1?", "1.")["messages"]} for _ in range(1000)]
    rows.append({"messages": chat("1?", "<think>\none\n</think>\n\n1.")["messages"]})
    write(recipe, rows)
    shown = views.page("sft", 0, 1000)
    assert "none of the first 1000 rows holds reasoning" in " ".join(shown.notes)
    ((row, _),) = shown.rows
    assert "expected no-think rows, as none among the first held reasoning" in row.notes[0]


def test_who_reads_far_into_a_large_file_keeps_nobody_waiting(views, recipe):
    line = json.dumps(chat("1 + 1?", "It is 2.", False)) + "\n"
    (recipe / "large.jsonl.gz").write_bytes(gzip.compress(line.encode() * 150_000, 1))
    sources(recipe, "rows.jsonl", "large.jsonl.gz")
    assert [len(views.page("sft", number).rows) for number in (0, 1)] == [2, 10]
    far = threading.Thread(target=lambda: views.page("sft", 1, 149_999))
    far.start()
    assert len(views.page("sft", 0).rows) == 2
    assert len(views.page("sft", 1).rows) == 10
    assert far.is_alive(), "the other two were there first"
    far.join()


def test_a_file_that_leads_nowhere_is_a_sentence(recipe):
    """As one that goes while its folder is read."""
    (recipe / "notes.yaml").symlink_to("gone")
    answer = client_of(site_of(recipe)).get("/rows/sft/0")
    assert answer.status_code == 200
    assert "notes.yaml, which was there a moment ago, got No such file or directory; see whether" in answer.text


def test_two_browsers_at_once_get_their_own_pages(views, recipe):
    write(recipe, [chat(f"What is {n} + 1?", f"It is {n + 1}.", False) for n in range(40)])
    found: dict[int, list[str]] = {}

    def look(first: int) -> None:
        found[first] = [row.place.rpartition(":")[2] for row, _ in views.page("sft", 0, first).rows]

    threads = [threading.Thread(target=look, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {first: [str(n) for n in range(first + 1, first + 11)] for first in (0, 10, 20, 30)}
