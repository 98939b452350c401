"""Which characters of a rendered conversation are trained, and then which tokens.

Trained: what the assistant itself writes, that is its content, its reasoning and its end-of-turn token. Not trained:
headers, the empty think block a template prefills, system, user and tool text.

Two ways lead there. A template with `{% generation %}` marks names the spans, and where its marks enclose a header, a
prefilled think block or a newline behind the end of turn, those are trimmed. A template without marks is rendered
turn by turn: what an assistant turn adds behind its generation prompt is its span.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from corpus.conversation import Conversation
from corpus.rows import RowError

Span = tuple[int, int]
PINNED_DATE = "01 July 2025"
# transformers gives templates a clock and turns a function passed in its place to text, so a macro takes its name.
PINNED_CLOCK = "{%- macro strftime_now(format) -%}{{- date_string_of_the_recipe -}}{%- endmacro -%}"


@dataclass(frozen=True)
class Rendered:
    """Text of a conversation and the character spans `[start, end)` that are trained."""

    text: str
    spans: list[Span]


class Renderer:
    """Renders conversations with one tokenizer's chat template; remembers its generation prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        template = tokenizer.get_chat_template()
        self.template = PINNED_CLOCK + template if "strftime_now" in template else template
        self.marked = "generation" in self.template and "endgeneration" in self.template
        self.special = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        self.end = tokenizer.eos_token
        self._headers: list[str] | None = None

    def render(self, messages: list[dict[str, Any]], kwargs: dict[str, Any], **options: Any) -> tuple[str, list[Span]]:
        """Text and marked spans; raises RowError with the template's own complaint.

        A template that asks for today's date is told the recipe's `date_string`, or one fixed day.
        """
        try:
            texts, spans = render_jinja_template(
                [messages],
                chat_template=self.template,
                return_assistant_tokens_mask=self.marked,
                tools=kwargs.get("tools"),
                date_string_of_the_recipe=kwargs.get("date_string", PINNED_DATE),
                **{**self.special, **{k: v for k, v in kwargs.items() if k != "tools"}, **options},
            )
        except Exception as error:
            raise RowError(f"the chat template refuses the row: {error}") from error
        return texts[0], [tuple(s) for s in spans[0]] if self.marked else []

    def unread(self, arguments: set[str]) -> set[str]:
        """Those template arguments that the template's text never names, and so cannot honour."""
        return {key for key in arguments if key not in self.template and key != "tools"}

    def prompt(self, messages: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """The text a model is given to answer `messages`."""
        return self.render(messages, kwargs, add_generation_prompt=True)[0]

    def conversation(self, item: Conversation) -> Rendered:
        """The whole conversation with its trained spans, one an assistant turn."""
        if self.marked:
            text, spans = self.render(item.messages, item.kwargs)
            spans = [self._trim(text, span) for span in spans]
        else:
            text, spans = self._by_prefixes(item)
        turns = sum(m["role"] == "assistant" for m in item.messages)
        if len(spans) != turns:
            raise RowError(f"the chat template marks {len(spans)} assistant spans for {turns} assistant turns")
        return Rendered(text, spans)

    @property
    def headers(self) -> list[str]:
        """What the template writes before an answer, longest first: in no-think mode with the empty think block."""
        if self._headers is None:
            user = [{"role": "user", "content": "?"}]
            modes = [{"enable_thinking": think} for think in (True, False)]
            found = {self.prompt(user, mode)[len(self.render(user, mode)[0]) :] for mode in modes}
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
        text = self.render(item.messages, item.kwargs)[0]
        spans = []
        for number, message in enumerate(item.messages):
            if message["role"] != "assistant":
                continue
            before = self.prompt(item.messages[:number], item.kwargs)
            after = self.render(item.messages[: number + 1], item.kwargs)[0]
            if not after.startswith(before) or not text.startswith(after):
                raise RowError(
                    f"the chat template has no generation marks and turn {number} renders differently once more turns "
                    "follow, so its trained span cannot be found; add {% generation %} marks to the template"
                )
            end = after.rfind(self.end, len(before))
            spans.append((len(before), end + len(self.end) if end >= 0 else len(after)))
        return text, spans


def token_mask(offsets: list[Span], spans: list[Span]) -> list[bool]:
    """Whether each token lies wholly inside a trained span; `offsets` and `spans` ascend. Empty tokens do not count."""
    mask, current = [], 0
    for start, end in offsets:
        while current < len(spans) and spans[current][1] <= start:
            current += 1
        mask.append(current < len(spans) and start >= spans[current][0] and end <= spans[current][1] and end > start)
    return mask
