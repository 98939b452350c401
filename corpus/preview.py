"""Rows as the model will see them: trained tokens green on a terminal, between guillemets when piped."""

import sys
from collections import Counter

from transformers import PreTrainedTokenizerBase

from corpus.conversation import conversation, pair
from corpus.mask import Renderer, token_mask
from corpus.prepare import Tally, drawn_rows, encode_pair, trained_spans
from corpus.rows import RowError
from corpus.tokenizer import encode
from pipeline.recipe import Recipe

GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def preview(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Print the first `rows` drawn rows of each source, then how many rows each source gives."""
    renderer, tally = Renderer(tokenizer), Tally()
    defaults = recipe.values.get("chat_template_kwargs") or {}
    seen: Counter[str] = Counter()
    for source, row in drawn_rows(recipe, tally):
        seen[source.name] += 1
        if seen[source.name] > rows:
            continue
        print(f"--- {row.place}")
        try:
            if recipe.stage == "apo":
                show_pair(encode_pair(pair(row.fields, defaults), renderer, tokenizer), tokenizer)
            else:
                item = conversation(row.fields, defaults)
                rendered = renderer.conversation(item)
                encoding = encode(tokenizer, [rendered.text])[0]
                mask = token_mask(encoding.offsets, trained_spans(recipe.values, item, rendered))
                print(marked(rendered.text, encoding.offsets, mask))
        except RowError as error:
            print(f"rejected: {error}")
    for name, count in tally.read.items():
        print(f"{name}: {count} rows drawn")


def marked(text: str, offsets: list[tuple[int, int]], mask: list[bool]) -> str:
    """`text` with its trained stretches coloured, or between « and » where the output is not a terminal."""
    before, after = (GREEN, PLAIN) if sys.stdout.isatty() else ("«", "»")
    out, place, on = "", 0, False
    for (start, end), trained in zip(offsets, mask, strict=True):
        if trained != on:
            out += text[place:start] + (before if trained else after)
            place, on = start, trained
        out += text[place:end]
        place = max(place, end)
    return out + text[place:] + (after if on else "")


def show_pair(encoded: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> None:
    """The prompt once, then both answers from where they part."""
    colour = sys.stdout.isatty()
    print(tokenizer.decode(encoded["prompt_ids"]))
    for side, tone in (("chosen", GREEN), ("rejected", RED)):
        text = tokenizer.decode(encoded[f"{side}_ids"])
        print(f"[{side}] " + (f"{tone}{text}{PLAIN}" if colour else f"«{text}»"))
