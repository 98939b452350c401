"""Talk to a model in the terminal: `apo-soup chat MODEL`, a folder, a Hub id or a recipe.

Type /think or /no_think to switch the mode, /new to forget the conversation, /quit or Ctrl-D to leave; Ctrl-C ends an
answer. Reasoning is dimmed, or shown as it is when the output is not a terminal.
"""

from pathlib import Path

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import last_model, models_of_suite
from apo_soup.models.libraries import quiet_libraries
from apo_soup.models.think_tags import THINKING, opens_thinking
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
    from apo_soup.data.rendering.loaded_model import load_model
    from apo_soup.evals.next_answer import next_answer
    from apo_soup.evals.streaming import print_answer, streamed_answer
    from apo_soup.models.tokenizer import TokenizerKeys

    asked = load_model(folder, "MODEL", TokenizerKeys(template), trust_remote_code=trust_remote_code)
    temperature = 0.0 if greedy else None
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
            try:
                text, settings = next_answer(asked, folder, messages, think, max_new_tokens, temperature)
            except UserError as error:
                print(error)
                messages.pop()
                continue
            answer = THINKING if opens_thinking(text) else ""
            answer = print_answer(streamed_answer(asked.model, asked.tokenizer, settings), asked.end_texts, answer)
            # Earlier reasoning is not read again; in no-think mode its block would contradict the mode.
            messages.append({"role": "assistant", "content": answer_part(answer) or "(nothing)"})
