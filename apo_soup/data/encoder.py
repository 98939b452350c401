"""Rows to tokens: the work that is done once a row.

An `Encoder` renders a batch of rows, tokenises all of it in one call, finds the trained tokens, cuts what is too long
and judges what is dropped. It knows nothing of files or of other rows, so batches may go to any process. What differs
between supervised rows and pairs is in `encode_supervised.py` and `encode_pairs.py`.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Any, Generic

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from apo_soup.data.char_to_token import CharToToken, crosses, token_ranges
from apo_soup.data.clean import Cleaner
from apo_soup.data.conversations.formats import Format, format_of_row, ordered_fields
from apo_soup.data.conversations.rendered_chat import READ_AS_TURNS, dialogue_turns
from apo_soup.data.conversations.source_mode import (
    ASSUMED,
    EMPTY_TAKEN_OFF,
    ParseRow,
    in_mode,
    tags_in_no_think,
    without_empty_blocks,
)
from apo_soup.data.conversations.system_turn import (
    IN_USER_TURN,
    LEFT_OUT,
    with_system_in_user_turn,
    without_system_turn,
)
from apo_soup.data.conversations.tagged_thoughts import with_think_blocks
from apo_soup.data.conversations.tool_schemas import calls_undeclared
from apo_soup.data.conversations.turn_order import check_order, writes_names
from apo_soup.data.conversations.unread import unread_fields
from apo_soup.data.conversations.unroll import joined_samples
from apo_soup.data.documents import Array, Batch, Document, Refused, RowToEncode
from apo_soup.data.options import Options
from apo_soup.data.pending_row import ItemT, PendingRow
from apo_soup.data.prefix_cache import PrefixCache
from apo_soup.data.rendering.argument_form import with_instructions
from apo_soup.data.rendering.message_form import SHORT_IDS
from apo_soup.data.rendering.plain_tokens import without_marks
from apo_soup.data.rendering.template import Span
from apo_soup.data.rendering.texts import TextPolicy
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.data.sources.source import Source
from apo_soup.data.text_cuts import TextCuts
from apo_soup.models.think_tags import END_OF_THINKING
from apo_soup.models.tokenizer import encode_ids

OTHER_FORMAT = "a row of format {} was read as such, in a source whose first rows are of format {}"
UNDECLARED = "warning: a call names a tool that is not among the tools of its row"


@dataclass
class RenderedBatch(Generic[ItemT]):
    """Between the two halves of the work: rows, and the texts `rests` that are still to be tokenised."""

    batch: Batch
    pending: list[PendingRow[ItemT]] = field(default_factory=list)
    rests: list[str] = field(default_factory=list)


class Encoder(ABC, Generic[ItemT]):
    """Turns batches of rows into documents, with one tokenizer and one set of options.

    Raises:
        UserError: the chat template is not valid Jinja.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: Options, cleaner: Cleaner | None = None):
        self.tokenizer = tokenizer
        self.renderer = Renderer(tokenizer)
        self.char_to_token = CharToToken(tokenizer)
        self.text_cuts = TextCuts(tokenizer, self.char_to_token.byte_lengths is not None)
        self.prefix_cache = PrefixCache(tokenizer, self.text_cuts)
        self.thought_end_id = tokenizer.get_vocab().get(END_OF_THINKING)
        self.options = options
        self.cleaner = cleaner or Cleaner()
        self.text_policy = TextPolicy(tokenizer, self.renderer, options.special_tokens_in_text)

    def __call__(self, rows: list[RowToEncode]) -> Batch:
        """Both halves, one after the other.

        Raises:
            UserError: as `render` does.
        """
        rendered = self.render(rows)
        return self.finish(rendered, encode_ids(self.tokenizer, rendered.rests))

    @abstractmethod
    def parsed(self, fields: Fields, arguments: dict[str, Any]) -> ItemT:
        """A row in canonical fields as an item.

        Raises:
            RowError: the row cannot be used.
        """

    @abstractmethod
    def rendered(self, item: ItemT) -> tuple[list[str], list[Span]]:
        """The texts of an item, and the trained characters of a supervised one.

        Raises:
            RowError: the template refuses the row.
        """

    @abstractmethod
    def document(self, row: RowToEncode, pending: PendingRow[ItemT], ids: list[Array]) -> Document | Refused:
        """What becomes of a row whose texts have the tokens `ids`, an array `[S]` for each.

        Raises:
            RowError: the row cannot be used.
            UserError: the mask check looks at the row and stops the launch.
        """

    def render(self, rows: list[RowToEncode]) -> RenderedBatch[ItemT]:
        """The first half: rows as text. Python's half, so it is worth running while another batch is tokenised.

        Raises:
            UserError: a row with reasoning in a source that was taken for a no-think one.
        """
        out: RenderedBatch[ItemT] = RenderedBatch(Batch(rows, [Refused("rejected", "")] * len(rows)))
        for index, row in enumerate(rows):
            try:
                given, row_format = self.renderer.readable(row.row.fields), row.format
                if not row_format.fits(given):
                    row_format = format_of_row(given, row_format, row.source.format is not None)
                fields, ordered = ordered_fields(given, row_format)
                samples = self.samples(self._item(row, fields, out.batch))
                pending = [self._pending(index, sample) for sample in samples]
                item = pending[-1].item  # the longest
                if item.unusual_order:
                    check_order(item.in_order, item.kwargs, self.renderer.render, row_format.turn_order)
            except RowError as error:
                out.batch.results[index] = Refused("rejected", str(error))
                continue
            for remark in (*pending[-1].remarks, *_remarks_on_form(row, row_format, ordered)):
                out.batch.remarks[row.source.name, remark] += 1
            out.batch.arguments.update(item.kwargs)
            for name in unread_fields(
                row.row.fields, item.messages, row_format.reads, row_format.copies, self.writes_names
            ):
                out.batch.unread[row.source.name, name] += 1
            match = self.cleaner.contaminated(item)
            if match:
                out.batch.results[index] = Refused("contaminated", match)
                continue
            for sample in pending:
                out.pending.append(sample)
                if sample.plain is None:
                    sample.shared = self.shared_characters(sample.texts)
                    prefixes, rests = zip(*map(self.prefix_cache.split, sample.parts), strict=True)
                    sample.prefixes = list(prefixes)
                    out.rests += rests
        return out

    def _item(self, row: RowToEncode, fields: Fields, batch: Batch) -> ItemT:
        """A row as an item, in its mode.

        Raises:
            RowError: the row cannot be used.
            UserError: a row with reasoning in a source that was taken for a no-think one.
        """
        source = row.source
        arguments = {**self.options.template_kwargs, **dict(source.chat_template_kwargs)}
        if source.mode == "by_row":
            arguments.pop("enable_thinking", None)
        item, remarks = self._in_form(self.parsed(fields, arguments), source)
        for remark in remarks:
            batch.remarks[source.name, remark] += 1
        if source.mode:
            moded = in_mode(item, source, row.row.place)
            if source.mode == "assumed" and moded is not item:
                batch.remarks[source.name, ASSUMED] += 1
            item = moded
        if self.renderer.knows_modes:
            bare = without_empty_blocks(item)
            if bare is not item:
                batch.remarks[source.name, EMPTY_TAKEN_OFF] += 1
            item = bare
        return item

    def read(self, fields: Fields, arguments: dict[str, Any]) -> tuple[ItemT, bool]:
        """As `parsed`, with the reasoning of answers in think blocks; and whether it stood between other tags.

        Raises:
            RowError: the row cannot be used.
        """
        item = self.parsed(fields, arguments)
        read, _ = self._in_blocks(item)
        return read, read is not item

    @property
    def parser_of_modes(self) -> ParseRow | None:
        """What reads a row to find its mode, where the template knows modes."""
        return self.read if self.renderer.knows_modes else None

    def _in_blocks(self, item: ItemT) -> tuple[ItemT, list[str]]:
        return with_think_blocks(item, self.renderer.knows_tag) if self.renderer.knows_blocks else (item, [])

    def _in_form(self, item: ItemT, source: Source) -> tuple[ItemT, list[str]]:
        """A row with its system text, its instructions and its reasoning where the source and the template have them,
        and what is to be said of it; raises RowError where the source asks for what the row has no turn for, or has no
        place for the reasoning.
        """
        remarks: list[str] = []
        if source.system_turn == "drop":
            bare = without_system_turn(item)
            remarks += [LEFT_OUT] if bare is not item else []
            item = bare
        read, told = self._in_blocks(item)
        if read is not item and source.mode == "assumed":
            raise tags_in_no_think(told)
        item, remarks = read, remarks + told
        item, remark = with_instructions(item, self.renderer.argument_form)
        remarks += [remark] if remark else []
        if source.system_turn == "into_user":
            written = with_system_in_user_turn(item)
            remarks += [IN_USER_TURN] if written is not item else []
            item = written
        return item, remarks

    def shared_characters(self, texts: list[str]) -> int:
        """How many characters, the same in all texts of a row, may be tokenised once."""
        return 0

    def samples(self, item: ItemT) -> list[ItemT]:
        """What becomes documents of its own of a row, the longest last."""
        return [item]

    def _pending(self, index: int, item: ItemT) -> PendingRow[ItemT]:
        """A row looked through for control tokens and rendered.

        Raises:
            RowError: the row cannot be used.
        """
        checked = self.text_policy.checked(item)
        texts, spans = self.rendered(checked.shown)
        plain = None
        if checked.shown is not checked.item:
            shown = [without_marks(text, spans) for text in texts]
            texts, spans = [text for text, _, _ in shown], shown[0][1]
            plain = [self.text_policy.plain.encode(text, places) for text, _, places in shown]
        remarks = [*checked.remarks, *([UNDECLARED] if calls_undeclared(item.messages, item.kwargs) else [])]
        if self.renderer.call_form.gives_ids(item.in_order):
            remarks.append(SHORT_IDS)
        return PendingRow(index, checked.item, texts, spans, plain=plain, remarks=remarks)

    def finish(self, rendered: RenderedBatch[ItemT], encodings: list[Encoding]) -> Batch:
        """The second half: ids, trained ranges and counts of the rendered rows.

        Raises:
            UserError: a row that the mask check looks at fails it.
        """
        done: set[int] = set()
        for pending, ids in zip(rendered.pending, self._ids_and_ranges(rendered, encodings), strict=True):
            result: Document | Refused
            try:
                result = self.document(rendered.batch.rows[pending.index], pending, ids)
            except RowError as error:
                result = Refused("rejected", str(error))
            if pending.index in done:
                result = joined_samples(rendered.batch.results[pending.index], result)
            done.add(pending.index)
            rendered.batch.results[pending.index] = result
        # The last sample of a row is the longest: a row is known by all of it, whichever samples are left.
        for index, item in {pending.index: pending.item for pending in rendered.pending}.items():
            result = rendered.batch.results[index]
            if isinstance(result, Document):
                result.fingerprint = self.cleaner.fingerprint(item)
                result.prompt = self.cleaner.prompt(item)
        return rendered.batch

    def _ids_and_ranges(self, rendered: RenderedBatch[ItemT], encodings: list[Encoding]) -> list[list[Array]]:
        """The tokens of every text of every pending row; the row is given its trained ranges."""
        rests = iter(encodings)
        usual = [pending for pending in rendered.pending if pending.plain is None]
        texts = zip(*self._arrays([tokens for pending in usual for tokens in pending.joined(rests)]), strict=True)
        ids, firsts = [], []
        for pending in rendered.pending:
            if pending.plain is None:
                found = [next(texts) for _ in pending.texts]
                pending.thought_ends = [ends for _, ends in found]
                ids.append([tokens for tokens, _ in found])
                firsts.append((pending.texts[0], ids[-1][0], pending.spans))
            else:
                ids.append([tokens.ids for tokens in pending.plain])
                pending.thought_ends = [np.flatnonzero(i == self.thought_end_id).tolist() for i in ids[-1]]
                pending.ranges = token_ranges(pending.plain[0].offsets, pending.spans)
                pending.crossed = crosses(pending.plain[0].offsets, pending.spans)
            if self.thought_end_id is None:
                pending.thought_ends = list(map(self._thought_ends, pending.texts, ids[-1]))
        for pending, (ranges, crossed) in zip(usual, self.char_to_token.ranges_of(firsts), strict=True):
            pending.ranges, pending.crossed = ranges, crossed
        return ids

    def _arrays(self, lists: list[list[int]]) -> tuple[list[Array], list[list[int]]]:
        """Tokens of texts as arrays `[S]`, which are parts of one, and where in each of them think blocks end."""
        bounds = [0, *accumulate(map(len, lists))]
        whole = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=bounds[-1])
        found = np.flatnonzero(whole == self.thought_end_id)
        of_texts = np.searchsorted(found, bounds).tolist()
        ends = found.tolist()
        return (
            [whole[start:stop] for start, stop in pairwise(bounds)],
            [[end - start for end in ends[a:b]] for start, (a, b) in zip(bounds, pairwise(of_texts), strict=False)],
        )

    def _thought_ends(self, text: str, ids: Array) -> list[int]:
        """Where think blocks end among the tokens `[S]` of a text, for a tokenizer that has no token for that."""
        ends = [(0, found.end()) for found in re.finditer(END_OF_THINKING, text)]
        return [last - 1 for _, last in self.char_to_token.token_ranges(text, ids, ends)]

    @cached_property
    def writes_names(self) -> bool:
        """Whether the template writes the name of a user, so that it is not passed over."""
        return writes_names(self.renderer.render)


def _remarks_on_form(row: RowToEncode, row_format: Format, ordered: str | None) -> list[str]:
    """What is to be said of the form of a row, which was read in a format and maybe with its turns in another order."""
    given = row.row.fields
    remarks = [ordered] if ordered else []
    if not given.get("prompt") and dialogue_turns(given.get("chosen")):
        remarks.append(READ_AS_TURNS)
    if row_format is not row.format:
        remarks.append(OTHER_FORMAT.format(row_format.name, row.format.name))
    return remarks


def reasoning_tokens(thought_ends: list[int], ranges: list[Span], positions: list[Span]) -> int:
    """How many tokens are trained, inside think blocks (closing tag included) and among `positions`.

    Args:
        thought_ends: where think blocks end.
        ranges: the trained tokens `[first, last)`.
        positions: the tokens `[first, last)` that are kept.

    >>> reasoning_tokens([4], [(2, 9)], [(0, 9)])
    3
    """
    count = 0
    for first, last in ranges:
        for end in thought_ends:
            if first <= end < last:
                for start, stop in positions:
                    count += max(0, min(end + 1, stop) - max(first, start))
                break
    return count
