"""The words of a shell script's `swift sft` command as the keys of a configuration, which they are there."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError

COMMANDS = ("pt", "sft", "rlhf")
# What a launcher reads of the environment, which stands before the command.
_LAUNCHED_BY = ("NPROC_PER_NODE", "NNODES")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_BY_SHELL = re.compile(r"\$\(\(.*?\)\)|\$\([^()]*\)|`[^`]*`")
# A quotation over more of them is none: a mark was left open.
_LINES_OF_A_WORD = 60
# Stands for a space within it.
_INSIDE = "\N{NO-BREAK SPACE}"
_SUM = re.compile(r"\$\((?:expr |\()(\s*\d+(?:\s*\\?[*/]\s*\d+)+)\s*\)+")
_COMMAND = re.compile(rf"(?:.*/)?swift[./]cli[./]({'|'.join(COMMANDS)})(?:\.py)?")
# A variable, with what stands for it where it is not set, or behind a colon where it is empty.
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:(:?)[-=]([^${}]*))?\}")
# What a shell would work out, a text in quotes, or a variable that is a word by itself without any.
_BARE = re.compile(
    rf"{_BY_SHELL.pattern}|'[^']*'|\"(?:\\.|[^\"\\])*\"|(?<!\S)({_VARIABLE.pattern})(?![^\s;])", re.DOTALL
)
# Stands before such a variable, of which a shell makes as many words as it holds, or none.
_SEVERAL = "\N{WORD JOINER}"
_ENDS = re.compile(r"\|[|&]?|&&?|;|(?:\d|&)?>+.*|<.*")
_SET = re.compile(r"(?:export\s+)?(\w+)=(.*)", re.DOTALL)


def swift_keys(text: str, file: Path) -> dict[str, Any] | None:
    """The keys of the one `swift pt`, `sft` or `rlhf` of a script, with the command's own name as `command`; None where
    a text has no such command. Variables that the script sets are filled in.

    Raises:
        UserError: it has several, or one that gives no key.
    """
    variables: dict[str, str] = {}
    found = []
    for words in _lines(text):
        at = _command_at(words)
        if at is None:
            variables |= {name: _filled(value, variables) for name, value in filter(None, map(_assigned, words))}
        else:
            place, command = at
            found.append(
                {**_set_before(words[:place], variables), "command": command, **_options(words[place + 1 :], variables)}
            )
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"{file}: expected one swift command, got {len(found)}; put each into a script of its own")
    if "model" not in found[0]:
        way = "give the file of its keys, or a script whose command has them behind it"
        raise UserError(f"{file}: expected --model behind swift {found[0]['command']}, got none; {way}")
    return found[0]


def _lines(text: str) -> Iterator[list[str]]:
    """The lines of a script as words, without comments; what a shell would work out stays one word, and a `;` that ends
    a command is one.
    """
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    at = 0
    while at < len(lines):
        words, used = None, 1
        while words is None and at + used <= len(lines) and used <= _LINES_OF_A_WORD:
            words = _words("\n".join(lines[at : at + used]))
            used += words is None
        if words is not None:
            yield from _commands(words)
        at += used if words is not None else 1


def _commands(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line."""
    command: list[str] = []
    for word in words:
        if word in (";", ";;", "&&"):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _words(line: str) -> list[str] | None:
    """The words of a line; None where a quotation does not end in it."""
    marked = _BARE.sub(lambda found: _SEVERAL * bool(found[1]) + found[0], line)
    whole = _BY_SHELL.sub(lambda found: re.sub(r"\s+", _INSIDE, found[0]), marked)
    for words in (whole, re.sub(r"(^|\s)#.*", "", whole)):
        reader = shlex.shlex(words, posix=True, punctuation_chars=";")
        reader.whitespace_split, reader.commenters = True, ""
        try:
            split = list(reader)
        except ValueError:  # a quotation mark in a comment, or a quotation over several lines
            continue
        return [word.replace(_INSIDE, " ") for word in takewhile(lambda word: not word.startswith("#"), split)]
    return None


def _command_at(words: list[str]) -> tuple[int, str] | None:
    """Where `sft` stands behind `swift`, or a file or module of that name does; and which command it is."""
    for at, word in enumerate(words):
        called = _COMMAND.fullmatch(word)
        if called or (at and word in COMMANDS and Path(words[at - 1]).name == "swift"):
            return at, called[1] if called else word
    return None


def _assigned(word: str) -> tuple[str, str] | None:
    found = _SET.fullmatch(word)
    return (found[1], found[2]) if found else None


def _filled(text: str, variables: dict[str, str]) -> str:
    """A text with the variables that are set; products and quotients are worked out, as scripts have for a batch."""
    filled = _VARIABLE.sub(lambda found: _value_of(found, variables), text)
    found = _SUM.fullmatch(filled)
    first, *others = re.findall(r"([*/]?)\s*(\d+)", found[1]) if found else [("", "")]
    if not found or ("/", "0") in others:
        return filled
    result = int(first[1])
    for operator, number in others:
        result = result * int(number) if operator == "*" else result // int(number)
    return str(result)


def _value_of(found: re.Match[str], variables: dict[str, str]) -> str:
    """What stands for a variable: an empty value is one, unless `:-` or `:=` stands behind the name."""
    value, instead = variables.get(found[1] or found[2]), found[4]
    if instead is not None and (value is None or (not value and found[3])):
        return instead
    return found[0] if value is None else value


def _set_before(words: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """What of the environment a launcher reads, from the words before the command."""
    found = dict(filter(None, map(_assigned, words)))
    return {name: _value(_filled(found[name], variables)) for name in _LAUNCHED_BY if name in found}


def _options(words: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """The keys behind a command: several words are a list, none is true."""
    given: dict[str, list[Any]] = {}
    name = ""
    for word in _split(takewhile(lambda word: not _ENDS.fullmatch(word), words), variables):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            given[name] = [_value(_filled(value, variables))] if equals else []
        elif name:
            given[name].append(_value(_filled(word, variables)))
    return {name: values[0] if len(values) == 1 else values or True for name, values in given.items()}


def _split(words: Iterable[str], variables: dict[str, str]) -> Iterator[str]:
    """Words with those in place of a variable without quotes that are in it."""
    for word in words:
        if word.startswith(_SEVERAL):
            yield from _filled(word.removeprefix(_SEVERAL), variables).split()
        else:
            yield word


def _value(word: str) -> Any:
    """A word as the value that it writes; `no` is a word, as in save_strategy."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if _NUMBER.fullmatch(word):
        return int(word) if re.fullmatch(r"[+-]?\d+", word) else float(word)
    if word.startswith(("{", "[")):
        try:
            return json.loads(word)
        except (ValueError, RecursionError):
            return word
    return word
