"""Rows as the model will see them, in the terminal: `apo-soup preview --config FILE`.

There trained tokens are green and special tokens blue; piped, trained stretches stand between « and ».
Pairs are shown side by side from where they part.
"""

import shutil
import sys
import textwrap
from collections.abc import Collection
from itertools import zip_longest

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.share_estimate import SAMPLED_ROWS, SampledSource, estimated_shares
from apo_soup.data.shown_rows import ShownPair, ShownRow, ShownText, shown_mixture
from apo_soup.data.statistics_table import share_lines

GREEN, RED, BLUE, RESET = "\x1b[32m", "\x1b[31m", "\x1b[34m", "\x1b[0m"


def preview_mixture(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, count: int, without: Collection[int] = ()
) -> None:
    """Print the first `count` drawn rows of each source but those of the numbers `without`, and what the mixture will
    be.

    Raises:
        UserError: a source has no row, or cannot be read.
    """
    sources = []
    for source in shown_mixture(recipe, tokenizer, count, without):
        print(f"=== {source.name}: format {source.format}, {source.share}")
        for row in source.rows:
            _print_row(row)
        sources.append(source.sampled)
    for line in mixture_lines(sources):
        print(line)


def mixture_lines(sources: list[SampledSource]) -> list[str]:
    """What the mixture will be, or that a source's rows cannot be counted yet; nothing for one source."""
    shares = share_lines(estimated_shares(sources))
    unknown = [source.name for source in sources if source.count is None]
    if shares:
        return [f"=== the mixture, estimated from at most {SAMPLED_ROWS} rows of each source", *shares]
    if len(sources) > 1 and unknown:
        return [f"=== the mixture: its shares are not known before {unknown[0]} is read; prepare counts them"]
    return []


def _print_row(row: ShownRow) -> None:
    print(f"--- {row.place}")
    for text in row.texts:
        if isinstance(text, ShownPair):
            print(side_by_side(text))
        else:
            print(text_with_marks(text) if isinstance(text, ShownText) else text)
    for note in row.notes:
        print(note)


def text_with_marks(shown: ShownText) -> str:
    """A text with its trained tokens marked, special tokens in view, and what is to be said below it."""
    colour = sys.stdout.isatty()
    on, off = (GREEN, RESET) if colour else ("«", "»")
    out, inside = "", False
    for piece in shown.pieces:
        if piece.trained != inside:
            inside = piece.trained
            out += on if inside else off
        out += f"{BLUE}{piece.text}{RESET}{GREEN if inside else ''}" if colour and piece.special else piece.text
    return "\n".join([out + (off if inside else ""), *shown.notes])


def side_by_side(pair: ShownPair) -> str:
    """The prompt and what both answers share once, then the answers in two columns from where they part."""
    colour = sys.stdout.isatty()
    lines = [pair.prompt + (f"{GREEN}{pair.shared}{RESET}" if colour else f"«{pair.shared}»")]
    width = max(24, (shutil.get_terminal_size((120, 40)).columns - 3) // 2)
    titles = [f"chosen ({pair.chosen_tokens} tokens)", f"rejected ({pair.rejected_tokens} tokens)"]
    lines.append(f"{titles[0]:<{width}} | {titles[1]}")
    for left, right in zip_longest(*(_lines_of_width(t, width) for t in (pair.chosen, pair.rejected)), fillvalue=""):
        left, pad = left[:width], " " * (width - len(left))
        lines.append(f"{GREEN}{left}{RESET}{pad} | {RED}{right}{RESET}" if colour else f"{left}{pad} | {right}")
    return "\n".join(lines)


def _lines_of_width(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width, drop_whitespace=False) or [""]]
