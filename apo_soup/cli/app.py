"""The console script: `apo-soup COMMAND`, which is `python -m apo_soup COMMAND`.

A command's own work is imported when it is asked for, so that help and mistakes are told in a fraction of a second.
"""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from apo_soup.errors import UserError, run_main

app = typer.Typer(
    name="apo-soup",
    help="SmolLM3-style post-training from one folder of YAML: base -> mid -> sft -> apo -> soup -> merged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What is left of the command line are `--key value` words that are laid over the file.
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="stage file, such as recipes/tiny/sft.yaml")]
RecipeFolder = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe folder, such as recipes/tiny")]


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    run_main(app)


@app.command()
def check(recipe: RecipeFolder) -> None:
    """Tell every error in a recipe's files at once."""
    from apo_soup.plan.check import check_recipe, describe

    recipes, problems = check_recipe(recipe)
    for one in recipes:
        for note in one.notes:
            print(f"note: {note}")
    if problems:
        raise UserError("\n       ".join(problems))
    print(describe(recipes))
    print(f"{recipe}: {len(recipes)} files checked, no error")


@app.command()
def why(recipe: RecipeFolder) -> None:
    """Tell which stages are stale, and what changed."""
    from apo_soup.cli.order import tell_why

    tell_why(recipe)


@app.command(context_settings=OVERRIDES)
def preview(
    context: typer.Context,
    config: Config,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="rows shown of each source")] = 3,
) -> None:
    """Show rows as the model will see them, trained tokens coloured; of a pairs file, the pairs it made."""
    from apo_soup.cli.rows import preview_rows

    preview_rows(config, rows, context.args)


@app.command(context_settings=OVERRIDES)
def prepare(context: typer.Context, config: Config) -> None:
    """Write the training sequences of a mid, sft or apo file, and a table of what is in them."""
    from apo_soup.cli.rows import prepare_rows

    prepare_rows(config, context.args)


@app.command()
def run(
    words: Annotated[list[str], typer.Argument(metavar="[STAGE] RECIPE", help="a stage, and the recipe's folder")],
    launch: Annotated[str, typer.Option(metavar="FILE", help="accelerate configuration for the training stages")] = "",
    args: Annotated[str, typer.Option(metavar="'--key value'", help="overrides for this stage")] = "",
) -> None:
    """Run a stage, or all up to the evaluation, and whatever it needs that is missing or stale."""
    from apo_soup.cli.order import STEPS, run_stages

    *stage, recipe = words
    name = stage[0] if stage else "eval"
    if len(stage) > 1 or name not in STEPS:
        raise UserError(f"run {' '.join(words)}: expected [STAGE] RECIPE with a stage of {', '.join(STEPS)}")
    if launch and not Path(launch).is_file():
        raise UserError(f"LAUNCH={launch}: no such file; accelerate configurations lie in recipes/accelerate/")
    raise typer.Exit(run_stages(name, Path(recipe), launch or None, shlex.split(args)))


@app.command("eval", context_settings=OVERRIDES)
def evaluate(
    context: typer.Context,
    config: Config,
    model: Annotated[str, typer.Option(metavar="DIR", help="this folder in place of the models of the file")] = "",
    only: Annotated[list[str], typer.Option(metavar="NAME", help="only this model of the file")] = [],  # noqa: B006
    mix: Annotated[
        list[str], typer.Option(metavar="NAME:DIR=W,DIR=W", help="a weighted average of models, made in memory")
    ] = [],  # noqa: B006
    task: Annotated[list[str], typer.Option(metavar="NAME", help="only this task of the suite")] = [],  # noqa: B006
    state: Annotated[
        bool, typer.Option("--state", help="only say whether all is up to date (exit 0) or not (3)")
    ] = False,
) -> None:
    """Run a suite of tasks on checkpoints."""
    from apo_soup.evals.program import Asked, run_suite

    asked = Asked(model or None, tuple(only), tuple(mix), tuple(task), state)
    raise typer.Exit(run_suite(config, asked, context.args))


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="folder or results.json of the model before")],
    second: Annotated[Path, typer.Argument(metavar="B", help="folder or results.json of the model after")],
    metric: Annotated[
        list[str], typer.Option(metavar="NAME", help="only this metric (default: the headline ones)")
    ] = [],  # noqa: B006
    fail_below: Annotated[
        float | None,
        typer.Option(metavar="X", help="exit with 1 when a score fell below X beyond noise, such as -0.02"),
    ] = None,
) -> None:
    """Compare two evaluations item by item."""
    from apo_soup.evals.compare import compare as compare_results

    raise typer.Exit(compare_results(first, second, metric, fail_below))


@app.command()
def report(recipe: RecipeFolder) -> None:
    """Write one self-contained report.html of a run, and print the stage table."""
    from apo_soup.report.sections import write_report
    from apo_soup.runs.card import rewrite_card
    from apo_soup.runs.results import run_folder, summary

    started = time.monotonic()
    folder = run_folder(recipe)
    path = write_report(recipe, folder)
    for name in ("soup", "merged"):
        rewrite_card(folder, name)
    print(summary(folder))
    print(f"\nreport: {path.resolve()} ({time.monotonic() - started:.1f} s)")


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="model folder, Hub id, or recipe folder")],
    stage: Annotated[str, typer.Option(metavar="NAME", help="model of the recipe, such as apo/1")] = "merged",
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens", "--max-new-tokens", min=1)] = 512,
    greedy: Annotated[bool, typer.Option("--greedy", help="always take the likeliest token")] = False,
) -> None:
    """Talk to a model in the terminal."""
    from apo_soup.evals.chat import of_recipe, talk
    from apo_soup.runs.inputs import model_folder

    named, template = of_recipe(Path(model), stage) if (Path(model) / "eval.yaml").is_file() else (model, None)
    model_folder(named, "MODEL")
    talk(named, template, max_new_tokens, greedy)


@app.command()
def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="recipe folder, or a stage's folder")],
    repo: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="repository of the Hub; made if it is not there")
    ] = "",
    stage: Annotated[str, typer.Option(metavar="NAME", help="folder of the recipe's run to send")] = "merged",
    private: Annotated[bool, typer.Option("--private", help="make the repository a private one")] = False,
) -> None:
    """Send a run's model and report to the Hub, or say what would be sent."""
    from apo_soup.report.push import push as send
    from apo_soup.runs.results import run_folder

    is_recipe = (model / "eval.yaml").is_file()
    folder, name = (run_folder(model), stage) if is_recipe else (model.parent, model.name)
    raise typer.Exit(send(folder, name, repo or None, private))
