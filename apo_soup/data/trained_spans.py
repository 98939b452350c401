"""Which characters of a rendered conversation are trained; `apo_soup.data.char_to_token` finds their tokens.

Trained: what the assistant itself writes, that is its content, its reasoning and its end-of-turn token. Not trained:
headers, the empty think block a template prefills, system, user and tool text.

Two ways lead there. A template with `{% generation %}` marks names the spans, and where its marks enclose a header, a
prefilled think block or a newline behind the end of turn, those are trimmed. A template without marks is rendered
with each answer in turn replaced by a word: the span is what stands where the word stood, behind the header.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from apo_soup.data.conversation import Conversation, PlainText
from apo_soup.data.rows import RowError
from apo_soup.data.template import ChatTemplate, Span
from apo_soup.errors import UserError

PROBE = "probe0f0answer"
# Characters before an answer by which the end of a header is known again.
HEADER_END = 4


@dataclass(frozen=True)
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
        # A turn may also end with another special token, as a call does in some templates.
        self.ends = tuple(dict.fromkeys((self.end, *tokenizer.all_special_tokens)))
        begins = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
        self.begin = tokenizer.bos_token if begins else ""
        self.knows_modes = "enable_thinking" in self.template.text

    def render(self, messages: list[dict[str, Any]], kwargs: dict[str, Any], **options: Any) -> tuple[str, list[Span]]:
        """Text and marked spans.

        Raises:
            RowError: with the template's own complaint, or a text that UTF-8 cannot hold.
        """
        text, spans = self.template.render(messages, {**self.special, **kwargs, **options})
        return _encodable(text), spans

    def unread(self, arguments: set[str]) -> set[str]:
        """Those template arguments that the template's text never names, and so cannot honour."""
        return {key for key in arguments if key not in self.template.text}

    def prompt(self, messages: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """The text a model is given to answer `messages`."""
        return self.render(messages, kwargs, add_generation_prompt=True)[0]

    def conversation(self, item: Conversation) -> Rendered:
        """The whole conversation with its trained spans, one an assistant turn.

        Raises:
            RowError: the template refuses the row, or the spans of its turns cannot be found.
        """
        turns = sum(m["role"] == "assistant" for m in item.messages)
        if self.template.marked:
            text, spans = self.render(item.messages, item.kwargs)
            if len(spans) > turns:  # such as Phi-3's, which marks the end of the whole text once more
                spans = [s for s in spans if text[slice(*s)].strip() not in self.ends]
            spans = [self._trim(text, span) for span in spans]
            if len(spans) == turns:
                spans = self._behind_tools(text, spans, item)
        else:
            text, spans = self._by_probe(item)
        if len(spans) != turns:
            raise RowError(
                f"the chat template: expected a marked span for each of {turns} assistant turns, got {len(spans)}; "
                "correct its {% generation %} marks"
            )
        if any(a[1] > b[0] for a, b in pairwise(spans)):
            raise RowError("the chat template: expected a span for every assistant turn, got two that overlap")
        return Rendered(text, spans)

    def text(self, item: Conversation | PlainText) -> str:
        """The text of a row without its spans; a plain text ends with the end-of-turn token, as TRL has it."""
        if isinstance(item, Conversation):
            return self.render(item.messages, item.kwargs)[0]
        begin = self.begin if self.begin and not item.text.startswith(self.begin) else ""
        return _encodable(begin + item.text + ("" if item.text.endswith(self.end) else self.end))

    @cached_property
    def headers(self) -> list[str]:
        """What the template writes before an answer, longest first: with and without a prefilled think block.

        Found from generation prompts in both modes, and from what stands before an answer that is the last turn and
        one that is not, because a template may prefill a block in one place and not in the other. White space that
        only stands before answers, and not at the end of the generation prompt, is the answer's own.
        """
        user, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}
        prompts, before_answers = set(), set()
        for mode in ({"enable_thinking": True}, {"enable_thinking": False}):
            before = self.render([user], mode)[0]
            prompt = self.prompt([user], mode)
            prompts.add(prompt[len(before) :] if prompt.startswith(before) else "")
            for turns in ([user, answer], [user, answer, user]):
                text = self.render(turns, mode)[0]
                if text.startswith(before) and PROBE in text:
                    before_answers.add(text[len(before) : text.index(PROBE)])
        own = {f for f in before_answers if not any(f.startswith(p) and not f[len(p) :].strip() for p in prompts)}
        return sorted((prompts | own) - {""}, key=len, reverse=True)

    def _trim(self, text: str, span: Span) -> Span:
        """A marked span without the header, or what of it the marks enclose, and with its end of turn."""
        start, end = span
        start += self._enclosed(text, start)
        inside = text[start:end]
        stripped = inside.rstrip()
        if any(stripped.endswith(token) for token in self.ends):
            return start, start + len(stripped)
        return start, end + self._end_at(text, end)

    def _behind_tools(self, text: str, spans: list[Span], item: Conversation) -> list[Span]:
        """Spans of answers to a tool without what closes the tool's turn: DeepSeek's marks enclose it."""
        turns = [n for n, m in enumerate(item.messages) if m["role"] == "assistant"]
        kept = []
        for (start, end), turn in zip(spans, turns, strict=True):
            if turn and item.messages[turn - 1]["role"] == "tool":
                prompt = self.prompt(item.messages[:turn], item.kwargs)
                start = max(start, len(prompt)) if text.startswith(prompt) and len(prompt) < end else start
            kept.append((start, end))
        return kept

    def _enclosed(self, text: str, start: int) -> int:
        """How many characters behind `start` belong to a header, which may have begun before it."""
        cuts = self._header_cuts.get(text[start : start + 1], ())
        fitting = (len(b) for a, b in cuts if text.startswith(b, start) and text.endswith(a, 0, start))
        return max(fitting, default=0)

    @cached_property
    def _header_cuts(self) -> dict[str, list[tuple[str, str]]]:
        """Every header cut in two, by the first character of its second part: a span seldom begins with one."""
        cuts: dict[str, list[tuple[str, str]]] = {}
        for header in self.headers:
            for cut in range(len(header)):
                cuts.setdefault(header[cut], []).append((header[:cut], header[cut:]))
        return cuts

    def _end_at(self, text: str, position: int) -> int:
        """The length of the special token at a character position of the text, 0 where there is none."""
        return max((len(token) for token in self.ends if text.startswith(token, position)), default=0)

    def _by_probe(self, item: Conversation) -> tuple[str, list[Span]]:
        """Spans of a template without marks: each answer in turn is replaced by a word, to see where it stands.

        What stands before the word and behind it must be what stands around the answer. So this holds where a template
        shortens old answers (Qwen3 strips their reasoning) or writes the date into the last turn.
        """
        text = self.render(item.messages, item.kwargs)[0]
        spans = []
        for number, message in enumerate(item.messages):
            if message["role"] == "assistant":
                spans.append(self._span_of(text, item, number))
        return text, spans

    def _span_of(self, text: str, item: Conversation, number: int) -> Span:
        probe = {"role": "assistant", "content": PROBE}
        around = self.render([*item.messages[:number], probe, *item.messages[number + 1 :]], item.kwargs)[0]
        before, found, behind = around.partition(PROBE)
        header = next((h for h in self.headers if before.endswith(h)), "")
        base = len(before) - len(header)
        if not found or text[:base] != before[:base] or not text.endswith(behind):
            raise RowError(
                f"the chat template has no generation marks and writes what stands around turn {number} otherwise when "
                "the turn says something else, so its trained span cannot be located; add {% generation %} marks to it"
            )
        start = base + next((len(h) for h in self.headers if text.startswith(h, base)), 0)
        # White space that the template puts before an answer is the model's to write where its prompt ends before it.
        # Only what stands just before the answer is compared: the text further up may depend on which turn is the last.
        prompt = self.prompt(item.messages[:number], item.kwargs)
        written, asked = text[:start].rstrip(), prompt.rstrip()
        gap, own = text[len(written) : start], prompt[len(asked) :]
        if gap.startswith(own) and written.endswith(asked[-HEADER_END:]):
            start = len(written) + len(own)
        end = len(text) - len(behind)
        if end < start:
            raise RowError(f"the chat template leaves nothing of turn {number}, so nothing of it can be trained")
        return start, end + self._end_at(text, end)


def _encodable(text: str) -> str:
    """`text`, if it can be written as UTF-8; raises RowError with the position of what cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"expected UTF-8, got half of a character (a lone surrogate) at character {error.start} of the text"
        ) from None
    return text
