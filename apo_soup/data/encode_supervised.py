"""Conversations and plain texts to ids and labels: the loss mask of supervised training.

The labels of trained tokens are their ids, those of all others -100. Which tokens are trained is TRL's rule; that they
are the assistant's own words, and nothing of the header or of a prefilled think block, is `trained_spans.py`'s work.
"""

from typing import Any

import numpy as np

from apo_soup.data.conversation import Conversation, PlainText, SupervisedItem, parse_supervised
from apo_soup.data.documents import IGNORED, Array, Document, Refused, RowToEncode
from apo_soup.data.encoder import Encoder, PendingRow, tokens_within
from apo_soup.data.mask_check import CheckedRow, check_row
from apo_soup.data.messages import END_OF_THINKING
from apo_soup.data.options import Options
from apo_soup.data.row_faults import assistant_texts, row_fault, row_mode_fault
from apo_soup.data.rows import Fields, RowError
from apo_soup.data.template import Span
from apo_soup.data.trained_spans import Renderer


class SupervisedEncoder(Encoder[SupervisedItem]):
    """Rows of mid-training and supervised fine-tuning."""

    def render_item(self, fields: Fields, arguments: dict[str, Any]) -> tuple[SupervisedItem, list[str], list[Span]]:
        """A conversation or text, its text and its trained characters."""
        item = parse_supervised(fields, arguments)
        text, spans = spans_with_loss(item, self.renderer, self.options)
        return item, [text], spans

    def document(self, row: RowToEncode, pending: PendingRow[SupervisedItem], ids: list[Array]) -> Document | Refused:
        """Ids and labels, cut to `max_length`, with every row's cheap checks or the first rows' whole ones."""
        item, spans, (text,), (tokens,) = pending.item, pending.spans, pending.texts, ids
        ranges = self.char_to_token.token_ranges(text, tokens, spans)
        labels = np.full(len(tokens), IGNORED, dtype=np.int32)
        for first, last in ranges:
            labels[first:last] = tokens[first:last]
        # The first token of a document has no context of its own to be predicted from.
        labels[:1] = IGNORED
        whole = spans == [(0, len(text))]
        modes = self.renderer.knows_modes
        if row.checked:
            trained_texts = [str(self.tokenizer.decode(tokens[a:b])) for a, b in ranges]
            check_row(
                CheckedRow(row.source.name, row.row.place, item, text, spans, trained_texts, whole, modes),
                self.renderer.ends,
            )
        elif isinstance(item, Conversation):
            if whole:
                fault = row_mode_fault(item, assistant_texts(item), modes)
            else:
                fault = row_fault(item, text, spans, self.renderer.ends, modes)
            if fault:
                raise RowError(fault)
        pieces, positions, lost = self.pieces_within_max_length(tokens, labels)
        if not pieces:
            limit = self.options.max_length
            return Refused("long", f"expected at most max_length {limit} tokens, got {len(tokens)}", lost)
        trained = tokens_within(ranges, [(start + 1, end) for start, end in positions])  # a piece's first never is
        if not trained:
            among = f" among the first {self.options.max_length} tokens" if lost else ""
            return Refused("rejected", f"expected a trained token, got no trained token{among}", lost)
        count = sum(len(part[0]) for part in pieces)
        mode = self._counted_mode(item)
        reasoning = self.reasoning_tokens(text, tokens, spans, ranges, positions) if mode == "think" else 0
        return Document(mode, pieces, count, trained, min(reasoning, trained), lost)

    def _counted_mode(self, item: SupervisedItem) -> str:
        """The mode a row is counted under: what it says, where neither the template nor the row knows of modes."""
        if isinstance(item, PlainText) or self.renderer.knows_modes or "enable_thinking" in item.kwargs:
            return item.mode
        return "think" if any(END_OF_THINKING in words for words in assistant_texts(item)) else "no_think"

    def pieces_within_max_length(self, ids: Array, labels: Array) -> tuple[list[tuple[Array, ...]], list[Span], int]:
        """The pieces of a document that fit `max_length`, as ids and labels `[S]` each, their positions `[first, last)`
        in it, and how many tokens are lost; no piece when it is dropped.
        """
        limit = self.options.max_length
        if len(ids) <= limit or self.options.wrapped:
            return [(ids, labels)], [(0, len(ids))], 0
        if self.options.overflow == "drop":
            return [], [], len(ids)
        beginning: tuple[list[tuple[Array, ...]], list[Span], int]
        beginning = [(ids[:limit], labels[:limit])], [(0, limit)], len(ids) - limit
        if self.options.overflow == "truncate":
            return beginning
        pieces: list[tuple[Array, ...]] = []
        positions: list[Span] = []
        lost = 0
        for start in range(0, len(ids), limit):
            piece = labels[start : start + limit].copy()
            piece[:1] = IGNORED
            if (piece != IGNORED).any():
                pieces.append((ids[start : start + limit], piece))
                positions.append((start, start + len(piece)))
            else:  # a piece that trains nothing would be a sequence without a loss
                lost += len(piece)
        return (pieces, positions, lost) if pieces else (beginning[0], beginning[1], lost)


def spans_with_loss(item: SupervisedItem, renderer: Renderer, options: Options) -> tuple[str, list[Span]]:
    """A row's text and the spans of it that carry loss: as TRL decides it, all of the text, the completion, or the
    assistant's own.

    By default a row of prompt and completion is trained on its completion, any other row on all of its text. A plain
    text is always trained as a whole.

    Raises:
        RowError: the template refuses the row, or its spans cannot be located.
    """
    answers = options.assistant_only_loss or options.completion_only_loss
    if isinstance(item, Conversation) and item.completion_turns and options.completion_only_loss is not False:
        answers = True
    if isinstance(item, PlainText) or not answers:
        text = renderer.text(item)
        return text, [(0, len(text))]
    rendered = renderer.conversation(item)
    only_last = item.completion_turns and (options.completion_only_loss or not options.assistant_only_loss)
    return rendered.text, rendered.spans[-item.completion_turns :] if only_last else rendered.spans
