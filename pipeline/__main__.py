"""`python -m pipeline check|why|run|report|table|push RECIPE_DIR`."""

import argparse
import shlex
import subprocess
import time
from pathlib import Path

from pipeline.errors import UserError, run_main
from pipeline.run import STEPS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Work on a whole recipe.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (
        ("check", "tell every error in a recipe's files at once"),
        ("why", "tell which stages are stale, and what changed"),
        ("report", "write one self-contained report.html of a run"),
        ("table", "print the stage table of a run"),
    ):
        verbs.add_parser(name, help=text).add_argument("recipe", type=Path, metavar="RECIPE_DIR")
    pusher = verbs.add_parser("push", help="send a run's model and report to the Hub, or say what would be sent")
    pusher.add_argument("recipe", type=Path, metavar="RECIPE_DIR")
    pusher.add_argument("--repo", metavar="OWNER/NAME", help="repository of the Hub; it is made if it is not there")
    pusher.add_argument("--stage", default="merged", metavar="NAME", help="folder of the run to send (merged)")
    pusher.add_argument("--private", action="store_true", help="make the repository a private one")
    runner = verbs.add_parser("run", help="run a stage and whatever it needs that is missing or stale")
    runner.add_argument("stage", choices=tuple(STEPS))
    runner.add_argument("recipe", type=Path, metavar="RECIPE_DIR")
    runner.add_argument("--launch", metavar="FILE", help="accelerate configuration for the training stages")
    runner.add_argument("--args", default="", metavar="'--key value'", help="overrides for this stage")
    options = parser.parse_args()
    return globals()[f"_{options.verb}"](options)


def _check(options: argparse.Namespace) -> int:
    from pipeline.check import check_recipe, describe

    recipes, problems = check_recipe(options.recipe)
    for recipe in recipes:
        for note in recipe.notes:
            print(f"note: {note}")
    if problems:
        raise UserError("\n       ".join(problems))
    print(describe(recipes))
    print(f"{options.recipe}: {len(recipes)} files checked, no error")
    return 0


def _why(options: argparse.Namespace) -> int:
    from pipeline.run import arguments_file, executable, order, program_words, remembered

    if not options.recipe.is_dir():
        raise UserError(f"{options.recipe}: no such recipe folder")
    stale: list[str] = []
    for name, step in STEPS.items():
        if not (options.recipe / step.file).is_file():
            continue
        waits = [need for need in order(name) if need in stale]
        if waits:
            print(f"{name}: waits for {waits[0]}")
            stale.append(name)
            continue
        words = [*remembered(arguments_file(options.recipe, step), name), "--state"]
        asked = subprocess.run(
            executable(["python", *program_words(step, options.recipe, words)]), capture_output=True, text=True
        )
        print((asked.stdout or asked.stderr).rstrip())
        if asked.returncode:
            stale.append(name)
    return 0


def _run(options: argparse.Namespace) -> int:
    from pipeline.run import run

    launch = options.launch or None
    if launch and not Path(launch).is_file():
        raise UserError(f"LAUNCH={launch}: no such file; accelerate configurations lie in recipes/accelerate/")
    return run(options.stage, options.recipe, launch, shlex.split(options.args))


def _table(options: argparse.Namespace) -> int:
    from pipeline.table import run_folder, summary

    print(summary(run_folder(options.recipe)))
    return 0


def _push(options: argparse.Namespace) -> int:
    from pipeline.push import push
    from pipeline.table import run_folder

    return push(run_folder(options.recipe), options.stage, options.repo, options.private)


def _report(options: argparse.Namespace) -> int:
    from pipeline.card import rewrite_card
    from pipeline.report import write_report
    from pipeline.table import run_folder, summary

    started = time.monotonic()
    run = run_folder(options.recipe)
    path = write_report(options.recipe, run)
    for name in ("soup", "merged"):
        rewrite_card(run, name)
    print(summary(run))
    print(f"\nreport: {path.resolve()} ({time.monotonic() - started:.1f} s)")
    return 0


run_main(main)
