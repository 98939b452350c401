"""Rows as the model will see them, in parts that a terminal or a page can show: which text is trained, which tokens are
special, and what becomes of the row.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.char_to_token import own_offsets, taking_space, token_ranges
from apo_soup.data.conversations.source_mode import sources_in_mode
from apo_soup.data.documents import PAIR_COLUMNS, Document, Refused, RowToEncode
from apo_soup.data.encode import encoder_for
from apo_soup.data.encode_pairs import PairEncoder, encode_pair
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.encoder import RenderedBatch
from apo_soup.data.options import Options
from apo_soup.data.rendering.plain_tokens import PlainTokens
from apo_soup.data.rendering.template import Span
from apo_soup.data.share_estimate import SampledSource, first_rows, sampled
from apo_soup.data.sources.draw import weighted_draw
from apo_soup.data.sources.mixture import MixtureSource, mixture_sources
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode, encode_ids


@dataclass(frozen=True)
class Piece:
    """A stretch of a row's text."""

    text: str
    trained: bool = False
    special: bool = False


@dataclass(frozen=True)
class ShownText:
    """A supervised row's text in pieces, and what is to be said below it."""

    kind: ClassVar[str] = "text"
    pieces: list[Piece]
    notes: list[str]


@dataclass(frozen=True)
class ShownPair:
    """A pair: the prompt, what both answers begin with, and what each has of its own, with the tokens of both."""

    kind: ClassVar[str] = "pair"
    prompt: str
    shared: str
    chosen: str
    rejected: str
    chosen_tokens: int
    rejected_tokens: int


@dataclass
class ShownRow:
    """One row: where it stands, its mode (empty where it was refused), its texts, and what is to be said of it."""

    place: str
    mode: str = ""
    texts: list[ShownText | ShownPair | str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ShownSource:
    """One source: its name, format and share, its first drawn rows, and a sample that tells what its share will be."""

    name: str
    format: str
    share: str
    rows: list[ShownRow]
    sampled: SampledSource


def shown_mixture(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, count: int, without: Collection[int] = ()
) -> Iterator[ShownSource]:
    """The first `count` drawn rows of each source but those of the numbers `without`; the rest of a source is not read,
    or only counted.

    Each row goes through the encoder that prepares it, so that what becomes of it there is shown here.

    Raises:
        UserError: a source has no row, or cannot be read.
    """
    options = Options.of(recipe)
    encoder = encoder_for(tokenizer, options)
    entries = mixture_sources(recipe, without)
    if encoder.renderer.knows_modes:
        entries = sources_in_mode(entries, options.template_kwargs, encoder.read, print)
    for entry in entries:
        rows = _drawn_rows(recipe, entry, count)
        source, keys = entry.source, recipe.dataset_mixture.datasets[entry.number]
        share = f"weight {source.weight:g}" if keys.token_share is None else f"token_share {keys.token_share:g}"
        where = recipe.where(f"dataset_mixture.datasets.{entry.number}.id")
        sample = sampled(entry, keys, rows, encoder, where)
        shown = [shown_row(one, encoder) for one in rows[:count]]
        yield ShownSource(source.name, entry.format.name, share, shown, sample)


def _drawn_rows(recipe: TrainingFile, entry: MixtureSource, count: int) -> list[RowToEncode]:
    """The first rows of a source that are drawn; raises UserError where there are none."""
    first = list(islice(entry.rows, 1))
    source = entry.source
    if not first:
        told = f"source {source.name}: expected at least one row, got none; write its rows first"
        raise UserError(f"{recipe.path}: {told}")
    draw = weighted_draw(chain(first, entry.rows), source.weight, recipe.dataset_mixture.seed, entry.number)
    drawn = (RowToEncode(source, row, entry.format, n, checked=False) for row, n in draw if n)
    rows = list(first_rows(drawn, count))
    if not rows:
        told = f"source {source.name}: expected a row to train on, got none that is drawn; raise weight"
        raise UserError(f"{source.place}: {told}")
    return rows


def shown_row(row: RowToEncode, encoder: SupervisedEncoder | PairEncoder) -> ShownRow:
    """A row as the encoder renders it, and what becomes of it.

    Raises:
        UserError: the row holds reasoning in a source that was taken for a no-think one.
    """
    shown = ShownRow(row.row.place)
    pairs = isinstance(encoder, PairEncoder)
    result = _pair_texts(row, encoder, shown) if isinstance(encoder, PairEncoder) else _texts(row, encoder, shown)
    if isinstance(result, Refused):
        shown.notes.append(f"{'rejected' if result.kind == 'rejected' else 'dropped'}: {result.reason}")
        return shown
    shown.mode = result.mode
    if result.samples > 1:
        shown.notes.append(f"[unrolled into {result.samples} samples, {len(result.parts)} documents]")
    elif not pairs and len(result.parts) > 1:
        shown.notes.append(f"[split into {len(result.parts)} pieces of at most {encoder.options.max_length} tokens]")
    return shown


def _texts(row: RowToEncode, encoder: SupervisedEncoder, shown: ShownRow) -> Document | Refused:
    """Add a row's texts in pieces; returns what becomes of the row."""
    rendered = encoder.render([row])
    (result,) = encoder.finish(rendered, encode_ids(encoder.tokenizer, rendered.rests)).results
    options = encoder.options
    limit = None if options.wrapped or options.overflow == "split" else options.max_length
    for pending in rendered.pending:
        plain = pending.plain[0] if pending.plain else None
        shown.texts.append(text_in_pieces(pending.texts[0], pending.spans, encoder.tokenizer, limit, plain))
    shown.notes += _remarks(rendered)
    return result


def _pair_texts(row: RowToEncode, encoder: PairEncoder, shown: ShownRow) -> Document | Refused:
    """Add a pair as it is trained; returns what becomes of the row."""
    rendered = encoder.render([row])
    (result,) = encoder.finish(rendered, encode_ids(encoder.tokenizer, rendered.rests)).results
    for pending in rendered.pending:
        if isinstance(result, Document):
            parts = dict(zip(PAIR_COLUMNS, (part.tolist() for part in result.parts[0]), strict=True))
            shown.texts.append(pair_in_pieces(parts, encoder.tokenizer))
            if result.lost:
                shown.notes.append(f"[{result.lost} tokens are beyond max_length {encoder.options.max_length}]")
            continue
        try:
            whole = encode_pair(pending.item, encoder.renderer, encoder.tokenizer)
            shown.texts.append(pair_in_pieces(whole, encoder.tokenizer))
        except RowError:
            shown.texts += pending.texts
    shown.notes += _remarks(rendered)
    return result


def _remarks(rendered: RenderedBatch[Any]) -> list[str]:
    """What is to be said of a row beside what becomes of it."""
    remarks = [f"[{remark}]" for _, remark in sorted(rendered.batch.remarks)]
    return remarks + [f"[field {field} is not used]" for _, field in sorted(rendered.batch.unread)]


def text_in_pieces(
    text: str,
    spans: list[Span],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    plain: PlainTokens | None = None,
) -> ShownText:
    """`text` with its trained and its special tokens told apart, what overflow cuts named, and a count.

    Args:
        spans: the trained characters.
        limit: the most tokens that are trained on.
        plain: its tokens, where control tokens in it are plain text.
    """
    encoding = plain or encode(tokenizer, [text])[0]
    ids = encoding.ids  # makes a list of all tokens when it is asked for, as do the offsets
    offsets = own_offsets(text, ids, encoding.offsets, taking_space(tokenizer))
    count = len(ids)
    special = set(tokenizer.all_special_ids)
    trained = {t for first, last in token_ranges(offsets, spans) for t in range(max(first, 1), last)}
    visible = count if limit is None else min(limit, count)
    pieces: list[Piece] = []
    position, inside = 0, False
    for token in range(visible):
        start, end = offsets[token]
        if (token in trained) != inside:
            pieces.append(Piece(text[position:start], inside))
            position, inside = start, not inside
        pieces.append(Piece(text[position:end], inside, ids[token] in special))
        position = max(position, end)
    notes = [] if visible == count else [f"[{count - visible} of {count} tokens are beyond max_length {limit}]"]
    within = sum(token < visible for token in trained)
    return ShownText(_joined(pieces), [*notes, f"[{within} of {visible} tokens trained]"])


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces that are shown alike as one; special tokens stay apart."""
    joined: list[Piece] = []
    for (trained, special), alike in groupby(filter(_text_of, pieces), lambda one: (one.trained, one.special)):
        if special:
            joined += alike
        else:
            joined.append(Piece("".join(map(_text_of, alike)), trained))
    return joined


def _text_of(piece: Piece) -> str:
    return piece.text


def pair_in_pieces(encoded: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> ShownPair:
    """A pair's ids as texts, its answers from where they part."""
    prompt, chosen, rejected = (encoded[column] for column in PAIR_COLUMNS)
    same = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    cut = (prompt, chosen[:same], chosen[same:], rejected[same:])
    asked, shared, better, worse = (str(tokenizer.decode(ids)) for ids in cut)
    return ShownPair(asked, shared, better, worse, len(chosen), len(rejected))
