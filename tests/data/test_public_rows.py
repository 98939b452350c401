"""Public data sets, by rows rewritten from their schemas: the assistant's words are trained, or a reason is told.

The table of docs/data.md says what became of each.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from data_helpers import options
from helpers import ROOT
from public_rows import FLAT, PAIRS, SUPERVISED, PublicSet, Row

from apo_soup.data.conversations.formats import formats_of, recognise
from apo_soup.data.conversations.rename_guess import format_remedy
from apo_soup.data.documents import Refused, RowToEncode
from apo_soup.data.encode import RowEncoder, encoder_for
from apo_soup.data.sources.rows import SourceRow, without_nulls
from apo_soup.data.sources.source import Source
from apo_soup.data.trained_ranges import range_list

END = "<|im_end|>"


def renamed(row: Row, names: dict[str, str]) -> Row:
    """A row with its columns renamed, as a source reads it."""
    return {names.get(name, name): value for name, value in without_nulls(row).items()}


@pytest.fixture(scope="module")
def encoder_of(tokenizer):
    """Gives the encoder of pairs or of supervised rows; one is made for each policy."""

    @cache
    def make(pairs: bool, policy: str) -> RowEncoder:
        keys = options(pairs=pairs, assistant_only_loss=not pairs, special_tokens_in_text=policy)
        return encoder_for(tokenizer, keys)

    return make


def outcome(data: PublicSet, encoder_of: Callable[[bool, str], RowEncoder]) -> list[str] | str:
    """The texts that are trained of a set's rows, or why it is refused."""
    rows = [renamed(row, data.keys.get("rename", {})) for row in data.rows]
    row_format = recognise(rows[0], formats_of(data.pairs))
    if row_format is None:
        return format_remedy(rows[0], data.pairs)
    encoder = encoder_of(data.pairs, data.keys.get("special_tokens_in_text", "refuse"))
    tokenizer = encoder.tokenizer
    source = Source("rows", mode="by_row")
    given = [RowToEncode(source, SourceRow(f"rows:{n}", row), row_format, 1, True) for n, row in enumerate(rows)]
    told = []
    for result in encoder(given).results:
        if isinstance(result, Refused):
            return result.reason
        for part in result.parts:
            if data.pairs:
                check_asked(tokenizer.decode(part[0]), data)
                told += [tokenizer.decode(ids) for ids in part[1:]]
            else:
                told += [tokenizer.decode(part[0][first:last]) for first, last in range_list(part[1])]
    return [text.removesuffix(END) for text in told]


def check_asked(prompt: str, data: PublicSet) -> None:
    """Hold the prompt of a pair to all that its row brings: the question, the system text and the tools."""
    system, *users = prompt.removesuffix("<|im_start|>assistant\n<think>\n\n</think>\n").split("<|im_start|>user\n")
    assert users == [f"Hi?{END}\n"]
    assert ("## Custom Instructions\n\nS<" in system) == any(row.get("system") == "S" for row in data.rows)
    assert (f"<tools>\n{FLAT[1:-1]}\n</tools>" in system) == any(row.get("tools") for row in data.rows)


@pytest.mark.parametrize("data", [*SUPERVISED, *PAIRS], ids=lambda data: data.name)
def test_exactly_the_assistants_words_are_trained_or_a_reason_is_told(data, encoder_of):
    found = outcome(data, encoder_of)
    if isinstance(data.outcome, str):
        assert str(found).startswith(data.outcome)
    else:
        assert found == data.outcome


@pytest.mark.parametrize("data", [d for d in (*SUPERVISED, *PAIRS) if "rename" in d.keys], ids=lambda data: data.name)
def test_the_rename_that_a_set_needs_is_told(data, encoder_of):
    names = ", ".join(f"{column}: {name}" for column, name in data.keys["rename"].items())
    assert f"write rename: {{{names}}} for the source" in outcome(replace(data, keys={}), encoder_of)


def test_the_docs_say_what_becomes_of_each_set():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for row in table_rows():
        assert row in page, f"docs/data.md: write {row}"


def table_rows() -> list[str]:
    """The lines of the table in docs/data.md."""
    lines = []
    for kind, sets in (("supervised", SUPERVISED), ("pairs", PAIRS)):
        read = [data.name for data in sets if not data.keys and isinstance(data.outcome, list)]
        lines.append(f"| {kind}, as they are | {', '.join(read)} |")
        keyed = [f"{data.name} (`{written(data.keys)}`)" for data in sets if data.keys]
        lines.append(f"| {kind}, with a key | {', '.join(keyed)} |")
        lines.append(f"| {kind}, refused | {', '.join(data.name for data in sets if isinstance(data.outcome, str))} |")
    return lines


def written(keys: dict[str, Any]) -> str:
    """Keys as a recipe has them."""
    values = (
        (k, v if isinstance(v, str) else "{" + ", ".join(map(": ".join, v.items())) + "}") for k, v in keys.items()
    )
    return ", ".join(f"{key}: {value}" for key, value in values)
