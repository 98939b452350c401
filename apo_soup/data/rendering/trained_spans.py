"""Which characters of a rendered conversation are trained; `apo_soup.data.char_to_token` finds their tokens.

Trained: what the assistant itself writes, that is its content, its reasoning, its calls and its end-of-turn token. Not
trained: headers, the empty think block a template prefills, system, user and tool text.

Three ways lead there. A template with `{% generation %}` marks names the spans. A template without marks has loops over
its messages, and what such a loop writes of an assistant turn is that turn (`turn_marks.py`). From both, the header, a
prefilled think block and a newline behind the end of turn are trimmed, as far as they are enclosed. Where a template
has no such loop, each answer in turn is replaced by a word (`probe_spans.py`).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from apo_soup.data.conversations.conversation import Conversation, PlainText
from apo_soup.data.conversations.turn_fields import REASONING, ROW_REASONING
from apo_soup.data.cures import (
    CORRECT_TEMPLATE,
    IN_CONTENT,
    NO_BLOCK_TEMPLATE,
    OTHERWISE_TRAINED,
    REASONING_TEMPLATE,
)
from apo_soup.data.rendering.argument_form import INSTRUCTIONS, OTHER_NAMES, ArgumentForm, wants_schemas
from apo_soup.data.rendering.message_form import USER, CallForm, call_form_of, in_parts, wants_parts
from apo_soup.data.rendering.probe_spans import probed_spans
from apo_soup.data.rendering.reasoning_blocks import THOUGHT, block_fault, renders_reasoning
from apo_soup.data.rendering.template import ChatTemplate, Span
from apo_soup.data.rendering.trim import joined_spans, trimmed_marks, trimmed_turn
from apo_soup.data.rendering.turn_frame import TurnFrame, TurnFrames, turn_frames
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.errors import UserError
from apo_soup.models.think_tags import END_OF_THINKING, THINKING
from apo_soup.models.training_template import training_template
from apo_soup.runs.chat_template import TRL_TEMPLATE

# Characters of a text that a message shows.
SHOWN_OF_TEXT = 20
# Template arguments that are laid into the form that a template takes.
FORMED = frozenset((*OTHER_NAMES, INSTRUCTIONS))


@dataclass(slots=True)  # as `RowToEncode`
class Rendered:
    """Text of a conversation and the character spans `[start, end)` that are trained."""

    text: str
    spans: list[Span]


class Renderer:
    """Renders conversations with one tokenizer's chat template; remembers its generation prompts.

    Raises:
        UserError: the template is not valid Jinja.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        text = tokenizer.get_chat_template()
        try:
            self.template = ChatTemplate(text)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"chat_template: expected Jinja, got an error in line {error.lineno} of the template: {error.message}; "
                "correct it"
            ) from error
        self.special = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        self.end = tokenizer.eos_token
        # A turn may also end with another special token, as a call does in some templates. Not every special token of a
        # vocabulary has a name (eos, bos) by which a tokenizer lists it.
        added = tokenizer.added_tokens_decoder.values()
        special = (token.content for token in added if token.special)
        self.ends = tuple(dict.fromkeys((self.end, *tokenizer.all_special_tokens, *special)))
        self._added = frozenset(token.content for token in added)
        begins = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
        self.begin = tokenizer.bos_token if begins else ""
        self.knows_modes = "enable_thinking" in self.template.text
        self.knows_blocks = THINKING in self.template.text or END_OF_THINKING in self.template.text
        # A row that says nothing is in think mode, whatever a template takes it for (Gemma 4 for the other).
        self.usual = {"enable_thinking": True, **self.special} if self.knows_modes else self.special

    def render(self, messages: list[dict[str, Any]], kwargs: dict[str, Any], **options: Any) -> tuple[str, list[Span]]:
        """Text and marked spans.

        Raises:
            RowError: with the template's own complaint, or a text that UTF-8 cannot hold.
        """
        if kwargs and not FORMED.isdisjoint(kwargs):
            messages, kwargs = self._arguments(messages, kwargs)
        text, spans = self.template.render(self._as_taken(messages), {**self.usual, **kwargs, **options})
        return _encodable(text), spans

    def knows_tag(self, tag: str) -> bool:
        """Whether the tokenizer has a token of this name, or the template writes it."""
        return tag in self._added or tag in self.template.text

    def unread(self, arguments: set[str]) -> set[str]:
        """Those template arguments that the template never asks for, and so cannot honour."""
        return self.argument_form.unread(arguments)

    def readable(self, fields: Fields) -> Fields:
        """A row without a column of reasoning that the template would not write."""
        if ROW_REASONING not in fields or self.writes_reasoning:
            return fields
        return {name: value for name, value in fields.items() if name != ROW_REASONING}

    def prompt(self, messages: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """The text a model is given to answer `messages`.

        Raises:
            RowError: with the template's own complaint, or a text that UTF-8 cannot hold.
        """
        return self.render(messages, kwargs, add_generation_prompt=True)[0]

    def conversation(self, item: Conversation) -> Rendered:
        """The whole conversation with its trained spans, one an assistant turn.

        Raises:
            RowError: the template refuses the row, or the spans of its turns cannot be found.
        """
        text, spans = self._marked(item) if self.template.marked else self._unmarked(item)
        turns = len(item.answers)
        if len(spans) != turns:
            raise RowError(
                f"chat_template: expected a marked span for each of {turns} assistant turns, got {len(spans)}; "
                "correct its {% generation %} marks"
            )
        if turns > 1 and any(a[1] > b[0] for a, b in pairwise(spans)):
            raise RowError(
                "chat_template: expected a span for every assistant turn, got two that overlap; correct its "
                "{% generation %} marks"
            )
        self._check(text, spans, item)
        return Rendered(text, spans)

    def text(self, item: Conversation | PlainText) -> str:
        """The text of a row without its spans; a plain text ends with the end-of-turn token, as TRL has it.

        Raises:
            RowError: with the template's own complaint, or a text that UTF-8 cannot hold.
        """
        if isinstance(item, Conversation):
            return self.render(item.messages, item.kwargs)[0]
        begin = self.begin if self.begin and not item.text.startswith(self.begin) else ""
        return _encodable(begin + item.text + ("" if item.text.rstrip().endswith(self.end) else self.end))

    @cached_property
    def frames(self) -> TurnFrames:
        """What the template writes around an answer.

        Raises:
            RowError: the template refuses a question with an answer.
        """
        turns = self.render if self.template.marked else self._render_turns
        return turn_frames(lambda messages, mode: self.render(messages, mode)[0], self.prompt, turns)

    @cached_property
    def argument_form(self) -> ArgumentForm:
        """In which form the template takes a row's tools and instructions."""
        reads = self.template.reads
        if "tools" not in reads:
            return ArgumentForm(reads)

        def render(tools: list[Any]) -> str:
            turns = in_parts([USER]) if self._wants_parts else [USER]
            return self.template.render(turns, {**self.special, "tools": tools, "add_generation_prompt": True})[0]

        return ArgumentForm(reads, wants_schemas(render))

    @cached_property
    def writes_reasoning(self) -> bool:
        """Whether the template writes the reasoning of a last answer that stands in a field."""
        answer = {"role": "assistant", "content": "?", **dict.fromkeys(REASONING, THOUGHT)}
        try:
            return THOUGHT in self.render([USER, answer], {})[0]
        except RowError:
            return False

    @cached_property
    def _wants_parts(self) -> bool:
        return wants_parts(lambda messages: self.template.render(messages, self.special)[0])

    @cached_property
    def call_form(self) -> CallForm:
        """In which form the template takes calls."""
        return call_form_of(lambda messages: self.template.render(messages, self.special)[0], self.end)

    def _as_taken(self, messages: list[Fields]) -> list[Fields]:
        """`messages` in the form that the template takes."""
        if self._wants_parts:
            return in_parts(messages)
        for message in messages:
            if len(message) > 2 and message.get("tool_calls"):  # more than a role and a content
                return self.call_form.of(messages)
        return messages

    def _arguments(self, messages: list[Fields], kwargs: dict[str, Any]) -> tuple[list[Fields], dict[str, Any]]:
        """Turns and arguments with tools and instructions in the form that the template takes."""
        return self.argument_form.instructed(messages, self.argument_form.of(kwargs))

    def _render_turns(self, messages: list[Fields], kwargs: dict[str, Any]) -> tuple[str, list[Span]]:
        messages, kwargs = self._arguments(messages, kwargs)
        text, turns = self.template.render_turns(self._as_taken(messages), {**self.usual, **kwargs})
        return _encodable(text), turns

    def _marked(self, item: Conversation) -> tuple[str, list[Span]]:
        """Text and trimmed spans of a template with marks."""
        text, spans = self.render(item.messages, item.kwargs)
        if len(spans) > len(item.answers):
            # Such as Phi-3's, which marks the end of the whole text once more, and DiffusionGemma's, which marks
            # reasoning and content one by one.
            spans = joined_spans([s for s in spans if text[slice(*s)].strip() not in self.ends])
        frames = self.frames_of(item)
        trimmed = [trimmed_marks(text, *pair, self.ends) for pair in zip(spans, frames, strict=False)]
        return text, trimmed + spans[len(frames) :]  # more of them than answers are refused behind this

    def frames_of(self, item: Conversation) -> list[TurnFrame]:
        """The frame of each assistant turn, as the turn before it decides; one that begins the row has a question's."""
        user, tool = self.frames.behind_user, self.frames.behind_tool
        if user is tool:
            return [user] * len(item.answers)
        return [
            tool if before["role"] == "tool" else user
            for before, message in pairwise([{"role": "user"}, *item.messages])
            if message["role"] == "assistant"
        ]

    def _unmarked(self, item: Conversation) -> tuple[str, list[Span]]:
        """Text and spans of a template without marks, from its loops or else by probing."""
        text, turns = self._render_turns(item.messages, item.kwargs)
        if len(turns) == len(item.answers):
            frames = self.frames_of(item)
            spans = [trimmed_turn(text, *pair, self.ends) for pair in zip(turns, frames, strict=True)]
            if all(span[0] > turn[0] or frame.bare for span, turn, frame in zip(spans, turns, frames, strict=True)):
                return text, spans
        return text, probed_spans(self, text, item)

    def cure(self, otherwise: str) -> str:
        """What helps a template that cannot be trained on as it is: TRL's own for it, else `otherwise`."""
        found = training_template(self.template.text)
        return f"write chat_template: {TRL_TEMPLATE}, for TRL's training template {found[0]}" if found else otherwise

    def _check(self, text: str, spans: list[Span], item: Conversation) -> None:
        """Refuse a conversation that the template does not write as a model is asked.

        Raises:
            RowError: with what is wrong, and the cure.
        """
        frames = self.frames
        if frames.prompt_differs:
            asked, written = frames.prompt_differs
            raise RowError(
                f"chat_template: expected {asked!r}, with which it asks, before an answer, got {written!r}, "
                f"{OTHERWISE_TRAINED}; {CORRECT_TEMPLATE}"
            )
        if frames.encloses_results and any(m["role"] == "tool" for m in item.messages):
            raise RowError(
                "chat_template: expected a tool's result in a turn of its own, got it inside the turn of the assistant "
                "that called it, so it would be trained; choose a chat_template that gives results a turn of their own"
            )
        fault = block_fault(text, spans, item.thinks)
        if not fault and (frames.behind_user.opens_block or frames.behind_tool.opens_block):
            fault = self._reasoning_fault(text, spans[-1], item)
        if fault:
            raise RowError(fault)
        start, end = spans[-1]
        if not text.endswith(self.ends, start, end):
            cure = self.cure("name the token in eos_token, or add one to the template")
            raise RowError(
                f"chat_template: expected an end of turn such as {self.end} behind the last answer, got "
                f"{text[end:][:SHOWN_OF_TEXT]!r}; {cure}"
            )

    def _reasoning_fault(self, text: str, last: Span, item: Conversation) -> str | None:
        """How the last answer, as it is rendered, lacks the reasoning that the prompt asks for."""
        if not self.frames_of(item)[-1].opens_block or len(item.answers) - 1 in item.masked_turns:
            return None
        thought, closed, _ = text[slice(*last)].partition(END_OF_THINKING)
        if closed and thought.strip():
            if not thought.lstrip().startswith(THINKING):
                return None
            return (
                f"expected a line break behind {THINKING} in the last answer, as the chat template's prompt has it, "
                f"got {thought.lstrip()[:SHOWN_OF_TEXT]!r}; write one"
            )
        answer = item.answers[-1]
        if END_OF_THINKING not in answer["content"] and not answer.get("reasoning_content"):
            return (
                "expected reasoning in the last answer, as the chat template's prompt opens a think block before every "
                f"answer, got none; {NO_BLOCK_TEMPLATE}"
            )
        left_out = (
            "expected the reasoning of an answer in what the chat template writes, as its prompt opens a think block, "
            "got a text without it; "
        )
        if renders_reasoning(self.template, self.special):
            return left_out + IN_CONTENT
        found = training_template(self.template.text)
        helps = found and renders_reasoning(ChatTemplate(found[1]), self.special)
        return left_out + self.cure("") if helps else left_out + REASONING_TEMPLATE


def _encodable(text: str) -> str:
    """`text`, if it can be written as UTF-8; raises RowError with the position of what cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"expected UTF-8, got half of a character (a lone surrogate) at character {error.start} of the text; "
            "remove it"
        ) from None
    return text
