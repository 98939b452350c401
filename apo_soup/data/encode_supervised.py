"""Conversations and plain texts to ids and trained ranges: the loss mask of supervised training.

Which tokens are trained is TRL's rule; that they are the assistant's own words, and nothing of the header or of a
prefilled think block, is `trained_spans.py`'s work.
"""

from dataclasses import replace
from typing import Any

from apo_soup.data.checks.mask_check import decoded_fault, mask_check_error
from apo_soup.data.checks.row_faults import TAGS_AMONG_WORDS, TrainedTurns, assistant_texts, row_fault, whole_row_fault
from apo_soup.data.checks.said import shortened_turns
from apo_soup.data.conversations.conversation import Conversation, PlainText, SupervisedItem, parse_supervised
from apo_soup.data.conversations.rendered_chat import rendered_chat_fault
from apo_soup.data.conversations.turn_fields import carries_loss
from apo_soup.data.conversations.unroll import samples_of
from apo_soup.data.documents import Array, Document, Refused, RowToEncode, longer_than
from apo_soup.data.encoder import Encoder, reasoning_tokens
from apo_soup.data.options import Options
from apo_soup.data.pending_row import PendingRow
from apo_soup.data.rendering.template import Span
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.data.trained_ranges import range_array, ranges_within
from apo_soup.models.think_tags import END_OF_THINKING

NOTHING_TRAINED = "expected a trained token, got none; train on an answer, or leave the row out"


class SupervisedEncoder(Encoder[SupervisedItem]):
    """Rows of mid-training and supervised fine-tuning."""

    def parsed(self, fields: Fields, arguments: dict[str, Any]) -> SupervisedItem:
        """A conversation or text.

        Raises:
            RowError: the row has no such form, or nothing in it that the options let be trained.
        """
        item = parse_supervised(fields, arguments)
        if isinstance(item, PlainText) and self.options.assistant_only_loss:
            fault = rendered_chat_fault(item.text)
            if fault:
                raise RowError(fault)
        if self.options.completion_only_loss or self.options.train_on != "all_turns":
            fault = loss_fault(item, self.options)
            if fault:
                raise RowError(fault)
        return item

    def samples(self, item: SupervisedItem) -> list[SupervisedItem]:
        """The row itself, or a sample for each of its trained answers.

        Raises:
            RowError: none is left.
        """
        if self.options.train_on != "unroll" or not isinstance(item, Conversation):
            return [item]
        return [*samples_of(item, turns_with_loss(item, replace(self.options, train_on="all_turns")))]

    def rendered(self, item: SupervisedItem) -> tuple[list[str], list[Span]]:
        """The text of a row and its trained characters.

        Raises:
            RowError: the template refuses the row, its spans cannot be located, or its flags mask what cannot be
                masked.
        """
        text, spans = spans_with_loss(item, self.renderer, self.options)
        return [text], spans

    def document(self, row: RowToEncode, pending: PendingRow[SupervisedItem], ids: list[Array]) -> Document | Refused:
        """Ids `[S]` and trained ranges `[2k]`, cut to `max_length`, held to all rows' cheap checks or to whole ones.

        Raises:
            RowError: naming the fault.
            UserError: the same, where the row is among those that stop the launch.
        """
        item, ranges, (text,), (tokens,) = pending.item, pending.ranges, pending.texts, ids
        self._check(row, pending, tokens, ranges)
        positions, lost = pieces_within_max_length(len(tokens), ranges, self.options)
        if not positions:
            return Refused("long", longer_than(self.options.max_length, len(tokens)), lost)
        of_pieces = [ranges_within(ranges, start, end) for start, end in positions]
        trained = 0
        for of_piece in of_pieces:
            for first, last in of_piece:
                trained += last - first
        if not trained:
            return self._untrained(len(tokens), bool(ranges_within(ranges, 0, len(tokens))))
        parts: list[tuple[Array, ...]] = [
            (tokens[start:end], range_array(of_piece))
            for (start, end), of_piece in zip(positions, of_pieces, strict=True)
        ]
        count = len(tokens) if len(positions) == 1 and not lost else sum([end - start for start, end in positions])
        mode = self._counted_mode(item)
        reasoning = reasoning_tokens(pending.thought_ends[0], ranges, positions) if mode == "think" else 0
        shortened = shortened_turns(item, text) if isinstance(item, Conversation) and len(item.answers) > 1 else 0
        return Document(mode, parts, count, trained, min(reasoning, trained), lost, shortened=shortened)

    def _check(self, row: RowToEncode, pending: PendingRow[SupervisedItem], tokens: Array, ranges: list[Span]) -> None:
        """Hold a row to what it says.

        Raises:
            RowError: naming the fault.
            UserError: the same, where the row is among those that stop the launch.
        """
        item, text = pending.item, pending.texts[0]
        fault = None if any(last > first for first, last in ranges) else NOTHING_TRAINED
        turns = self._trained_turns(item, text, pending.spans)
        if turns:
            fault = fault or row_fault(turns)
        elif isinstance(item, Conversation):
            fault = fault or whole_row_fault(item, text, self.renderer.knows_modes)
        if not row.checked and not pending.crossed:
            if fault:
                raise RowError(fault)
            return
        trained_texts = [str(self.tokenizer.decode(tokens[first:last])) for first, last in ranges]
        if turns:
            fault = fault or decoded_fault(turns, trained_texts)
        if fault and (not row.checked or fault == TAGS_AMONG_WORDS):
            raise RowError(fault)
        if fault:
            shown = {"the row as rendered": text, "the text that would be trained": " | ".join(trained_texts)}
            raise mask_check_error(row.row.place, fault, shown)

    def _trained_turns(self, item: SupervisedItem, text: str, spans: list[Span]) -> TrainedTurns | None:
        """The turns that carry loss; None where a row is trained as a whole."""
        if not isinstance(item, Conversation) or trains_whole_row(item, self.options):
            return None
        answers = item.answers
        turns = [answers[number] for number in turns_with_loss(item, self.options)]
        ends_inside = self.options.special_tokens_in_text != "refuse"
        return TrainedTurns(item, text, spans, turns, self.renderer.ends, self.renderer.knows_modes, ends_inside)

    def _untrained(self, count: int, trains: bool) -> Refused:
        """Why a row of `count` tokens is left without a trained one; `trains` is whether its whole has one."""
        if not trains:
            return Refused("rejected", NOTHING_TRAINED)
        limit, overflow = self.options.max_length, self.options.overflow
        return Refused(
            "long",
            f"expected a trained token within max_length {limit}, got none in what overflow: {overflow} keeps of "
            f"{count} tokens; raise max_length",
            count,
        )

    def _counted_mode(self, item: SupervisedItem) -> str:
        """The mode a row is counted under: what it says, where neither the template nor the row knows of modes."""
        if isinstance(item, PlainText) or self.renderer.knows_modes or "enable_thinking" in item.kwargs:
            return item.mode
        return "think" if any(END_OF_THINKING in words for words in assistant_texts(item)) else "no_think"


def pieces_within_max_length(count: int, ranges: list[Span], options: Options) -> tuple[list[Span], int]:
    """The pieces `[first, last)` of a document of `count` tokens that are kept, and how many tokens are lost; no piece
    when it is dropped. `ranges` are its trained tokens.
    """
    limit = options.max_length
    if count <= limit or options.wrapped:
        return [(0, count)], 0
    if options.overflow == "drop":
        return [], count
    if options.overflow == "truncate":
        return [(0, limit)], count - limit
    pieces = [(start, min(start + limit, count)) for start in range(0, count, limit)]
    # A piece that trains nothing would be a sequence without a loss.
    kept = [(start, end) for start, end in pieces if ranges_within(ranges, start, end)]
    return kept or pieces[:1], count - sum(end - start for start, end in kept)


def trains_whole_row(item: SupervisedItem, options: Options) -> bool:
    """Whether all of a row's text is trained, as TRL decides it: not where the recipe asks for the assistant's own, and
    by default not where a row has a completion. A plain text is always trained as a whole.
    """
    if isinstance(item, PlainText):
        return True
    if options.assistant_only_loss:
        return False
    return not item.completion_turns or options.completion_only_loss is False


def loss_fault(item: SupervisedItem, options: Options) -> str | None:
    """Why a row cannot be trained as the recipe asks, or None: it asks for what the row does not have. TRL would train
    all of it.
    """
    completes = isinstance(item, Conversation) and item.completion_turns
    if options.completion_only_loss and not options.assistant_only_loss and not completes:
        return (
            "field completion: expected one, as completion_only_loss is true, got a row without; write "
            "assistant_only_loss: true to train the assistant's turns, or leave completion_only_loss out"
        )
    if options.train_on != "all_turns" and isinstance(item, Conversation) and trains_whole_row(item, options):
        return (
            f"field messages: expected a row of which answers alone are trained, as train_on is {options.train_on}, "
            "got one that is trained as a whole; write assistant_only_loss: true"
        )
    return None


def turns_with_loss(item: Conversation, options: Options) -> list[int]:
    """Numbers of the assistant turns that carry loss, counted among the assistant's: those of the completion where a
    row has one (as TRL, also beside `assistant_only_loss`), less those that the row's flags mask; of these the last
    alone where `train_on` says so, and where a sample was unrolled to end with it.

    Raises:
        RowError: none is left.
    """
    count = len(item.answers)
    if not item.completion_turns and not item.masked_turns:
        return [*range(count)] if options.train_on == "all_turns" else [count - 1]
    of_completion = item.completion_turns and options.completion_only_loss is not False
    first = count - item.completion_turns if of_completion else 0
    turns = [number for number in range(first, count) if number not in item.masked_turns]
    if not turns:
        raise RowError(
            "field completion: expected a turn that is trained, got flags that mask every one; leave the row out"
        )
    return turns if options.train_on == "all_turns" else turns[-1:]


def spans_with_loss(item: SupervisedItem, renderer: Renderer, options: Options) -> tuple[str, list[Span]]:
    """A row's text and the spans of it that carry loss.

    Raises:
        RowError: the template refuses the row, its spans cannot be located, or its flags mask what cannot be masked.
    """
    if not trains_whole_row(item, options):
        assert isinstance(item, Conversation)
        rendered = renderer.conversation(item)
        return rendered.text, [rendered.spans[number] for number in turns_with_loss(item, options)]
    if isinstance(item, PlainText):
        text = renderer.text(item)
        return text, [(0, len(text))]
    if any(not carries_loss(m, "") for m in item.messages if m["role"] != "assistant"):
        raise RowError(
            "field messages: expected flags on assistant turns alone where all of a row is trained, got one that masks "
            "another turn; write assistant_only_loss: true"
        )
    if not item.masked_turns:
        text = renderer.text(item)
        return text, [(0, len(text))]
    rendered = renderer.conversation(item)
    return rendered.text, _between([rendered.spans[n] for n in sorted(item.masked_turns)], len(rendered.text))


def _between(masked: list[Span], length: int) -> list[Span]:
    """The spans of a text of `length` characters that lie outside of others, which are in order."""
    edges = [0, *(place for span in masked for place in span), length]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in pairs if start < end]
