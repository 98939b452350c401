"""Talk to a model in the terminal: `python -m evals.chat --model DIR`, or `--recipe DIR --stage NAME`.

Type /think or /no_think to switch the mode, /new to forget the conversation, /quit or Ctrl-D to leave. Reasoning is
dimmed, or shown as it is when the output is not a terminal.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

from evals.suite import expand_models
from pipeline.errors import UserError, run_main
from pipeline.inputs import model_folder
from pipeline.program import quiet_libraries
from pipeline.recipe import load

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evals.chat", description="Talk to a model in the terminal.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="DIR", help="model folder, such as runs/tiny/merged")
    which.add_argument("--recipe", type=Path, metavar="DIR", help="recipe folder whose eval.yaml names the models")
    parser.add_argument("--stage", default="merged", metavar="NAME", help="model of the recipe, such as apo/1")
    parser.add_argument("--max_new_tokens", type=int, default=512)
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    options = parser.parse_args()
    model, template = (options.model, None) if options.model else of_recipe(options.recipe, options.stage)
    if model_folder(model, "--model") is None:
        raise UserError(f"--model: {model} is not a folder here; run the stage that makes it first")
    talk(model, template, options.max_new_tokens, options.greedy)


def of_recipe(recipe: Path, stage: str) -> tuple[str, str | None]:
    """A stage's model folder, and the chat template that the recipe's suite lays over it."""
    suite = load(recipe / "eval.yaml", "eval")
    return str(expand_models(suite, [stage])[stage]), suite.values.get("chat_template")


def talk(folder: str, template: str | None, max_new_tokens: int, greedy: bool) -> None:
    """Read turns from standard input until it ends, streaming each answer."""
    quiet_libraries()
    from transformers import AutoModelForCausalLM, TextIteratorStreamer

    from corpus.mask import Renderer
    from corpus.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder, "--model", template)
    renderer = Renderer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map=None).eval()
    messages, think = [], True
    print(f"{folder}. /think, /no_think, /new and /quit are commands; the mode is /think.")
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print()
            return
        if said in ("/think", "/no_think"):
            think = said == "/think"
            print(f"mode {said}")
        elif said == "/new":
            messages = []
        elif said == "/quit":
            return
        elif said:
            messages.append({"role": "user", "content": said})
            prompt = renderer.prompt(messages, {"enable_thinking": think})
            ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
            streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=False)
            choice = {"do_sample": False, "temperature": None, "top_p": None} if greedy else {}
            settings = {**ids, "streamer": streamer, "max_new_tokens": max_new_tokens, **choice}
            worker = Thread(target=model.generate, kwargs={**settings, "eos_token_id": tokenizer.eos_token_id})
            worker.start()
            answer = show(streamer, tokenizer.eos_token)
            worker.join()
            messages.append({"role": "assistant", "content": answer})


def show(pieces: Iterable[str], end: str) -> str:
    """Print pieces as they come, reasoning dimmed on a terminal; returns the whole answer."""
    colour = sys.stdout.isatty()
    whole = ""
    for piece in pieces:
        piece = piece.replace(end, "")
        whole += piece
        thinking = "<think>" in whole and "</think>" not in whole.removesuffix(piece)
        print(f"{DIM}{piece}{PLAIN}" if colour and thinking else piece, end="", flush=True)
    print()
    return whole


if __name__ == "__main__":
    run_main(main)
