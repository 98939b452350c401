"""Marks for a template that has none, made of its own loops: what a loop over the messages writes in the iteration of
an assistant turn is that turn.

Every loop that does not stand inside another one, a macro or a captured block writes a control character where the
iteration of an assistant turn begins, and another one where any other iteration begins and behind the loop. What such a
loop writes goes straight into the text, so the marks can change nothing else of it: the text without its marks is the
text that the template writes. Nothing of the row is replaced, so whatever a template checks (the order of turns, the
ids of calls, the form of arguments) it checks on the row itself, and one rendering finds every turn.
"""

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from apo_soup.data.sources.rows import RowError

# Control characters of no text: Unicode keeps U+FDD0 and U+FDD1 for use inside programs.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
ANY_MARK = re.compile(f"([{OPEN}{CLOSE}])")
FILTER, WRITTEN = "apo_soup_turn_mark", "apo_soup_written_marks"
HELD_OTHERS = "expected text, got U+FDD0 or U+FDD1, which Unicode keeps for programs; remove them"


def with_turn_marks(environment: jinja2.Environment, text: str) -> jinja2.Template:
    """The template `text` compiled with marks; it is rendered with an empty list as argument `WRITTEN`.

    Raises:
        jinja2.TemplateError: the text is not a template.
    """
    environment.filters[FILTER] = _mark
    tree = environment.parse(text)
    _mark_loops(tree.body)
    tree.set_environment(environment)
    code: Any = environment.compile(tree)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def without_turn_marks(text: str, written: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text without the marks that were `written` into it, and the spans of the assistant's turns, in order.

    A loop that writes nothing of a turn but white space, such as one that only counts, has no span.

    Raises:
        RowError: the text holds marks of its own.
    """
    first, *pieces = ANY_MARK.split(text)
    if pieces[::2] != written:
        raise RowError(HELD_OTHERS)
    spans, end = [], len(first)
    for mark, piece in zip(pieces[::2], pieces[1::2], strict=True):
        if mark == OPEN and not piece.isspace() and piece:
            spans.append((end, end + len(piece)))
        end += len(piece)
    return first + "".join(pieces[1::2]), spans


def _mark(item: Any, written: list[str]) -> str:
    """The mark for an iteration over `item`; None is for what follows a loop."""
    mark = OPEN if isinstance(item, Mapping) and item.get("role") == "assistant" else CLOSE
    written.append(mark)
    return mark


def _mark_loops(body: list[nodes.Node]) -> None:
    marked = []
    for node in body:
        marked.append(node)
        if isinstance(node, nodes.If):
            for branch in (node, *node.elif_):
                _mark_loops(branch.body)
            _mark_loops(node.else_)
        elif isinstance(node, nodes.With | nodes.Scope | nodes.Block):
            _mark_loops(node.body)
        elif isinstance(node, nodes.For) and isinstance(node.target, nodes.Name) and not node.recursive:
            node.body.insert(0, _written_mark(nodes.Name(node.target.name, "load"), node.lineno))
            marked.append(_written_mark(nodes.Const(None), node.lineno))
    body[:] = marked


def _written_mark(item: nodes.Expr, line: int) -> nodes.Node:
    marks = nodes.Name(WRITTEN, "load")
    return nodes.Output([nodes.Filter(item, FILTER, [marks], [], None, None)]).set_lineno(line)
