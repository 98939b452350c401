"""Names as text of a Markdown page: what people call a run, a task or a file is shown, and never read as markup."""

import html
import re

from apo_soup.tables import printable

# What begins links, code, cells, emphasis, or undoes the mark before it; underscores inside words mean nothing.
_MARKUP = re.compile(r"[\\|`\[\]*~]|(?<![^\W_])_|_(?![^\W_])")
# What makes a heading, list or rule of a line that begins with it.
_LINE_MARK = re.compile(r"^(\d{0,9})([#+=.)-])(?=[#=\s-]|$)")


def plain_markdown(text: object) -> str:
    r"""A name on one line, without HTML, links, code or cells of a table in it.

    >>> plain_markdown("a <b> | [c](d)"), plain_markdown("# no_think"), plain_markdown(r"\[a\](b)")
    ('a &lt;b&gt; \\| \\[c\\](d)', '\\# no_think', '\\\\\\[a\\\\\\](b)')
    """
    line = html.escape(" ".join(printable(text).split()), quote=False)
    return _LINE_MARK.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", line))


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text)}\n{fence}"
