"""What a row is: a conversation, a plain text or a preference pair; and raw rows as the first two, checked field by
field.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from apo_soup.data.conversations.formats import missing_field
from apo_soup.data.conversations.messages import as_messages, checked_messages, with_system
from apo_soup.data.conversations.reasoning import one_reasoning, opens_unclosed_block, reasons_itself
from apo_soup.data.conversations.rename_guess import unanswered_remedy
from apo_soup.data.conversations.rendered_chat import check_transcript
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.conversations.tool_results import in_call_order
from apo_soup.data.conversations.turn_fields import ANSWER_REASONING, ROW_REASONING, carries_loss
from apo_soup.data.conversations.turn_order import unusual_turn
from apo_soup.data.once import once
from apo_soup.data.sources.rows import Fields, RowError, described

# How a column is kept from being read as the reasoning of an answer.
LEAVE_OUT = f", or leave the column unread with rename: {{{ROW_REASONING}: notes}} for the source"


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the row's template arguments, how many assistant turns came as its `completion`, the numbers
    of the assistant turns that its flags keep from being trained, whether templates differ on its turns' order, and, of
    a sample of a row, whether the row has an answer with reasoning.
    """

    messages: list[Fields]
    kwargs: dict[str, Any] = field(default_factory=dict)
    completion_turns: int = 0
    masked_turns: frozenset[int] = frozenset()
    unusual_order: bool = False
    reasons_elsewhere: bool = False

    @property
    def in_order(self) -> list[Fields]:
        """The turns one behind another, as the template gets them."""
        return self.messages

    @once
    def answers(self) -> list[Fields]:
        """The assistant's turns."""
        return [m for m in self.messages if m["role"] == "assistant"]

    @once
    def stated_mode(self) -> bool | None:
        """Whether the row says that it thinks, by a word of its system text or a template argument; None where it says
        neither.
        """
        system = self.kwargs.get("custom_instructions") or ""
        if self.messages and self.messages[0]["role"] == "system":
            system = self.messages[0]["content"]
        words = system.split() if "/" in system else ()
        if "/no_think" in words:
            return False
        if "/think" in words:
            return True
        return bool(self.kwargs["enable_thinking"]) if "enable_thinking" in self.kwargs else None

    @property
    def thinks(self) -> bool:
        """Whether the row is in think mode, as the template will decide it."""
        return self.stated_mode is not False

    @once
    def reasons(self) -> bool:
        """Whether any answer has reasoning that is not context alone: that no flag masks, of the completion if any."""
        first = len(self.answers) - self.completion_turns if self.completion_turns else 0
        return any(reasons_itself(a) for n, a in enumerate(self.answers) if n >= first and n not in self.masked_turns)

    @property
    def mode(self) -> str:
        """The name of the row's mode: `think` or `no_think`."""
        return "think" if self.thinks else "no_think"


@dataclass(frozen=True)
class PlainText:
    """A row of plain text, all of it trained; no template is laid over it."""

    text: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    mode: str = "text"
    messages: tuple[Fields, ...] = ()
    unusual_order: bool = False

    @property
    def in_order(self) -> list[Fields]:
        """No turns."""
        return []


@dataclass(frozen=True)
class PreferencePair:
    """A preference: the prompt's messages and the two answers that follow it."""

    prompt: list[Fields]
    chosen: list[Fields]
    rejected: list[Fields]
    kwargs: dict[str, Any] = field(default_factory=dict)
    unusual_order: bool = False

    @property
    def in_order(self) -> list[Fields]:
        """The turns of the better side one behind another, as the template gets them."""
        return [*self.prompt, *self.chosen]

    @property
    def messages(self) -> list[Fields]:
        """Every turn: the prompt's, and both answers."""
        return [*self.prompt, *self.chosen, *self.rejected]

    @once
    def stated_mode(self) -> bool | None:
        """Whether the prompt says that the answers think, as of a conversation."""
        return Conversation(self.prompt, self.kwargs).stated_mode

    @once
    def reasons(self) -> bool:
        """Whether the chosen answer has reasoning."""
        return any(map(reasons_itself, self.chosen))

    @property
    def mode(self) -> str:
        """The name of the prompt's mode: `think` or `no_think`."""
        return "no_think" if self.stated_mode is False else "think"


SupervisedItem = Conversation | PlainText
RowItem = Conversation | PlainText | PreferencePair


def parse_supervised(fields: Fields, defaults: dict[str, Any]) -> SupervisedItem:
    """The conversation or text of a row in canonical fields (`apo_soup.data.conversations.formats.canonical`).

    Raises:
        RowError: naming the field, what was expected and what is there.
    """
    if "messages" in fields or "text" not in fields:
        return parse_conversation(fields, defaults)
    text = fields["text"]
    if not isinstance(text, str):
        raise RowError(f"field text: expected text, got {described(text)}; correct it")
    if not text.strip():
        raise RowError("field text: expected text, got an empty one; leave the row out")
    return PlainText(text)


def parse_conversation(fields: Fields, defaults: dict[str, Any]) -> Conversation:
    """The conversation of a row with `messages`, or with `prompt` and `completion`.

    Args:
        defaults: template arguments, below those of the row.

    Raises:
        RowError: naming the field, what was expected and what is there.
    """
    completion_turns = 0
    system = fields.get("system")
    if "messages" in fields:
        name = "messages"
        messages = with_system(system, checked_messages(fields[name], name))
    elif "prompt" in fields and "completion" in fields:
        name = "prompt + completion"
        prompt = prompt_turns(fields["prompt"], system)
        check_transcript(fields["completion"], "completion")
        answers = as_messages(fields["completion"], "assistant", "completion")
        completion_turns = sum(m["role"] == "assistant" for m in answers)
        if not completion_turns:
            raise RowError("field completion: expected an assistant turn, got none, so nothing is trained; add one")
        messages = in_call_order(prompt + answers, name)
    else:
        raise missing_field("messages", fields)
    if "assistant" not in [m["role"] for m in messages]:
        raise RowError(
            "field messages: expected an assistant turn, got none, so nothing would be trained; "
            f"{unanswered_remedy(fields)}"
        )
    unusual = unusual_turn(messages, name) is not None
    masked = masked_turns(messages, name)
    item = Conversation(messages, template_kwargs(fields, defaults), completion_turns, masked, unusual)
    check_one_mode(item, fields)
    thought = fields.get(ANSWER_REASONING if name == "messages" else ROW_REASONING)
    if thought and item.thinks:
        item = replace(item, messages=[*messages[:-1], _thoughtful(item, thought)])
    for number, message in enumerate(item.messages):
        if message["role"] == "assistant" and opens_unclosed_block(message["content"]) and item.thinks:
            raise RowError(
                f"field messages[{number}].content: expected </think>, got a think block that is never closed; close it"
            )
    return item


def _thoughtful(item: Conversation, thought: Any) -> Fields:
    """The last answer, with the reasoning that the row holds in a column of its own."""
    answer, place = item.messages[-1], f"field {ROW_REASONING}"
    if item.completion_turns > 1 or answer["role"] != "assistant":
        raise RowError(
            f"{place}: expected a completion of one answer beside it, got turns; write the reasoning into the turn "
            f"that it is of{LEAVE_OUT}"
        )
    try:
        return one_reasoning({**answer, ROW_REASONING: thought}, answer["content"], place)
    except RowError as error:
        told = str(error).replace(f"{place}.{ROW_REASONING}", place)
        raise RowError(f"{told}{LEAVE_OUT}") from None


def check_one_mode(item: Conversation | PreferencePair, fields: Fields) -> None:
    """Hold the system text, and a word of it that states a mode, to what the row itself says elsewhere.

    Raises:
        RowError: they differ.
    """
    instructions = item.kwargs.get("custom_instructions")
    if instructions and item.in_order[0]["role"] == "system":
        system = item.in_order[0]["content"]
        own = template_kwargs(fields, {}).get("custom_instructions")
        if own and not says_instructions(system, own):
            raise RowError(
                "field chat_template_kwargs: expected custom_instructions that say what the system turn says, got "
                f"{described(own)}, which templates leave out beside one; remove one of them"
            )
    told = item.kwargs.get("enable_thinking")
    if told is None or item.stated_mode == told or "enable_thinking" not in template_kwargs(fields, {}):
        return
    word = "/think" if item.stated_mode else "/no_think"
    raise RowError(
        f"field enable_thinking: expected the mode that the system text states with {word}, got {told}; remove one"
    )


def says_instructions(system: str, instructions: str) -> bool:
    """Whether a system text says what instructions say, and no more than the mode beside.

    >>> says_instructions("Be brief. /no_think", "Be brief."), says_instructions("Be brief.", "Be brief. /no_think")
    (True, False)
    """
    words = [word for word in system.split() if word not in ("/think", "/no_think")]
    return instructions.split() in (words, system.split())


def prompt_turns(prompt: Any, system: Any) -> list[Fields]:
    """The turns that an answer follows.

    Raises:
        RowError: they end with an assistant turn, so that it is not to be seen where the answer begins.
    """
    turns = with_system(system, as_messages(prompt, "user", "prompt"))
    if turns[-1]["role"] == "assistant":
        raise RowError(
            "field prompt: expected turns that end before the assistant answers, got an assistant turn at their end; "
            "move it to the answer"
        )
    return turns


def masked_turns(messages: list[Fields], name: str) -> frozenset[int]:
    """Numbers of the assistant turns that flags keep from being trained, counted among the assistant's.

    Raises:
        RowError: a flag that is neither yes nor no, or flags that leave no turn to train.
    """
    masked, answers = set(), 0
    for number, message in enumerate(messages):
        # Most turns have a role and a content and nothing else, and so no flag.
        trained = len(message) == 2 or carries_loss(message, f"field {name}[{number}]")
        if message["role"] == "assistant":
            if not trained:
                masked.add(answers)
            answers += 1
    if len(masked) == answers:
        raise RowError(
            f"field {name}: expected a turn that is trained, got flags that mask every one; unmask one or drop the row"
        )
    return frozenset(masked)
