"""Which characters of a rendered conversation are trained; `corpus.edges` finds their tokens.

Trained: what the assistant itself writes, that is its content, its reasoning and its end-of-turn token. Not trained:
headers, the empty think block a template prefills, system, user and tool text.

Two ways lead there. A template with `{% generation %}` marks names the spans, and where its marks enclose a header, a
prefilled think block or a newline behind the end of turn, those are trimmed. A template without marks is rendered
turn by turn: behind the turns before it and the header that the template writes, an answer's span begins.
"""

from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from corpus.conversation import Conversation, Text
from corpus.rows import RowError
from corpus.template import ChatTemplate, Span
from pipeline.errors import UserError

PROBE = "probe0f0answer"


@dataclass(frozen=True)
class Rendered:
    """Text of a conversation and the character spans `[start, end)` that are trained."""

    text: str
    spans: list[Span]


class Renderer:
    """Renders conversations with one tokenizer's chat template; remembers its generation prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        try:
            self.template = ChatTemplate(tokenizer.get_chat_template())
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"the chat template is not valid Jinja: line {error.lineno}: {error.message}") from error
        self.special = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        self.end = tokenizer.eos_token
        begins = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
        self.begin = tokenizer.bos_token if begins else ""
        self._headers: list[str] | None = None

    def render(self, messages: list[dict[str, Any]], kwargs: dict[str, Any], **options: Any) -> tuple[str, list[Span]]:
        """Text and marked spans; raises RowError with the template's own complaint."""
        try:
            return self.template.render(messages, {**self.special, **kwargs, **options})
        except Exception as error:  # a template may fail in any way that its expressions can
            raise RowError(f"the chat template refuses the row: {error}") from error

    def unread(self, arguments: set[str]) -> set[str]:
        """Those template arguments that the template's text never names, and so cannot honour."""
        return {key for key in arguments if key not in self.template.text and key != "tools"}

    def prompt(self, messages: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """The text a model is given to answer `messages`."""
        return self.render(messages, kwargs, add_generation_prompt=True)[0]

    def conversation(self, item: Conversation) -> Rendered:
        """The whole conversation with its trained spans, one an assistant turn.

        Raises:
            RowError: the template refuses the row, or the spans of its turns cannot be found.
        """
        if self.template.marked:
            text, spans = self.render(item.messages, item.kwargs)
            spans = [self._trim(text, span) for span in spans]
        else:
            text, spans = self._by_prefixes(item)
        turns = sum(m["role"] == "assistant" for m in item.messages)
        if len(spans) != turns:
            raise RowError(f"the chat template marks {len(spans)} assistant spans for {turns} assistant turns")
        return Rendered(text, spans)

    def text(self, item: Conversation | Text) -> str:
        """The text of a row without its spans; a plain text ends with the end-of-turn token, as TRL has it."""
        if isinstance(item, Conversation):
            return self.render(item.messages, item.kwargs)[0]
        begin = self.begin if self.begin and not item.text.startswith(self.begin) else ""
        return begin + item.text + ("" if item.text.endswith(self.end) else self.end)

    @property
    def headers(self) -> list[str]:
        """What the template writes before an answer, longest first: with and without a prefilled think block.

        Found from generation prompts in both modes, and from what stands before an answer that is the last turn and
        one that is not, because a template may prefill a block in one place and not in the other.
        """
        if self._headers is None:
            user, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}
            found = set()
            for mode in ({"enable_thinking": True}, {"enable_thinking": False}):
                before = self.render([user], mode)[0]
                found.add(self.prompt([user], mode)[len(before) :])
                for turns in ([user, answer], [user, answer, user]):
                    text = self.render(turns, mode)[0]
                    if text.startswith(before) and PROBE in text:
                        found.add(text[len(before) : text.index(PROBE)])
            self._headers = sorted(found - {""}, key=len, reverse=True)
        return self._headers

    def _trim(self, text: str, span: Span) -> Span:
        start, end = span
        inside = text[start:end]
        start += next((len(h) for h in self.headers if inside.startswith(h)), 0)
        if inside.rstrip().endswith(self.end):
            end = span[0] + len(inside.rstrip())
        elif text.startswith(self.end, end):
            end += len(self.end)
        return start, end

    def _by_prefixes(self, item: Conversation) -> tuple[str, list[Span]]:
        """Spans of a template without marks, from renderings of the turns before each answer.

        An answer begins behind those turns and the header the template writes, and ends with the end-of-turn token.
        That holds too where a template shortens old answers (Qwen3 strips their reasoning), as long as what stands
        before an answer stays the same when more turns follow.
        """
        text = self.render(item.messages, item.kwargs)[0]
        spans = []
        for number, message in enumerate(item.messages):
            if message["role"] != "assistant":
                continue
            before = self.render(item.messages[:number], item.kwargs)[0]
            if not text.startswith(before):
                raise RowError(
                    f"the chat template has no generation marks and writes what stands before turn {number} otherwise "
                    "once more turns follow, so its trained span cannot be found; add {% generation %} marks to the "
                    "template"
                )
            start = len(before) + next((len(h) for h in self.headers if text.startswith(h, len(before))), 0)
            after = self.render(item.messages[: number + 1], item.kwargs)[0]
            if text.startswith(after):
                end = after.rfind(self.end, start)
                end = end + len(self.end) if end >= 0 else len(after)
            else:
                end = text.find(self.end, start) + len(self.end)
                if end < start + len(self.end):
                    raise RowError(
                        f"the chat template has no generation marks and ends turn {number} without {self.end}, so its "
                        "trained span cannot be found; add {% generation %} marks to the template"
                    )
            spans.append((start, end))
        return text, spans
