"""Mistakes of YAML in words of the text: the parser names the token it stumbled over, and often the line behind it."""

import re

import yaml

_INDENT = "indent the keys of one mapping alike"
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def yaml_mistake(error: yaml.MarkedYAMLError, text: str) -> tuple[int | None, str]:
    """The line of a mistake, from 1 on, and `got X; do Y` about it; no line where the parser names none.

    >>> text = "a: 1" + chr(10) + "b: my run: second"
    >>> try:
    ...     yaml.safe_load(text)
    ... except yaml.MarkedYAMLError as error:
    ...     print(*yaml_mistake(error, text))
    2 a value with ': ' in it; put quotes around it
    """
    problem, context = error.problem or error.context or "", error.context or ""
    at, begun = (None if mark is None else mark.line for mark in (error.problem_mark, error.context_mark))
    at = begun if at is None else at
    first = at if begun is None else begun
    lines = text.splitlines()
    mark = error.problem_mark
    before = lines[mark.line][: mark.column] if mark is not None and mark.line < len(lines) else ""
    told = (
        _of_character(problem, context, before)
        or _of_scalar(problem, before)
        or (at is not None and first is not None and _of_lines(problem, context, lines, (first, at)))
        or None
    )
    if isinstance(told, tuple):
        return told[0] + 1, told[1]
    return None if at is None else at + 1, told or f"what cannot be read ({problem}); correct it"


def _of_character(problem: str, context: str, before: str) -> str | None:
    """What is said of a single character, at the parser's own line; `before` stands before it there."""
    character = re.match(r"found character '(.+)' that cannot start any token", problem)
    if character and character[1] == "\\t" and before.strip():
        return "a tab before a value; write a space in its place"
    if character and character[1] == "\\t":
        return "a tab where the line is indented; indent with spaces"
    if character:
        return f"a value that begins with {character[1]}; put quotes around it"
    if problem.startswith("found undefined alias"):
        return "a value that begins with *, which names an anchor that is not there; put quotes around a text"
    if problem.startswith("found unknown escape character"):
        return "a backslash inside double quotes; put single quotes around the text"
    if context == "while scanning an alias":
        return "a value that begins with *; put quotes around it"
    return None


def _of_scalar(problem: str, before: str) -> str | None:
    """What is said of a text where none may stand; `before` stands before it in its line."""
    if problem != "expected <block end>, but found '<scalar>'" or not before.strip():
        return None
    if before.rstrip().endswith(("'", '"')):
        return "a text behind the quote that ends a value; put quotes of the other kind around the whole"
    return "a text behind the end of a value; put quotes around the whole"


def _of_lines(problem: str, context: str, lines: list[str], places: tuple[int, int]) -> tuple[int, str] | None:
    """What is said of a text over several lines, and the line that it is about, from 0 on.

    Args:
        places: the line where the parser began what it could not end, and the one where it stopped.
    """
    begun, at = places
    if problem == "found unexpected end of stream":
        return begun, "a quotation that does not end; close it"
    if problem in ("mapping values are not allowed here", "could not find expected ':'"):
        return _no_key(lines, begun if problem.startswith("could") else at, at)
    if context.startswith("while parsing a flow"):
        return begun, "brackets that are not closed, or in which a comma or a quote is wrong; correct them"
    if problem.startswith("expected <block end>"):
        return at, f"a line that is indented otherwise than those before it; {_INDENT}"
    if problem == "sequence entries are not allowed here":
        return at, "a list that begins in its key's line; begin it in the next one"
    if problem == "found unhashable key":
        return at, "braces in braces; put quotes around a text that holds them"
    if problem == "but found another document":
        return at, "a second document behind ---; keep one"
    return None


def _no_key(lines: list[str], first: int, last: int) -> tuple[int, str] | None:
    """What is wrong with a line that should begin with a key: the one where the parser stopped, or that before it."""
    stopped = lines[last] if last < len(lines) else ""
    if first == last and re.search(r"\S: .*\S: ?", stopped):
        return last, "a value with ': ' in it; put quotes around it"
    before = first if first < last else next((n for n in range(last - 1, -1, -1) if lines[n].strip()), last)
    for number in (before, last):
        if number < len(lines) and _NO_BREAK_SPACE in lines[number]:
            return number, "a no-break space; write a plain one in its place"
    line = lines[before]
    if re.match(r"\s*(- )?[\w.-]+:\S", line):
        return before, "a key without a space behind its colon; write one there"
    if ":" not in line.partition(" #")[0]:
        return before, "a line without a colon; write `key: value`"
    if _indent(stopped) > _indent(line):
        return last, f"a line that is indented deeper than the one above it; {_INDENT}"
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
