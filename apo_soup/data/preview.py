"""Rows as the model will see them.

On a terminal trained tokens are green and special tokens blue; piped, trained stretches stand between « and ».
Pairs are shown side by side from where they part.
"""

import shutil
import sys
import textwrap
from itertools import islice, zip_longest

from transformers import PreTrainedTokenizerBase

from apo_soup.config.recipe import Recipe
from apo_soup.data.char_to_token import token_ranges
from apo_soup.data.encode import PAIR_COLUMNS, Document, Encoder, Options, Refused, Task, Waiting, encode_pair
from apo_soup.data.prepare import shaped_sources
from apo_soup.data.rows import RowError, drawn
from apo_soup.data.template import Span
from apo_soup.models.tokenizer import encode, encode_ids

GREEN, RED, BLUE, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[34m", "\x1b[0m"


def preview(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Print the first `rows` drawn rows of each source; the rest of a source is not read.

    Each row goes through the encoder that prepares it, so that what becomes of it there is told here.
    """
    options = Options.of(recipe.values, recipe.stage == "apo")
    encoder = Encoder(tokenizer, options)
    seed = recipe.values["dataset_mixture"].get("seed", 0)
    for number, source, stream, shape in shaped_sources(recipe):
        print(f"=== {source.name}: format {shape.name}, weight {source.weight:g}")
        drawn_rows = ((row, times) for row, times in drawn(stream, source.weight, seed, number) if times)
        for row, times in islice(drawn_rows, rows):
            print(f"--- {row.place}")
            rendered = encoder.render([Task(source, row, shape, times, gated=False)])
            (result,) = encoder.finish(rendered, encode_ids(tokenizer, rendered.rests)).results
            for waiting in rendered.waiting:
                limit = None if options.wrapped or options.overflow == "split" else options.max_length
                print(shown(waiting, encoder, limit, result))
            if isinstance(result, Refused):
                print(f"{'rejected' if result.kind == 'rejected' else 'dropped'}: {result.reason}")
            elif not options.pairs and len(result.parts) > 1:
                print(f"[split into {len(result.parts)} pieces of at most {options.max_length} tokens]")


def shown(row: Waiting, encoder: Encoder, limit: int | None, result: Document | Refused) -> str:
    """A rendered row: text with its trained tokens marked, or a pair side by side as it is trained."""
    if encoder.options.pairs:
        if isinstance(result, Document):
            cut = f"\n[{result.lost} tokens are beyond max_length {limit}]" if result.lost else ""
            parts = dict(zip(PAIR_COLUMNS, (part.tolist() for part in result.parts[0]), strict=True))
            return side_by_side(parts, encoder.tokenizer) + cut
        try:
            return side_by_side(encode_pair(row.item, encoder.renderer, encoder.tokenizer), encoder.tokenizer)
        except RowError:
            return "\n".join(row.texts)
    return marked(row.texts[0], row.spans, encoder.tokenizer, limit)


def marked(text: str, spans: list[Span], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> str:
    """`text` with its trained tokens marked, special tokens in view, what overflow cuts named, and a count below."""
    encoding = encode(tokenizer, [text])[0]
    offsets, count = encoding.offsets, len(encoding.ids)
    special = set(tokenizer.all_special_ids)
    trained = {t for first, last in token_ranges(offsets, spans) for t in range(max(first, 1), last)}
    shown = count if limit is None else min(limit, count)
    on, off = (GREEN, PLAIN) if sys.stdout.isatty() else ("«", "»")
    out, place, inside = "", 0, False
    for token in range(shown):
        start, end = offsets[token]
        if (token in trained) != inside:
            inside = not inside
            out += text[place:start] + (on if inside else off)
            place = start
        piece = text[place:end]
        if sys.stdout.isatty() and encoding.ids[token] in special:
            piece = f"{BLUE}{piece}{PLAIN}{GREEN if inside else ''}"
        out, place = out + piece, max(place, end)
    out += off if inside else ""
    if shown < count:
        out += f"\n[{count - shown} of {count} tokens are beyond max_length {limit}]"
    within = sum(token < shown for token in trained)
    return f"{out}\n[{within} of {shown} tokens trained]"


def side_by_side(encoded: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt and what both answers share once, then the answers in two columns from where they part."""
    chosen, rejected = encoded["chosen_ids"], encoded["rejected_ids"]
    same = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    colour = sys.stdout.isatty()
    shared = tokenizer.decode(chosen[:same])
    lines = [tokenizer.decode(encoded["prompt_ids"]) + (f"{GREEN}{shared}{PLAIN}" if colour else f"«{shared}»")]
    width = max(24, (shutil.get_terminal_size((120, 40)).columns - 3) // 2)
    heads = [f"chosen ({len(chosen)} tokens)", f"rejected ({len(rejected)} tokens)"]
    sides = [_wrapped(tokenizer.decode(ids[same:]), width) for ids in (chosen, rejected)]
    lines.append(f"{heads[0]:<{width}} | {heads[1]}")
    for left, right in zip_longest(*sides, fillvalue=""):
        left, pad = left[:width], " " * (width - len(left))
        lines.append(f"{GREEN}{left}{PLAIN}{pad} | {RED}{right}{PLAIN}" if colour else f"{left}{pad} | {right}")
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width, drop_whitespace=False) or [""]]
