"""Talk to a model in the terminal: `apo-soup chat MODEL`, a folder, a Hub id or a recipe.

Type /think or /no_think to switch the mode, /new to forget the conversation, /quit or Ctrl-D to leave; Ctrl-C ends an
answer. Reasoning is dimmed, or shown as it is when the output is not a terminal.
"""

from pathlib import Path
from typing import Any

from apo_soup.config.load import load
from apo_soup.evals.models_to_evaluate import last_model, models_of_suite
from apo_soup.models.libraries import quiet_libraries
from apo_soup.verify.modes import answer_part

MODE_COMMANDS = {"/think": True, "/no_think": False}


def model_of_recipe(recipe: Path, stage: str) -> tuple[str, str | None, bool]:
    """A stage's model folder, or with no name the last one's; the chat template that the recipe's suite lays over it,
    and whether the suite lets code run that comes with the model.

    Raises:
        UserError: the recipe's suite is wrong.
    """
    suite = load(recipe / "eval.yaml", "eval")
    stage = stage or last_model(suite)
    return str(models_of_suite(suite, [stage])[stage]), suite.chat_template, suite.trust_remote_code


def converse(
    folder: str, template: str | None, max_new_tokens: int, greedy: bool, trust_remote_code: bool = False
) -> None:
    """Read turns from standard input until it ends, streaming each answer.

    Raises:
        UserError: the tokenizer cannot be loaded, or has no chat template; the model comes with code that may not run.
    """
    quiet_libraries()
    import torch

    from apo_soup.data.rendering.trained_spans import Renderer
    from apo_soup.evals.streaming import print_answer, streamed_answer
    from apo_soup.models.generation import end_ids
    from apo_soup.models.loading import load_causal_model
    from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer

    tokenizer = load_tokenizer(folder, "MODEL", TokenizerKeys(template), trust_remote_code=trust_remote_code)
    renderer = Renderer(tokenizer)
    model = load_causal_model(folder, "MODEL", trust_remote_code=trust_remote_code).eval()
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    ends = sorted(end_ids(model, tokenizer))
    end_tokens = [str(tokenizer.decode([i])) for i in ends]
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "eos_token_id": ends, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    if greedy:
        settings |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    messages: list[dict[str, str]] = []
    think = True
    print(f"{folder}. /think, /no_think, /new and /quit are commands; the mode is /think.")
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line in MODE_COMMANDS:
            think = MODE_COMMANDS[line]
            print(f"mode {line}")
        elif line == "/new":
            messages = []
        elif line == "/quit":
            return
        elif line:
            messages.append({"role": "user", "content": line})
            prompt = tokenizer(
                renderer.prompt(messages, {"enable_thinking": think}),
                return_tensors="pt",
                add_special_tokens=False,
                return_token_type_ids=False,
            ).to(model.device)
            answer = print_answer(streamed_answer(model, tokenizer, {**prompt, **settings}), end_tokens)
            # Earlier reasoning is not read again; in no-think mode its block would contradict the mode.
            messages.append({"role": "assistant", "content": answer_part(answer) or "(nothing)"})
