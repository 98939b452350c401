"""An answer piece by piece while it is generated, and its way to the terminal."""

import sys
from collections.abc import Callable, Generator
from queue import Queue
from threading import Event, Thread
from typing import Any

from apo_soup.models.think_tags import END_OF_THINKING, THINKING

DIMMED, UNDIMMED = "\x1b[2m", "\x1b[0m"


def streamed_answer(
    model: Any, tokenizer: Any, settings: dict[str, Any], stop_after: Callable[[], bool] = lambda: False
) -> Generator[str]:
    """Pieces of an answer as they come. Whoever stops listening stops the generation; what goes wrong in it is raised
    here, and not lost in its thread.

    Args:
        settings: arguments of `model.generate`, the prompt's ids `[1, S]` among them.
        stop_after: called in the generation's thread behind every token, those among them that give no piece yet;
            whether the answer ends there.
    """
    import torch
    from transformers import StoppingCriteria, TextStreamer

    pieces: Queue[str | BaseException | None] = Queue()
    stopped = Event()

    class QueueStreamer(TextStreamer):
        """Hands every piece of text over to the listener."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces.put(text)

    class ListenerGone(StoppingCriteria):
        """Ends the generation when the listener has gone, or says so."""

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            ends = stop_after() or stopped.is_set()
            return torch.full((len(input_ids),), ends, device=input_ids.device)

    def generate() -> None:
        try:
            streamer = QueueStreamer(tokenizer, skip_prompt=True, skip_special_tokens=False)
            model.generate(**settings, streamer=streamer, stopping_criteria=[ListenerGone()])
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    worker = Thread(target=generate, daemon=True)
    worker.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stopped.set()
        worker.join()


def print_answer(pieces: Generator[str], end_tokens: list[str], answer: str = "") -> str:
    """Print pieces as they come, without end-of-turn tokens, reasoning dimmed on a terminal; returns the whole answer,
    of which `answer` stands in the prompt. Ctrl-C ends it early.
    """
    colour = sys.stdout.isatty()
    print(f"{DIMMED}{answer}{UNDIMMED}" if colour and answer else answer, end="")
    try:
        for piece in pieces:
            piece = without_ends(piece, end_tokens)
            thinking = THINKING in answer + piece and END_OF_THINKING not in answer
            answer += piece
            print(f"{DIMMED}{piece}{UNDIMMED}" if colour and thinking else piece, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()
        print(" [stopped]", end="")
    print()
    return answer


def without_ends(piece: str, end_tokens: list[str]) -> str:
    """A piece of an answer without the tokens that end a turn."""
    for end in end_tokens:
        piece = piece.replace(end, "")
    return piece
