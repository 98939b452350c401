"""Templates: every value is text, whatever it holds."""

import re

import jinja2
import pytest
from helpers import ROOT

from apo_soup.pages.drawing import Drawing, Words, svg_file
from apo_soup.pages.render import rendered

OWN_SCRIPT = re.compile(r'<script src="\{\{ up \}\}static/\w+\.js" defer></script>')


def test_a_value_is_escaped_and_what_controls_a_terminal_is_replaced():
    text = svg_file(Drawing(10, 10, '"><script>', [Words(1, 2, "<b>&\x1b[31m\ud800", told="'")]))
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in text
    assert ">&lt;b&gt;&amp;\ufffd[31m\ufffd<title>&#39;</title></text>" in text
    assert "<b>" not in text


def test_a_value_that_is_missing_is_an_error_and_no_template_leaves_one_as_it_is():
    with pytest.raises(jinja2.UndefinedError):
        rendered("pages/file.svg.jinja")
    files = [file for file in (ROOT / "apo_soup" / "templates").rglob("*") if file.is_file()]
    assert {"page.html.jinja", "preview.html.jinja", "file.svg.jinja"} <= {file.name for file in files}
    assert len(files) >= 11
    for file in files:
        text = file.read_text()
        if file.parent.name == "ui":  # a page that is served may have scripts, each a file of its own
            text = OWN_SCRIPT.sub("", text)
        assert not re.search(r"\|\s*safe|autoescape|<script|@import|url\(|innerHTML|eval\(|\bon[a-z]+=", text), file
