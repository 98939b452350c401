"""Talk to a model in the terminal: `apo-soup chat MODEL`, a folder, a Hub id or a recipe.

Type /think or /no_think to switch the mode, /new to forget the conversation, /quit or Ctrl-D to leave; Ctrl-C ends an
answer. Reasoning is dimmed, or shown as it is when the output is not a terminal.
"""

import sys
from collections.abc import Generator
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

from apo_soup.config.recipe import load
from apo_soup.evals.suite import expand_models
from apo_soup.models.libraries import quiet_libraries
from apo_soup.verify.answers import answer_part

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
MODES = {"/think": True, "/no_think": False}


def of_recipe(recipe: Path, stage: str) -> tuple[str, str | None]:
    """A stage's model folder, and the chat template that the recipe's suite lays over it."""
    suite = load(recipe / "eval.yaml", "eval")
    return str(expand_models(suite, [stage])[stage]), suite.values.get("chat_template")


def talk(folder: str, template: str | None, max_new_tokens: int, greedy: bool) -> None:
    """Read turns from standard input until it ends, streaming each answer."""
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    from apo_soup.data.trained_spans import Renderer
    from apo_soup.models.generation import end_ids
    from apo_soup.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder, "--model", template)
    renderer = Renderer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    ends = end_ids(model, tokenizer)
    settings = {"max_new_tokens": max_new_tokens, "eos_token_id": sorted(ends), "pad_token_id": tokenizer.pad_token_id}
    if greedy:
        settings |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    messages: list[dict[str, str]] = []
    think = True
    print(f"{folder}. /think, /no_think, /new and /quit are commands; the mode is /think.")
    while True:
        try:
            said = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if said in MODES:
            think = MODES[said]
            print(f"mode {said}")
        elif said == "/new":
            messages = []
        elif said == "/quit":
            return
        elif said:
            messages.append({"role": "user", "content": said})
            ids = tokenizer(
                renderer.prompt(messages, {"enable_thinking": think}),
                return_tensors="pt",
                add_special_tokens=False,
                return_token_type_ids=False,
            ).to(model.device)
            answer = show(streamed(model, tokenizer, {**ids, **settings}), [tokenizer.decode(i) for i in ends])
            # Earlier reasoning is not read again; in no-think mode its block would contradict the mode.
            messages.append({"role": "assistant", "content": answer_part(answer) or "(nothing)"})


def streamed(model: Any, tokenizer: Any, settings: dict[str, Any]) -> Generator[str]:
    """Pieces of an answer as they come. Whoever stops listening stops the generation; what goes wrong in it is raised
    here, and not lost in its thread.
    """
    import torch
    from transformers import StoppingCriteria, TextStreamer

    pieces: Queue[str | BaseException | None] = Queue()
    stopped = Event()

    class Pieces(TextStreamer):
        """Hands every piece of text over to the listener."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces.put(text)

    class Stopped(StoppingCriteria):
        """Ends the generation when the listener has gone."""

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.full((len(input_ids),), stopped.is_set(), device=input_ids.device)

    def work() -> None:
        try:
            streamer = Pieces(tokenizer, skip_prompt=True, skip_special_tokens=False)
            model.generate(**settings, streamer=streamer, stopping_criteria=[Stopped()])
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    worker = Thread(target=work, daemon=True)
    worker.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stopped.set()
        worker.join()


def show(pieces: Generator[str], ends: list[str]) -> str:
    """Print pieces as they come, reasoning dimmed on a terminal; returns the whole answer. Ctrl-C ends it early."""
    colour = sys.stdout.isatty()
    whole = ""
    try:
        for piece in pieces:
            for end in ends:
                piece = piece.replace(end, "")
            thinking = "<think>" in whole + piece and "</think>" not in whole
            whole += piece
            print(f"{DIM}{piece}{PLAIN}" if colour and thinking else piece, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()
        print(" [stopped]", end="")
    print()
    return whole
