"""Rows, templates, and the way from rows to a prepared folder, that tests of `apo_soup.data` share."""

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conftest import CHATML, LLAMA_LIKE, QWEN3_LIKE, SMOLLM2
from helpers import ROOT, chat

from apo_soup.config.yaml_lines import read_yaml
from apo_soup.data.char_to_token import CharToToken, token_ranges
from apo_soup.data.checks.row_faults import TrainedTurns
from apo_soup.data.conversations.conversation import RowItem, parse_conversation, parse_supervised
from apo_soup.data.conversations.formats import PREFERENCE, SUPERVISED, canonical, formats_of, recognise
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.options import Options
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.models.tokenizer import encode

MESSAGES = chat("What?", "That.")["messages"]
ROWS = [chat(f"What is {a} + {b}?", f"It is {a + b}", False) for a in range(9) for b in range(9)]
PROMPT = [{"role": "user", "content": "What?"}]
GOOD, BAD = [{"role": "assistant", "content": "That."}], [{"role": "assistant", "content": "No."}]
THOUGHT = "<think>\n2 + 2 = 4\n</think>\n4"
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
TOOLS = [{"name": "add", "parameters": {"a": "integer"}}]


def parsed_row(row: dict, pairs: bool = False) -> tuple[str, RowItem]:
    """The name of a row's recognised format, and what comes of the row."""
    row_format = recognise(row, formats_of(pairs))
    return row_format.name, (parse_pair if pairs else parse_supervised)(canonical(row, row_format), {})


def options(**changes: Any) -> Options:
    """Supervised options without packing."""
    usual = {"pairs": False, "max_length": 1024, "overflow": "truncate", "strategy": None, "assistant_only_loss": False}
    return Options(**{**usual, "completion_only_loss": None, "template_kwargs": {}, **changes})


def prepared(path: Path, *words: str, say: Callable[[str], None] = lambda text: None) -> tuple[Path, Any, dict]:
    """Prepare in this process; returns the folder, its splits and its counts."""
    from datasets import load_from_disk

    from apo_soup.config.kinds import stage_of_file
    from apo_soup.config.load import load
    from apo_soup.data.prepare import prepare_mixture
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    recipe = load(path, stage_of_file(path), list(words))
    folder = prepare_mixture(recipe, recipe_tokenizer(recipe), say)
    return folder, load_from_disk(str(folder)), json.loads((folder / "stats.json").read_text())


def trained_turns(renderer: Renderer, row: dict, **changes: Any) -> TrainedTurns:
    """A row with all of its assistant turns trained, as a template renders it."""
    item = parse_conversation(row, {})
    rendered = renderer.conversation(item)
    usual = {"ends": renderer.ends, "modes": renderer.knows_modes}
    return TrainedTurns(item, rendered.text, rendered.spans, item.answers, **{**usual, **changes})


def documents_of(rows: Any) -> list[tuple[int, ...]]:
    """The documents of packed rows, as ids."""
    out = []
    for row in rows:
        start = 0
        for length in row["seq_lengths"]:
            out.append(tuple(row["input_ids"][start : start + length]))
            start += length
    return out


def trained_ids(ids: Any, ranges: Any) -> list[int]:
    """The trained tokens of a row, from its ids and its trained ranges."""
    return [int(i) for first, last in zip(ranges[::2], ranges[1::2], strict=True) for i in ids[first:last]]


def dropped_rows(folder: Path) -> list[dict]:
    """The list of dropped rows of a prepared folder."""
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]


def mode(think: bool) -> dict:
    """The field of a row that sets its mode."""
    return {"chat_template_kwargs": {"enable_thinking": think}}


def published_template() -> str:
    """The chat template that SmolLM3's own recipe holds."""
    return read_yaml(ROOT / "tests" / "handbook" / "sft.yaml")[0]["chat_template"]


# Marks around the whole turn, as some published templates have them: header, empty block and trailing newline inside.
MARKED_WIDE = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}"
    "{{- '<|im_start|>assistant\n' + ('<think>\n\n</think>\n' if enable_thinking is false else '') -}}"
    "{{- m.content + '<|im_end|>\n' -}}{%- endgeneration -%}"
    "{%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{{- '<think>\n\n</think>\n' if enable_thinking is false else '' -}}{%- endif -%}"
)

TEMPLATES = {
    "ours": None,
    "chatml": CHATML,
    "smollm2": SMOLLM2,
    "llama": LLAMA_LIKE,
    "qwen3": QWEN3_LIKE,
    "wide": MARKED_WIDE,
    "published": published_template(),
}


# The control tokens that templates of families write.
CONTROL = re.compile(r"<[|｜][^<>'\"\s]{1,30}[|｜]>|<(?:start|end)_of_turn>|<\|?(?:turn|channel|tool\w*)\|?>")


@cache
def _tokenizer_without_template() -> Any:
    from apo_soup.toy.tokenizer import trained_tokenizer

    return trained_tokenizer("")


def shipped_tokenizer(name: str, end: str) -> Any:
    """A tokenizer with a template that TRL ships and the control tokens it names, as added special ones."""
    import trl
    from tokenizers import AddedToken

    text = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = copy.deepcopy(_tokenizer_without_template())
    tokenizer.chat_template = text
    tokens = sorted({*CONTROL.findall(text), end})
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.eos_token = end
    return tokenizer


def trained_text(tokenizer, renderer, row) -> list[str]:
    """The trained spans of a row, decoded from the tokens that the mask keeps."""
    rendered = renderer.conversation(parse_conversation(row, {}))
    encoding = encode(tokenizer, [rendered.text])[0]
    ranges = token_ranges(encoding.offsets, rendered.spans)
    assert CharToToken(tokenizer).token_ranges(rendered.text, np.array(encoding.ids), rendered.spans) == ranges
    out = [tokenizer.decode(encoding.ids[first:last]) for first, last in ranges]
    assert [rendered.text[a:b] for a, b in rendered.spans] == out, "no token is lost at the edge of a span"
    return out


def encoded_row(tokenizer, row, pairs=False, checked=False, **source):
    """What becomes of one row of a source, and the remarks on it."""
    kind, formats = (PairEncoder, PREFERENCE) if pairs else (SupervisedEncoder, SUPERVISED)
    encoder = kind(tokenizer, options(assistant_only_loss=not pairs, pairs=pairs))
    one = RowToEncode(Source("s", **source), SourceRow("s:1", row), recognise(row, formats), 1, checked=checked)
    batch = encoder([one])
    return batch.results[0], [remark for _, remark in batch.remarks]
