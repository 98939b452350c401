"""`python -m merge --config FILE [--only soup|merged] [--verify]`: see merge/run.py."""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

from apo_soup.config.merge import MergeFile
from apo_soup.errors import UserError
from apo_soup.progress import clock, say, tell
from apo_soup.runs.entry import alone_on, report_state, stage_program
from apo_soup.runs.lineage import model_label
from apo_soup.runs.put_in_place import hidden_sibling
from merge.load_process import LoadProcess
from merge.mergekit_names import named_models
from merge.plan import MergePlan, merge_plan

ONLY_FLAG = ("--only", {"choices": ("soup", "merged"), "help": "make only this folder"})
VERIFY_FLAG = (
    "--verify",
    {"action": "store_true", "help": "compare every tensor with the float64 average (linear merges)"},
)


def run_merge_file(recipe: MergeFile, options: argparse.Namespace) -> int:
    """Make the soup and the merge that a file asks for, where they are missing or stale; returns the exit code.

    Raises:
        UserError: `--only soup` is given and the file has none; or as the merge does.
    """
    if options.only == "soup" and recipe.soup is None:
        raise UserError(f"{recipe.place('soup')}: expected the key for --only soup, got nothing; add it")
    with LoadProcess() as loads:
        return _run_folders(recipe, options, loads)


def _run_folders(recipe: MergeFile, options: argparse.Namespace, loads: LoadProcess) -> int:
    """The soup and the merge, one behind the other; returns the exit code."""
    code = 0
    for name in ("soup", "merged"):
        if options.only not in (None, name) or (name == "soup" and recipe.soup is None):
            continue
        if name == "soup" and recipe.one_pass:
            say("soup: not written, its members go straight into the merge (one_pass: true)")
            continue
        with alone_on(recipe, {name: Path(recipe.output_dir) / name}, options.state):
            code = max(code, _make_folder(recipe, name, options, loads))
        if code and options.state:
            break
    return code


def _make_folder(recipe: MergeFile, name: str, options: argparse.Namespace, loads: LoadProcess) -> int:
    """Make `soup` or `merged` unless it is up to date; returns the exit code."""
    plan = merge_plan(recipe, name, ask=not options.state)
    if options.verify and plan.config.merge_method != "linear":
        raise UserError(
            f"{plan.where}.merge_method: expected linear for --verify, got {plan.config.merge_method}; "
            "leave --verify out"
        )
    todo, code = report_state(recipe, [plan.stage], options.state)
    if todo and options.state:
        return code
    if todo:
        if plan.config.merge_method == "linear":
            # For all other methods mergekit imports transformers in this process.
            first, _, _ = next(iter(named_models(plan.config))).partition("+")
            loads.start(Path(first))
        from merge.run import run_merge_stage

        models = ", ".join(model_label(model, Path()) for model in named_models(plan.config))
        say(f"{name}: {plan.config.merge_method} of {models} into {plan.stage.folder}")
        started = time.monotonic()
        run_merge_stage(plan, recipe, loads)
        tell(f"{plan.stage.name}: {plan.stage.folder} written, {clock(time.monotonic() - started)}")
    if options.verify:
        _verify(plan)
    return code


def _verify(plan: MergePlan) -> None:
    """Compare a written folder with the float64 average; raises UserError where it is off."""
    from merge.average import plain_linear
    from merge.hub import with_snapshots
    from merge.own_heads import with_own_heads
    from merge.verify import verify_average

    linear = plan.linear or plain_linear(with_snapshots(plan.config, plan.where))
    if linear is None:
        raise UserError(
            f"{plan.where}: expected a plain linear average of whole models for --verify, got another merge; "
            "leave --verify out"
        )
    scratch = hidden_sibling(plan.stage.folder, "verify")
    try:
        made = with_own_heads(list(linear.folders), scratch, plan.where)
        linear = replace(linear, folders=tuple(made.get(folder, folder) for folder in linear.folders))
        verify_average(linear, plan.stage.folder, plan.where)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    about = "Average the APO members, then mix in the mid checkpoint."
    stage_program("merge", MergeFile, about, run_merge_file, ONLY_FLAG, VERIFY_FLAG)
