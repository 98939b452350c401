"""The texts of a row on their way into a template: no control token goes along unless the recipe says so."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from apo_soup.data.conversations.conversation import Conversation, PlainText, PreferencePair, RowItem
from apo_soup.data.conversations.rendered_chat import ends_as_prompt
from apo_soup.data.conversations.repeated_prompt import repeats_prompt
from apo_soup.data.conversations.unread import holds_thoughts
from apo_soup.data.rendering.control_tokens import ControlTokens
from apo_soup.data.rendering.plain_tokens import MARK, PlainTokenizer, mapped_text, marked
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

TokenPolicy = Literal["refuse", "escape", "allow"]
UNFILLED = re.compile(r"\{\{ ?[A-Za-z_]\w* ?\}\}")
MEDIA_MARKS = ("<image>", "<video>", "<audio>")
# Tags, among them those of thoughts that are not the think block that templates and modes know.
TAG = re.compile(r"<\|?[A-Za-z][A-Za-z_:]{2,24} ?(?:\|>|/?>)")
# Control tokens by their shape or name, and how each begins.
OF_OTHER_MODELS = re.compile(
    r"<\|[a-zA-Z_][^<>|\s]{1,40}\|>|<\|[a-z_]{2,20}>|<[a-z_]{2,20}\|>|<｜[^<>｜\s]{1,40}｜>|<(?:start|end)_of_turn>|◁/?think▷"
    r"|\[/?(?:INST|THINK|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]"
)
BRACKETS = ("<", ">", "]", "[", "{{", "◁")
BEGINNINGS_OF_OTHERS = ("<|", "|>", "<｜", "_of_turn>", "◁", "INST]", "THINK]", "[TOOL_", "[AVAILABLE_", "[SYSTEM_")
OF_OTHERS = "warning: a text holds {}, a control token of other models, which is words to this one"
PROMPT_IN_TURN = "warning: a text ends as a rendered prompt does ({}), and stands inside a turn of the chat template's"
PROMPT_IN_ANSWER = "warning: an answer begins with all of the turn that it answers, which is trained as its words"
THOUGHT_AS_WORDS = (
    "warning: a text holds {}, which is trained as words, not as reasoning; reasoning stands between <think> and "
    "</think>"
)
END_TAKEN_OFF = "an answer's text ended with an end of turn, which was taken off"


@dataclass(slots=True)
class CheckedTexts:
    """A row as it is (`item`), the row that the template is to see (`shown`: with control tokens marked, or the same
    object), and what is to be said of it.
    """

    item: Any
    shown: Any
    remarks: list[str] = field(default_factory=list)


class TextPolicy:
    """Looks through the texts of rows for control tokens, and does with them what `special_tokens_in_text` says."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, renderer: Renderer, policy: TokenPolicy):
        self.tokens = ControlTokens(tokenizer, renderer)
        self.vocabulary = frozenset(tokenizer.get_vocab())
        self.plain = PlainTokenizer(tokenizer, self.tokens)
        self.policy = policy

    def checked(self, item: RowItem) -> CheckedTexts:
        """A row with its texts looked through. An end of turn that an answer brought along is taken off.

        Raises:
            RowError: a control token that the recipe does not allow, or an answer that is nothing but its end of turn.
        """
        texts = item.text if isinstance(item, PlainText) else "\0".join(_all_texts(item))
        bracketed = holds_brackets(texts)
        remarks = [*placeholders_in(texts), *self._of_other_models(texts)] if bracketed else []
        ending = None if isinstance(item, PlainText) else ends_as_prompt(texts)
        if ending:
            remarks.append(PROMPT_IN_TURN.format(ending))
        if repeats_prompt(item.in_order):
            remarks.append(PROMPT_IN_ANSWER)
        if self.policy == "allow":
            return CheckedTexts(item, item, remarks)
        if isinstance(item, PlainText):
            return CheckedTexts(item, self._shown_text(item, remarks), remarks)
        if not (bracketed or self.tokens.bare) or not self.tokens.may_be_in(texts):
            return CheckedTexts(item, item, remarks)
        item = self._without_ends(item, remarks)
        unfit = list(self._unfit(item))
        if not unfit:
            return CheckedTexts(item, item, remarks)
        if self.policy == "refuse":
            place, token = unfit[0]
            raise _control_token_error(place, token)
        remarks += [f"control token {token} stands in a text, and is plain text" for token in {t for _, t in unfit}]
        return CheckedTexts(item, self._shown(item), remarks)

    def _of_other_models(self, text: str) -> list[str]:
        """The control tokens of other models that a text holds, in sentences: nothing here takes them for control."""
        if not any(beginning in text for beginning in BEGINNINGS_OF_OTHERS):
            return []
        found = dict.fromkeys(OF_OTHER_MODELS.findall(text))
        strange = (token for token in found if token not in self.vocabulary and token not in self.tokens.tokens)
        return [OF_OTHERS.format(token) for token in strange]

    def _shown_text(self, item: PlainText, remarks: list[str]) -> PlainText:
        """A plain text; the begin and the end that it may have of its own are no fault."""
        begin = self.tokens.begin
        start = len(begin) if begin and item.text.startswith(begin) else 0
        stop = len(self.tokens.without_end(item.text))
        inside = item.text[start:stop]
        unfit = [token for token in self.tokens.unfit(inside, True) if token in self.tokens.control]
        if not unfit:
            return item
        if self.policy == "refuse":
            raise _control_token_error("field text", unfit[0])
        remarks += [f"control token {token} stands in a text, and is plain text" for token in set(unfit)]
        return replace(item, text=item.text[:start] + self._marked(inside, unfit) + item.text[stop:])

    def _without_ends(self, item: Any, remarks: list[str]) -> Any:
        """A row whose answers do not end with an end of turn of their own; the template writes it."""
        changed: dict[str, list[Fields]] = {}
        for name, messages in _turns(item):
            for number, message in enumerate(messages):
                content = message["content"]
                if message["role"] != "assistant" or not content.rstrip().endswith(self.tokens.ends):
                    continue
                bare = self.tokens.without_end(content)
                if not bare and not message.get("tool_calls") and not message.get("reasoning_content"):
                    raise RowError(
                        f"field {name}[{number}].content: expected an answer, got nothing but its end of turn; remove "
                        "the turn"
                    )
                turns = changed.setdefault(name, list(messages))
                turns[number] = {**message, "content": bare}
        if not changed:
            return item
        remarks.append(END_TAKEN_OFF)
        return replace(item, **changed)

    def _unfit(self, item: Any) -> Iterator[tuple[str, str]]:
        """Control tokens of the texts of a row, each with its place."""
        for name, messages in _turns(item):
            for number, message in enumerate(messages):
                assistant = message["role"] == "assistant"
                for key, value in message.items():
                    if key not in ("role", "thinking"):
                        for token in self._unfit_in(value, assistant):
                            yield f"field {name}[{number}].{key}", token
        for key, value in item.kwargs.items():
            for token in self._unfit_in(value, False):
                yield f"template argument {key}", token

    def _unfit_in(self, value: Any, assistant: bool) -> Iterator[str]:
        texts: list[str] = []
        _add_texts(value, texts)
        for text in texts:
            yield from self.tokens.unfit(text, assistant)

    def _shown(self, item: Any) -> Any:
        """A row with its control tokens marked."""
        turns = {name: [self._shown_turn(message) for message in messages] for name, messages in _turns(item)}
        return replace(item, **turns, kwargs=mapped_text(item.kwargs, lambda text: self._marked_unfit(text, False)))

    def _shown_turn(self, message: Fields) -> Fields:
        assistant = message["role"] == "assistant"
        return {
            k: v if k == "role" else mapped_text(v, lambda text: self._marked_unfit(text, assistant))
            for k, v in message.items()
        }

    def _marked_unfit(self, text: str, assistant: bool) -> str:
        return self._marked(text, self.tokens.unfit(text, assistant))

    def _marked(self, text: str, unfit: list[str]) -> str:
        if MARK in text:
            raise RowError(f"expected text, got U+{ord(MARK):X}, a character of no text; remove it")
        for token in unfit:
            if token not in self.vocabulary:
                raise RowError(
                    f"expected a token that can be written as plain text, got {token}, which the template writes "
                    "around turns and the tokenizer does not know; remove it from the row"
                )
        return marked(text, self.tokens, unfit)


def holds_brackets(text: str) -> bool:
    """Whether a text holds any of the characters without which there is no placeholder, tag or token of other models;
    most texts are done with here.
    """
    for mark in BRACKETS:  # noqa: SIM110 - a generator costs more than the search
        if mark in text:
            return True
    return False


def placeholders_in(text: str) -> list[str]:
    """What a text holds that something should have filled or replaced, in sentences: `{{name}}`, `<image>`."""
    found: list[str] = []
    if "<" not in text and "{{" not in text:
        return found
    if "{{" in text and UNFILLED.search(text):
        found.append("warning: a text holds a placeholder such as {{name}}, which nothing fills")
    found += [f"warning: a text holds {mark}, and no such media are read" for mark in MEDIA_MARKS if mark in text]
    tags = {tag for tag in set(TAG.findall(text)) - {THINKING} if holds_thoughts(tag)}
    found += [THOUGHT_AS_WORDS.format(tag) for tag in sorted(tags)]
    return found


def _turns(item: Conversation | PreferencePair) -> Iterator[tuple[str, list[Fields]]]:
    """The fields of a row that hold turns."""
    if isinstance(item, Conversation):
        yield "messages", item.messages
    else:
        yield from (("prompt", item.prompt), ("chosen", item.chosen), ("rejected", item.rejected))


def _all_texts(item: Conversation | PreferencePair) -> list[str]:
    """Every text that a row gives to its template."""
    texts: list[str] = []
    for _, messages in _turns(item):
        for message in messages:
            content = message["content"]
            if message["role"] == "assistant" and END_OF_THINKING in content:
                # One think block is what most of these have; whether it is opened and closed is seen elsewhere.
                content = content.replace(THINKING, "", 1).replace(END_OF_THINKING, "", 1)
            texts.append(content)
            if len(message) > 2:  # more than a role and a content
                _add_texts({k: v for k, v in message.items() if k != "content"}, texts)
    _add_texts(item.kwargs, texts)
    return texts


def _add_texts(value: Any, texts: list[str]) -> None:
    """Add every text of a value, keys too."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        texts += value
        for inner in value.values():
            _add_texts(inner, texts)
    elif isinstance(value, list):
        for inner in value:
            _add_texts(inner, texts)


def _control_token_error(place: str, token: str) -> RowError:
    return RowError(
        f"{place}: expected text, got the control token {token} in it; remove it, or write special_tokens_in_text: "
        "escape (plain text) or allow (as it is) into the recipe"
    )
