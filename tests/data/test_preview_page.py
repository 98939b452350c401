"""The preview as a page: what is trained is marked, nothing in it runs, and nobody's file is replaced."""

import os
import re
from html.parser import HTMLParser

import pytest
from data_helpers import ROWS
from helpers import chat, preference

from apo_soup.config.load import load
from apo_soup.data.preview_page import write_preview_page
from apo_soup.errors import UserError


class Marked(HTMLParser):
    """The text of a page inside and outside of `mark`, of its rows alone, and every tag."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.marked, self.quiet, self.tags = "", "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            if "mark" in self.open:
                self.marked += data
            else:
                self.quiet += data


def test_trained_text_is_marked_and_no_row_can_write_the_page(training_recipe, tokenizer, tmp_path):
    """A row may hold markup; it is text. The page names a row's file and number, not where the file lies."""
    rows = [*ROWS[:1], chat("<script>alert(1)</script>", "</mark><b>bold</b> & so", False)]
    file = tmp_path / "page.html"
    write_preview_page(file, load(training_recipe(rows), "sft"), tokenizer, 3)
    page = file.read_text()
    shown = Marked(page)
    assert shown.open == []
    assert "It is 0<|im_end|>" in shown.marked
    assert "</mark><b>bold</b> & so<|im_end|>" in shown.marked
    assert "<script>alert(1)</script>" in shown.quiet
    assert "What is 0 + 0?" not in shown.marked
    assert {"script", "link", "img", "b"}.isdisjoint(tag for tag, _ in shown.tags)
    assert not re.search(r"https?://|@import|url\(|\b(src|href)=", page)
    assert "prefers-color-scheme: dark" in page
    assert str(tmp_path) not in page
    assert "row 2 <span>of rows.jsonl, mode no_think</span>" in page


def test_the_page_names_no_folder_of_the_machine(training_recipe, write_rows, tokenizer, tmp_path):
    """Two sources, so that the mixture stands below them; and one whose rows cannot be counted before they are read."""
    paths = [str(write_rows("mine.jsonl", ROWS[:3])), str(write_rows("yours.jsonl", ROWS[:2]))]
    mixture = {"datasets": [{"id": path, "split": "train"} for path in paths]}
    file = tmp_path / "page.html"
    write_preview_page(file, load(training_recipe(mixture=mixture), "sft"), tokenizer, 1)
    page = file.read_text()
    assert "=== the mixture, estimated from at most" in page
    assert page.count("mine.jsonl") == page.count("yours.jsonl") == 3
    assert str(tmp_path) not in page


def test_answers_of_a_pair_stand_side_by_side(training_recipe, tokenizer, tmp_path):
    recipe = load(training_recipe([preference("Why?", "because it is good", "because it is bad")], name="apo"), "apo")
    write_preview_page(tmp_path / "page.html", recipe, tokenizer, 1)
    page = (tmp_path / "page.html").read_text()
    assert "<mark>because it is</mark>" in page
    assert "<mark> good&lt;|im_end|&gt;</mark>" in page
    assert '<mark class="worse"> bad&lt;|im_end|&gt;</mark>' in page


def test_only_an_earlier_page_is_replaced(training_recipe, tokenizer, tmp_path):
    recipe = load(training_recipe(ROWS[:2]), "sft")
    page = tmp_path / "page.html"
    for _ in range(2):
        write_preview_page(page, recipe, tokenizer, 1)
    (tmp_path / "notes.html").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    taken = (("notes.html", "an earlier preview, got .*notes"), ("pipe", "an earlier preview, got .*pipe"))
    missing = ((".", "folder"), ("a/b.html", "make .*/a "))
    for file, told in (*taken, *missing, ("/proc/self/mem", "got Input/output error; .*mend the disk")):
        with pytest.raises(UserError, match=f"--html: .*expected .*{told}"):
            write_preview_page(tmp_path / file, recipe, tokenizer, 1)
    assert (tmp_path / "notes.html").read_text() == "mine"
    assert [file.name for file in tmp_path.glob(".*")] == []
