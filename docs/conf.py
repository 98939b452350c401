"""Settings of the site that `make site` builds of these pages, which are read on GitHub as they are.

`index.md` lists every page by kind; the site's table of contents is made of its lists, so that they stand once.
"""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_SECTION = re.compile(r"^## (?P<title>.+)\n(?P<text>(?:(?!## ).*\n)*)", re.MULTILINE)
_PAGE = re.compile(r"^- \[[^\]]+\]\((?P<page>[\w-]+)\.md\)", re.MULTILINE)
# Pages beside docs/ that the site shows by an include.
_BESIDE = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changes.md"}

project = _PROJECT["name"]
version = release = _PROJECT["version"]
html_title = f"{project} {version}"
extensions = ["myst_parser"]
exclude_patterns = ["*.py", "*.json", "*.svg"]
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
# Commands and tables of files are wide, and stand in blocks of no one language.
highlight_language = "none"
smartquotes = False
# As GitHub names headings, for links such as `evals.md#verdicts-for-programs`.
myst_heading_anchors = 4


def contents(index: str) -> str:
    """A hidden table of contents for each list of pages below a heading of the index."""
    blocks = []
    for section in _SECTION.finditer(index):
        pages = [found["page"] for found in _PAGE.finditer(section["text"])]
        if pages:
            lines = ["```{toctree}", ":hidden:", f":caption: {section['title']}", "", *pages, "```"]
            blocks.append("\n".join(lines))
    return "\n\n" + "\n\n".join(blocks) + "\n"


def _change_source(app: Sphinx, page: str, source: list[str]) -> None:
    if page == app.config.root_doc:
        source[0] += contents(source[0])
    for file, shown in _BESIDE.items():
        source[0] = source[0].replace(f"]({file})", f"]({shown})")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _change_source)
    return {"parallel_read_safe": True}
