"""Names as text of a Markdown page: what people call a run, a task or a file is shown, and never read as markup."""

import html
import re

_MARKUP = re.compile(r"[|`\[\]]")


def plain_markdown(text: object) -> str:
    r"""A name on one line, without HTML, links, code or cells of a table in it.

    >>> plain_markdown("a <b> | [c](d)")
    'a &lt;b&gt; \\| \\[c\\](d)'
    """
    return _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(str(text).split()), quote=False))


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
