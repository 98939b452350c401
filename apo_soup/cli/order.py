"""Run a recipe's stages in order: `apo-soup run [STAGE] RECIPE`.

Make knows the targets, this knows the order, and each stage's program knows whether it is stale. A stage that is up
to date costs one short Python start and no training launcher.
"""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from apo_soup.cli.ask_state import StateAnswer, ask_state, in_sentences
from apo_soup.cli.reads import steps_needed, steps_read
from apo_soup.cli.remembered import changed_parts, parts_made_otherwise, words_for_parts
from apo_soup.cli.run_output import RunOutput
from apo_soup.cli.shadowed import require_our_module
from apo_soup.cli.steps import STEPS, executable, keys_of_file, launch_command, order
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_together
from apo_soup.plan.check import checked_file, launch_problems
from apo_soup.progress import warning
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.secrets import without_secrets
from apo_soup.runs.state import StepState


def run_stages(
    stage: str,
    recipe: Path,
    launch: str | None,
    words: list[str],
    output: RunOutput = RunOutput(),  # noqa: B008
) -> int:
    """Run what is missing or stale up to `stage`. Returns an exit code.

    `words` are overrides for `stage` itself, and for this command. A folder of a stage before it that was made with
    some stays as it is, with a line that says so.

    Raises:
        UserError: the stage's file is not there or wrong, or that of a stage before it; or another file is found in
            the place of a program.
    """
    if not (recipe / STEPS[stage].file).is_file():
        raise UserError(
            f"{recipe}: expected a file {STEPS[stage].file} for the {stage} stage, got none; "
            "add it, or run another stage"
        )
    todo = order(stage)
    require_our_programs(recipe, todo)
    require_right_files(recipe, todo, stage, words, launch)
    needed = steps_needed(recipe, stage, words)
    for name in todo:
        step = STEPS[name]
        if not (recipe / step.file).is_file() or (name != stage and not is_asked_for(recipe, name)):
            continue
        if name not in needed:
            own_run = f"apo-soup run {name} {shlex.quote(str(recipe))}"
            output.say(f"{name}: not read for {stage}, skipped; `{own_run}` makes it for itself")
            output.ended(name, [], "skipped")
            continue
        with output.failure_told(name):
            own = words if name == stage else []
            started, state = time.monotonic(), ask_state(step, recipe, own)
            if state.code == 0:
                output.say(in_sentences(state.said))
                output.ended(name, state.states)
                continue
            if state.refused:
                output.say(in_sentences(state.said), warning=True)
                print(state.errors, end="", file=sys.stderr, flush=True)
                output.ended(name, state.states, code=state.code)
                return state.code
            if name != stage:
                kept, due = made_otherwise(recipe, name, state)
                for line in kept:
                    output.say(warning(f"{line}; {stage} builds on what is there"))
                if kept and not due:
                    output.ended(name, state.states, "kept")
                    continue
                own = words_for_parts(step, due) if kept else []
            words_of_step = launch_command(step, recipe, launch, own)
            output.say(f"$ {shlex.join(without_secrets(words_of_step))}")
            code = output.run(executable(words_of_step), name)
            output.ended(name, state.states, code=code, seconds=time.monotonic() - started)
            if code:
                return code
    following = next_step(stage, recipe, launch)
    if following:
        output.say(f"next: {following}")
    return 0


def next_step(stage: str, recipe: Path, launch: str | None = None) -> str:
    """What to type behind a run up to a stage; nothing where the recipe's files ask for no more."""
    if stage == "eval":
        return f"apo-soup report {shlex.quote(str(recipe))}"
    if stage in ("data", "sweep", "settings") or not (recipe / STEPS["eval"].file).is_file():
        return ""
    launched = f" --launch {shlex.quote(launch)}" if launch else ""
    return f"apo-soup run {shlex.quote(str(recipe))}{launched}"


def made_otherwise(
    recipe: Path, name: str, answer: StateAnswer, by_content: bool = False
) -> tuple[list[str], list[str]]:
    """See `parts_made_otherwise`; `answer` is that of the step's program.

    Raises:
        UserError: the step's file is wrong.
    """

    def current(remembered: list[str]) -> set[str]:
        states = ask_state(STEPS[name], recipe, remembered).states
        return {state.stage for state in states if state.reason is None}

    return parts_made_otherwise(recipe, name, answer.due, current, by_content)


def is_asked_for(recipe: Path, name: str) -> bool:
    """Whether a recipe's file asks for a step: a merge file may leave soup, merge or sweep out. A wrong file, which is
    told of elsewhere, may ask for it.
    """
    if name not in ("soup", "merge", "sweep"):
        return True
    try:
        return load(recipe / STEPS[name].file, "merge").gives(name)
    except UserError:
        return True


def _is_read(recipe: Path, need: str, name: str) -> bool:
    """Whether a step reads another; where their files are wrong, which is told elsewhere, it may."""
    if not (recipe / STEPS[name].file).is_file():
        return False
    try:
        return need in steps_read(recipe, name, [])
    except UserError:
        return True


def require_our_programs(recipe: Path, stages: list[str]) -> None:
    """Look, before the first of these stages runs for hours, whether the programs of all that the recipe has are ours.

    Raises:
        UserError: another file is found in the place of one.
    """
    for step in (STEPS[name] for name in stages):
        if (recipe / step.file).is_file():
            require_our_module(step.module)


def require_right_files(recipe: Path, stages: list[str], last: str, words: list[str], launch: str | None) -> None:
    """Look, before the first of these stages runs for hours, whether the files of all are right, and what `words` lay
    over that of the last; and whether the processes of the accelerate configuration `launch` divide the batches of
    trainings that are still to come.

    Raises:
        UserError: with everything that is wrong with them.
    """
    problems: list[str] = []
    over = keys_of_file(STEPS[last], words)
    files = [(recipe / STEPS[stage].file, over if stage == last else []) for stage in stages]
    laid_over = {file: own for file, own in files if own}
    for file in dict.fromkeys(file for file, _ in files):
        if file.is_file():
            own = laid_over.get(file, [])
            right, wrong = checked_file(file, stage_of_file(file) or "", own, STEPS[last].flags if own else ())
            problems += wrong
            if (
                launch
                and isinstance(right, TrainingFile)
                and not all(folder.exists() for folder in output_folders(right).values())
            ):
                problems += launch_problems(right, Path(launch))
    if problems:
        raise told_together(list(dict.fromkeys(problems)))


def print_states(recipe: Path, by_content: bool = False) -> int:
    """Print of every stage of a recipe whether it is up to date, or what changed; returns the exit code.

    Args:
        by_content: every file of the folders is read, and compared with the hash that its manifest has.

    Raises:
        UserError: it has no stage's file, or another file is found in the place of a stage's program.
    """
    code = 0
    for state in states_of_steps(recipe, by_content):
        for line in state.lines:
            print(line, flush=True)
        print(state.errors, end="", file=sys.stderr)
        code = state.code or code
    return code


def states_of_steps(recipe: Path, by_content: bool = False) -> Iterator[StepState]:
    """What each step of a recipe says of its folders, one after another as they are asked; `by_content` as above.

    Raises:
        UserError: it has no stage's file, or another file is found in the place of a stage's program.
    """
    if not any((recipe / step.file).is_file() for step in STEPS.values()):
        files = ", ".join(dict.fromkeys(step.file for step in STEPS.values()))
        raise UserError(f"{recipe}: expected at least one of {files}, got none; name a recipe's folder")
    require_our_programs(recipe, list(STEPS))
    stale: list[str] = []
    for name, step in STEPS.items():
        if not (recipe / step.file).is_file() or not is_asked_for(recipe, name):
            continue
        if name == "pairs" and not _is_read(recipe, name, "apo"):
            yield StepState(name, [f"pairs: not read by {recipe / STEPS['apo'].file}"])
            continue
        stale_needs = [need for need in order(name) if need in stale and _is_read(recipe, need, name)]
        if stale_needs:
            stale.append(name)
            yield StepState(name, [f"{name}: waits for {stale_needs[0]}"], stale=True)
            continue
        state = ask_state(step, recipe, [])
        if by_content:
            state = replace(state, said=changed_parts(state.said))
        kept, due = made_otherwise(recipe, name, state, by_content) if state.due else ([], [])
        later = "the report shows" if name == "eval" else "later stages build on"
        held = {one.stage for one in state.due} - {*due} if kept else set()
        told = [line for line in state.said if isinstance(line, str) or line.stage not in held]
        lines = [*(f"warning: {line}; {later} what is there" for line in kept), *in_sentences(told).splitlines()]
        is_stale = bool((state.code or state.due) and (due or not kept))
        if is_stale:
            stale.append(name)
        yield StepState(name, lines, state.errors, state.code if state.refused else 0, is_stale)
