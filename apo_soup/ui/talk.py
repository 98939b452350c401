"""One answer of a chat, as events: what a page is told while a model is waited for, loaded, and writes."""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from apo_soup.errors import UserError, first_line
from apo_soup.models.think_tags import THINKING, opens_thinking
from apo_soup.ui.chat_models import chat_models
from apo_soup.ui.model_shelf import ModelShelf
from apo_soup.verify.modes import answer_part

_MOST_CHARACTERS = 400_000
_WAIT_SECONDS = 0.2

Event = dict[str, Any]


class Turn(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["user", "assistant"]
    content: Annotated[str, MaxLen(_MOST_CHARACTERS)]


class AskedAnswer(BaseModel):
    """What a page asks for: a model of the recipe by its name, the mode, and the conversation up to the question.

    A `temperature` of 0 takes the likeliest token; without one the model's own settings hold.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, MaxLen(200)]
    think: bool
    turns: Annotated[list[Turn], MinLen(1), MaxLen(1000)]
    system: Annotated[str, MaxLen(_MOST_CHARACTERS)] = ""
    temperature: Annotated[float, Ge(0), Le(10)] | None = None
    max_new_tokens: Annotated[int, Ge(1), Le(131_072)] = 512

    @classmethod
    def of_json(cls, body: bytes) -> "AskedAnswer":
        """From a request's body.

        Raises:
            UserError: it is of another form.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            place = ".".join(map(str, wrong["loc"])) or "body"
            raise UserError(
                f"{place}: expected {wrong['msg'].removeprefix('Input should be ')}, got {wrong['type']}; correct it"
            ) from error


@dataclass
class Talker:
    """Answers for the models of a recipe, one at a time; others wait."""

    recipe: Path
    shelf: ModelShelf = field(default_factory=ModelShelf)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: AskedAnswer, emit: Callable[[Event], None], stopped: threading.Event) -> None:
        """Tell an answer as events: `wait`, `load`, `piece`s of text, and `done` or `problem` at the end.

        Args:
            emit: takes each event; called in this thread.
            stopped: set by whoever wants no more of it.
        """
        if not self._turn.acquire(blocking=False):
            emit({"kind": "wait"})
            while not self._turn.acquire(timeout=_WAIT_SECONDS):
                if stopped.is_set():
                    return
        try:
            self._answer(asked, emit, stopped)
        except UserError as error:
            emit({"kind": "problem", "told": str(error)})
        except Exception as error:
            traceback.print_exc()
            emit({"kind": "problem", "told": f"{type(error).__name__}: {first_line(error)}; the terminal shows where"})
        finally:
            self._turn.release()

    def _answer(self, asked: AskedAnswer, emit: Callable[[Event], None], stopped: threading.Event) -> None:
        known = {model.name: model for model in chat_models(self.recipe)}
        if asked.model not in known:
            raise UserError(
                f"model: expected one of {', '.join(known) or 'none that is there'}, got {asked.model}; choose another"
            )
        loaded = self.shelf.get(known[asked.model], lambda: emit({"kind": "load", "model": asked.model}))
        if stopped.is_set():
            return
        from apo_soup.evals.next_answer import next_answer
        from apo_soup.evals.streaming import streamed_answer, without_ends

        text, settings = next_answer(
            loaded, asked.model, _messages(asked), asked.think, asked.max_new_tokens, asked.temperature
        )
        ends = loaded.end_texts
        tokens, started = 0, time.monotonic()

        def stop_after() -> bool:
            nonlocal tokens
            tokens += 1
            return stopped.is_set()

        emit({"kind": "piece", "text": THINKING if opens_thinking(text) else ""})
        for piece in streamed_answer(loaded.model, loaded.tokenizer, settings, stop_after):
            emit({"kind": "piece", "text": without_ends(piece, ends)})
        full = tokens >= settings["max_new_tokens"]
        emit({"kind": "done", "tokens": tokens, "seconds": round(time.monotonic() - started, 2), "full": full})


def _messages(asked: AskedAnswer) -> list[dict[str, str]]:
    """The conversation as the template is given it."""
    messages = [{"role": "system", "content": asked.system}] if asked.system.strip() else []
    for turn in asked.turns:
        # Earlier reasoning is not read again; in no-think mode its block would contradict the mode.
        said = turn.content if turn.role == "user" else answer_part(turn.content) or "(nothing)"
        messages.append({"role": turn.role, "content": said})
    return messages
