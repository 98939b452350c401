"""Rows as the model will see them: `apo-soup preview --config FILE`.

On a terminal trained tokens are green and special tokens blue; piped, trained stretches stand between « and ».
Pairs are shown side by side from where they part.
"""

import shutil
import sys
import textwrap
from collections.abc import Collection
from itertools import chain, islice, zip_longest
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.char_to_token import token_ranges
from apo_soup.data.conversations.source_mode import sources_in_mode
from apo_soup.data.documents import PAIR_COLUMNS, Document, Refused, RowToEncode
from apo_soup.data.encode import encoder_for
from apo_soup.data.encode_pairs import PairEncoder, encode_pair
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.encoder import RenderedBatch
from apo_soup.data.options import Options
from apo_soup.data.rendering.plain_tokens import PlainTokens
from apo_soup.data.rendering.template import Span
from apo_soup.data.share_estimate import (
    SAMPLED_ROWS,
    SampledSource,
    estimated_shares,
    first_rows,
    sampled,
)
from apo_soup.data.sources.draw import weighted_draw
from apo_soup.data.sources.mixture import mixture_sources
from apo_soup.data.sources.rows import RowError
from apo_soup.data.statistics_table import share_lines
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode, encode_ids

GREEN, RED, BLUE, RESET = "\x1b[32m", "\x1b[31m", "\x1b[34m", "\x1b[0m"


def preview_mixture(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, count: int, without: Collection[int] = ()
) -> None:
    """Print the first `count` drawn rows of each source but those of the numbers `without`, and what the mixture will
    be; the rest of a source is not read, or only counted.

    Each row goes through the encoder that prepares it, so that what becomes of it there is printed here.

    Raises:
        UserError: a source has no row, or cannot be read.
    """
    options = Options.of(recipe)
    encoder = encoder_for(tokenizer, options)
    mixture = recipe.dataset_mixture
    sources = []
    entries = mixture_sources(recipe, without)
    if encoder.renderer.knows_modes:
        entries = sources_in_mode(entries, options.template_kwargs, options.pairs, print)
    for entry in entries:
        first = list(islice(entry.rows, 1))
        if not first:
            told = f"source {entry.source.name}: expected at least one row, got none; write its rows first"
            raise UserError(f"{recipe.path}: {told}")
        source, keys = entry.source, mixture.datasets[entry.number]
        share = f"weight {source.weight:g}" if keys.token_share is None else f"token_share {keys.token_share:g}"
        print(f"=== {source.name}: format {entry.format.name}, {share}")
        draw = weighted_draw(chain(first, entry.rows), source.weight, mixture.seed, entry.number)
        drawn = (RowToEncode(source, row, entry.format, n, checked=False) for row, n in draw if n)
        rows = list(first_rows(drawn, count))
        if not rows:
            told = f"source {source.name}: expected a row to train on, got none that is drawn; raise weight"
            raise UserError(f"{source.place}: {told}")
        where = recipe.where(f"dataset_mixture.datasets.{entry.number}.id")
        sources.append(sampled(entry, keys, rows, encoder, where))
        for one in rows[:count]:
            print(f"--- {one.row.place}")
            result = _print_pair(one, encoder) if isinstance(encoder, PairEncoder) else _print_supervised(one, encoder)
            if isinstance(result, Refused):
                print(f"{'rejected' if result.kind == 'rejected' else 'dropped'}: {result.reason}")
            elif result.samples > 1:
                print(f"[unrolled into {result.samples} samples, {len(result.parts)} documents]")
            elif not options.pairs and len(result.parts) > 1:
                print(f"[split into {len(result.parts)} pieces of at most {options.max_length} tokens]")
    print_shares(sources)


def print_shares(sources: list[SampledSource]) -> None:
    """Print what the mixture will be, or that a source's rows cannot be counted yet; nothing for one source."""
    shares = share_lines(estimated_shares(sources))
    unknown = [source.name for source in sources if source.count is None]
    if shares:
        print(f"=== the mixture, estimated from at most {SAMPLED_ROWS} rows of each source")
        print("\n".join(shares))
    elif len(sources) > 1 and unknown:
        print(f"=== the mixture: its shares are not known before {unknown[0]} is read; prepare counts them")


def _print_supervised(row: RowToEncode, encoder: SupervisedEncoder) -> Document | Refused:
    """Print a row's text with its trained tokens marked; returns what becomes of the row."""
    rendered = encoder.render([row])
    (result,) = encoder.finish(rendered, encode_ids(encoder.tokenizer, rendered.rests)).results
    options = encoder.options
    limit = None if options.wrapped or options.overflow == "split" else options.max_length
    for pending in rendered.pending:
        plain = pending.plain[0] if pending.plain else None
        print(text_with_marks(pending.texts[0], pending.spans, encoder.tokenizer, limit, plain))
    _print_remarks(rendered)
    return result


def _print_remarks(rendered: RenderedBatch[Any]) -> None:
    """Print what is to be said of a row beside what becomes of it."""
    for _, remark in sorted(rendered.batch.remarks):
        print(f"[{remark}]")
    for _, field in sorted(rendered.batch.unread):
        print(f"[field {field} is not used]")


def _print_pair(row: RowToEncode, encoder: PairEncoder) -> Document | Refused:
    """Print a pair side by side as it is trained; returns what becomes of the row."""
    rendered = encoder.render([row])
    (result,) = encoder.finish(rendered, encode_ids(encoder.tokenizer, rendered.rests)).results
    for pending in rendered.pending:
        if isinstance(result, Document):
            parts = dict(zip(PAIR_COLUMNS, (part.tolist() for part in result.parts[0]), strict=True))
            print(side_by_side(parts, encoder.tokenizer))
            if result.lost:
                print(f"[{result.lost} tokens are beyond max_length {encoder.options.max_length}]")
            continue
        try:
            print(side_by_side(encode_pair(pending.item, encoder.renderer, encoder.tokenizer), encoder.tokenizer))
        except RowError:
            print("\n".join(pending.texts))
    _print_remarks(rendered)
    return result


def text_with_marks(
    text: str,
    spans: list[Span],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    plain: PlainTokens | None = None,
) -> str:
    """`text` with its trained tokens marked, special tokens in view, what overflow cuts named, and a count below.

    Args:
        plain: its tokens, where control tokens in it are plain text.
    """
    encoding = plain or encode(tokenizer, [text])[0]
    offsets, count = encoding.offsets, len(encoding.ids)
    special = set(tokenizer.all_special_ids)
    trained = {t for first, last in token_ranges(offsets, spans) for t in range(max(first, 1), last)}
    visible = count if limit is None else min(limit, count)
    on, off = (GREEN, RESET) if sys.stdout.isatty() else ("«", "»")
    out, position, inside = "", 0, False
    for token in range(visible):
        start, end = offsets[token]
        if (token in trained) != inside:
            inside = not inside
            out += text[position:start] + (on if inside else off)
            position = start
        piece = text[position:end]
        if sys.stdout.isatty() and encoding.ids[token] in special:
            piece = f"{BLUE}{piece}{RESET}{GREEN if inside else ''}"
        out, position = out + piece, max(position, end)
    out += off if inside else ""
    if visible < count:
        out += f"\n[{count - visible} of {count} tokens are beyond max_length {limit}]"
    within = sum(token < visible for token in trained)
    return f"{out}\n[{within} of {visible} tokens trained]"


def side_by_side(encoded: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt and what both answers share once, then the answers in two columns from where they part."""
    chosen, rejected = encoded["chosen_ids"], encoded["rejected_ids"]
    same = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    colour = sys.stdout.isatty()
    shared = str(tokenizer.decode(chosen[:same]))
    lines = [str(tokenizer.decode(encoded["prompt_ids"])) + (f"{GREEN}{shared}{RESET}" if colour else f"«{shared}»")]
    width = max(24, (shutil.get_terminal_size((120, 40)).columns - 3) // 2)
    titles = [f"chosen ({len(chosen)} tokens)", f"rejected ({len(rejected)} tokens)"]
    sides = [_lines_of_width(str(tokenizer.decode(ids[same:])), width) for ids in (chosen, rejected)]
    lines.append(f"{titles[0]:<{width}} | {titles[1]}")
    for left, right in zip_longest(*sides, fillvalue=""):
        left, pad = left[:width], " " * (width - len(left))
        lines.append(f"{GREEN}{left}{RESET}{pad} | {RED}{right}{RESET}" if colour else f"{left}{pad} | {right}")
    return "\n".join(lines)


def _lines_of_width(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width, drop_whitespace=False) or [""]]
