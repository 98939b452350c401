"""The stages of a recipe: the file, the program and the needs of each, and the command that runs it."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One stage of a recipe.

    Attributes:
        file: its file in the recipe folder.
        module: what `python -m` runs.
        needs: the stages that must come before.
        words: what follows `--config FILE`.
        launched: whether accelerate starts it.
        command: what stands between the module and `--config FILE`.
        flags: options of the program, which are no keys of its file.
        part_flag: the option that names one of several folders that the step makes.
        launches: whether its program starts trainings itself, and takes `--launch`.
    """

    file: str
    module: str
    needs: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    launched: bool = False
    command: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    part_flag: str = ""
    launches: bool = False


MERGE_FLAGS = ("--only", "--verify")
EVAL_FLAGS = ("--model", "--only", "--mix", "--task")
STEPS = {
    "data": Step("data.yaml", "apo_soup.toy"),
    "extend": Step("extend.yaml", "sft", ("data",), launched=True),
    "mid": Step("mid.yaml", "sft", ("data", "extend"), launched=True),
    "sft": Step("sft.yaml", "sft", ("mid",), launched=True),
    "traces": Step("traces.yaml", "apo.traces"),
    "pairs": Step("pairs.yaml", "apo.pairs", ("sft",)),
    "apo": Step("apo.yaml", "apo", ("pairs", "sft"), launched=True, flags=("--member",), part_flag="--member"),
    "soup": Step("merge.yaml", "merge", ("apo",), ("--only", "soup"), flags=MERGE_FLAGS),
    "merge": Step("merge.yaml", "merge", ("soup", "mid"), ("--only", "merged"), flags=MERGE_FLAGS),
    "sweep": Step("merge.yaml", "merge.sweep", ("merge",)),
    "eval": Step("eval.yaml", "apo_soup", ("merge", "sweep"), command=("eval",), flags=EVAL_FLAGS),
    # Nothing needs it: it is walked when it is asked for.
    "settings": Step("sweep.yaml", "apo_soup.cli.sweep", ("pairs", "sft"), flags=("--launch",), launches=True),
}


def order(stage: str) -> list[str]:
    """The stage and all it needs, each once, needs first.

    >>> order("sft")
    ['data', 'extend', 'mid', 'sft']
    """
    done: list[str] = []

    def visit(name: str) -> None:
        for need in STEPS[name].needs:
            visit(need)
        if name not in done:
            done.append(name)

    visit(stage)
    return done


def keys_of_file(step: Step, words: list[str]) -> list[str]:
    """The words that a step lays over its file: without the options of its program.

    >>> keys_of_file(STEPS["apo"], ["--member", "2", "--beta", "0.2"])
    ['--beta', '0.2']
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--state", "--state-json", *step.flags):
        parser.add_argument(flag, nargs="?", action="append")
    return parser.parse_known_args(words)[1]


def program_words(step: Step, recipe: Path, words: list[str]) -> list[str]:
    """What follows `python` in the command of a step."""
    return ["-m", step.module, *step.command, "--config", str(recipe / step.file), *step.words, *words]


def launch_command(step: Step, recipe: Path, launch: str | None, words: list[str]) -> list[str]:
    """The command that runs a step, as a person would type it."""
    program = program_words(step, recipe, words)
    if step.launches and launch:
        program += ["--launch", launch]
    if step.launched:
        return ["accelerate", "launch", *(["--config_file", launch] if launch else []), *program]
    return ["python", *program]


def executable(words: list[str]) -> list[str]:
    """The same command with this interpreter, so that it runs without an activated environment; accelerate as
    `apo_soup/cli/launch.py` starts it.
    """
    if words[:2] == ["accelerate", "launch"]:
        return [sys.executable, "-m", "apo_soup.cli.launch", *words[2:]]
    return [sys.executable, *words[1:]]
