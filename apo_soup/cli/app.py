"""The console script: `apo-soup COMMAND`, which is `python -m apo_soup COMMAND`.

A command's own work is imported when it is asked for, so that help and mistakes are told in a fraction of a second.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from apo_soup.cli.command_line import Commands, Program, Stopped, option_names
from apo_soup.cli.named_model import named_model, recipe_of
from apo_soup.cli.options import OVERRIDES, Config, Launch, RecipeFolder, StageArguments, Version
from apo_soup.config.command_line import STATE_HELP, STATE_JSON_HELP, AskedState
from apo_soup.errors import UserError, run_main
from apo_soup.resources import launch_file, recipe_folder
from apo_soup.streams import let_words_be_lost

app = Program(cls=Commands, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    # As `python -m apo_soup` does, so that a verifier beside the caller is found; last, so that it shadows nothing.
    sys.path.append(str(Path.cwd()))
    run_main(exit_code)


def exit_code() -> int:
    """Run the command that the command line names; returns its exit code.

    Raises:
        UserError: a command, an option or an argument is unknown or missing.
        KeyboardInterrupt: it was interrupted.
        BrokenPipeError: the reader of its output is gone.
    """
    try:
        return app(prog_name="apo-soup", standalone_mode=False) or 0
    except Stopped as stopped:
        raise stopped.cause from None


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, version: Version = False) -> None:
    """SmolLM3-style post-training from one folder of YAML: base -> mid -> sft -> apo -> soup -> merged."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="folder of the new recipe, whose last part is its name")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="base model: a folder, or an id of the Hub")] = "",
    data: Annotated[str, typer.Option(metavar="FILE", help="conversations or texts to train on")] = "",
    pairs: Annotated[str, typer.Option(metavar="FILE", help="preference pairs")] = "",
    prompts: Annotated[str, typer.Option(metavar="FILE", help="prompts of which pairs are made")] = "",
    size: Annotated[
        str | None,
        typer.Option(metavar="laptop|gpu|node|cluster", help="machine it is written for; gpu without it"),
    ] = None,
    adapter: Annotated[
        list[bool] | None, typer.Option("--lora/--qlora", help="train an adapter; --qlora: on a base of 4 bits")
    ] = None,
    from_file: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="a configuration of axolotl, LLaMA-Factory or ms-swift")
    ] = None,
) -> None:
    """Write a recipe of your model and rows, which passes check; or of another project's configuration."""
    from apo_soup.cli.new import convert, make_recipe
    from apo_soup.scaffold.new_recipe import RecipeRequest

    ways = sorted({"lora" if one else "qlora" for one in adapter or ()})
    if len(ways) > 1:
        raise UserError("--lora: expected one of --lora and --qlora, got both; leave one out")
    way = "".join(ways)
    if from_file is not None:
        convert(name, from_file, [one for one in (model, data, pairs, prompts, way, size) if one])
        return
    make_recipe(RecipeRequest(name, model, data, pairs, prompts, "gpu" if size is None else size, way))


@app.command()
def check(recipe: RecipeFolder, launch: Launch = "") -> None:
    """Find every error in a recipe's files at once, and with --launch what does not fit its processes."""
    from apo_soup.cli.new import print_check

    print_check(recipe, launch_file(launch) if launch else None, alone=True)


@app.command()
def plan(
    recipe: RecipeFolder,
    launch: Launch = "",
    gpu: Annotated[str, typer.Option(metavar="NAME", help="GPU whose speed is assumed, such as a100 or 4090")] = "h100",
    price: Annotated[float | None, typer.Option(metavar="X", min=0, help="price of a GPU and hour")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="run three steps of each training here")] = False,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="estimate from N rows of each training, and prepare no more")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Say what each training will be: rows, tokens, steps, memory, disk, time. Prepares the rows, which a run uses."""
    from apo_soup.cli.plan import Devices, print_plan

    print_plan(recipe, Devices(launch, gpu, price, measure, sample), as_json)


@app.command()
def why(
    recipe: RecipeFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="read every file of the stages, and compare it with its manifest's hash")
    ] = False,
) -> int:
    """Say which stages are stale, and what changed."""
    from apo_soup.cli.order import print_states

    return print_states(recipe, verify)


@app.command()
def clean(
    recipe: RecipeFolder,
    yes: Annotated[bool, typer.Option("--yes", help="remove what is listed")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="also what a stage goes on with, as checkpoints, and members that no file names"),
    ] = False,
) -> None:
    """List what a run's folder holds that nothing needs, or what can be made again; with --yes, remove it."""
    from apo_soup.cli.clean import clean_run

    raise typer.Exit(clean_run(recipe, yes, everything))


@app.command(context_settings=OVERRIDES)
def preview(
    context: typer.Context,
    config: Config,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="rows shown of each source")] = 3,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write them as a page that stands alone, and print none")
    ] = None,
) -> None:
    """Show rows as the model will see them, trained tokens coloured; of a pairs or traces file, what it made."""
    from apo_soup.cli.rows import preview_rows

    preview_rows(config, rows, context.args, option_names(context), html)


@app.command(context_settings=OVERRIDES)
def prepare(
    context: typer.Context,
    config: Config,
    shard: Annotated[str, typer.Option(metavar="K/N", help="encode part K of N of the rows alone")] = "",
    join: Annotated[bool, typer.Option("--join", help="make the whole of the shards")] = False,
    on: Annotated[str, typer.Option(metavar="local|slurm", help="make and join shards as tasks of datatrove")] = "",
    tasks: Annotated[int, typer.Option(metavar="N", min=1, help="with --on: how many shards")] = 2,
    workers: Annotated[int, typer.Option(metavar="N", min=0, help="with --on: how many run at once; 0: all")] = 0,
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="with --on slurm: partition, time, ...; repeatable")
    ] = None,
) -> None:
    """Write the training sequences of a mid, sft or apo file, and a table of what is in them."""
    from apo_soup.cli.rows import WayToPrepare, prepare_rows

    way = WayToPrepare.of(shard, join, on, tasks, workers, slurm or [])
    prepare_rows(config, context.args, way, option_names(context))


@app.command()
def submit(
    words: Annotated[list[str], typer.Argument(metavar="[STAGE] RECIPE", help="a stage, and the recipe's folder")],
    args: StageArguments = "",
    send: Annotated[bool, typer.Option("--send", help="queue the jobs, in place of printing the commands")] = False,
) -> int:
    """Print the Slurm jobs of what is missing or stale, each behind those that it needs; with --send, queue them."""
    from apo_soup.cli.submit import submit_chain

    name, recipe = stage_and_recipe("submit", words)
    if send:
        let_words_be_lost()
    return submit_chain(name, recipe, split_args(args), send)


@app.command()
def run(
    words: Annotated[list[str], typer.Argument(metavar="[STAGE] RECIPE", help="a stage, and the recipe's folder")],
    launch: Launch = "",
    args: StageArguments = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="print warnings and a line a finished stage alone")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print an object a stage; all else to stderr")] = False,
) -> None:
    """Run a stage, or all up to the evaluation, and whatever it needs that is missing or stale."""
    name, recipe = stage_and_recipe("run", words)
    start(name, recipe, launch, args, "json" if as_json else "quiet" if quiet else "all")


def stage_and_recipe(command: str, words: list[str]) -> tuple[str, Path]:
    """What the words `[STAGE] RECIPE` of a command name.

    Raises:
        UserError: there are others, or no such stage or recipe.
    """
    from apo_soup.cli.steps import STEPS

    *stage, recipe = words
    name = stage[0] if stage else "eval"
    told = f"{command} {shlex.join(words)}"
    if len(stage) > 1:
        raise UserError(f"{told}: expected [STAGE] RECIPE, got {len(words)} words; quote a path that holds spaces")
    if name not in STEPS:
        raise UserError(f"{told}: expected a stage of {', '.join(STEPS)}, got {name}; correct it")
    return name, recipe_folder(recipe)


@app.command()
def sweep(recipe: RecipeFolder, launch: Launch = "", args: StageArguments = "") -> None:
    """Walk the training keys of a recipe's sweep.yaml, or its merge weight, and say what the scores support."""
    start("settings" if (recipe / "sweep.yaml").is_file() else "sweep", recipe, launch, args)


def start(stage: str, recipe: Path, launch: str, args: str, output: Literal["all", "quiet", "json"] = "all") -> None:
    """Run a stage and what it needs, then leave with its exit code.

    Raises:
        UserError: `args` are no words as a shell reads them; or as `run_stages` does.
        typer.Exit: always, with that code.
    """
    from apo_soup.cli.order import run_stages
    from apo_soup.cli.run_output import RunOutput

    file, words = str(launch_file(launch)) if launch else None, split_args(args)
    raise typer.Exit(run_stages(stage, recipe, file, words, RunOutput(output)))


def split_args(args: str) -> list[str]:
    """The words of an option that holds several.

    Raises:
        UserError: they are none as a shell reads them.
    """
    try:
        return shlex.split(args)
    except ValueError as error:
        raise UserError(
            f"--args {args}: expected words as a shell reads them, got {error}; close the quotation"
        ) from error


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
    state: Annotated[bool, typer.Option("--state", help=STATE_HELP)] = False,
    state_json: Annotated[bool, typer.Option("--state-json", help=STATE_JSON_HELP)] = False,
) -> None:
    """Run a suite of tasks on checkpoints."""
    from apo_soup.evals.program import EvalRequest, run_suite

    asked: AskedState = "json" if state_json else "sentence" if state else ""
    request = EvalRequest(model or None, tuple(only), tuple(mix), tuple(task), asked)
    raise typer.Exit(run_suite(config, request, context.args, option_names(context)))


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
    from apo_soup.evals.compare import compare_results

    raise typer.Exit(compare_results(first, second, metric, fail_below))


@app.command()
def report(
    recipe: RecipeFolder,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the stage table and the verdicts as JSON in place of text")
    ] = False,
) -> None:
    """Write one self-contained report.html of a run, and print the stage table."""
    from apo_soup.report.page import read_reported, verdicts_and_table, write_report
    from apo_soup.runs.card import rewrite_card
    from apo_soup.runs.results import run_folder, summary

    started = time.monotonic()
    folder = run_folder(recipe)
    run = read_reported(recipe, folder)
    path = write_report(recipe, run)
    for name in ("soup", "merged"):
        rewrite_card(folder, name, run.checkpoints)
    if as_json:
        print(verdicts_and_table(recipe, run))
        return
    print(summary(run.checkpoints))
    print(f"\nreport: {path.resolve()} ({time.monotonic() - started:.1f} s)")


@app.command()
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="model folder, id of the Hub, or recipe")],
    stage: Annotated[str, typer.Option(metavar="NAME", help="model of the recipe, such as apo/1; else its last")] = "",
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens", "--max-new-tokens", min=1)] = 512,
    greedy: Annotated[bool, typer.Option("--greedy", help="always take the likeliest token")] = False,
) -> None:
    """Talk to a model in the terminal."""
    from apo_soup.evals.chat import converse
    from apo_soup.runs.sources import model_folder

    named, template, trusted = named_model(model, stage)
    model_folder(named, "MODEL")
    converse(named, template, max_new_tokens, greedy, trusted)


@app.command()
def ui(
    recipe: RecipeFolder,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="address it is bound to")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="port; 0: any that is free")] = 7860,
    token: Annotated[bool, typer.Option("--token", help="ask for a token on this machine too")] = False,
    allow_host: Annotated[
        list[str], typer.Option("--allow-host", metavar="NAME", help="a name by which a proxy asks for it; repeatable")
    ] = [],  # noqa: B006
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="/PATH", help="path that a proxy leaves before ours")
    ] = "",
) -> None:
    """Serve a page with a recipe's stages, rows and curves, and a chat with two models side by side."""
    from apo_soup.cli.ui import serve_ui

    serve_ui(recipe, host, port, allow_host, token, root_path)


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="model folder, or recipe")],
    kind: Annotated[
        str, typer.Argument(metavar="[f16|q8_0|q4_k_m]", help="bits of a weight: 16, 8 or under 5; q8_0 without it")
    ] = "q8_0",
    gguf: Annotated[bool, typer.Option("--gguf", help="a file for llama.cpp; needs the extra gguf")] = False,
    ollama: Annotated[bool, typer.Option("--ollama", help="and a Modelfile for Ollama")] = False,
    stage: Annotated[str, typer.Option(metavar="NAME", help="model of the recipe, such as apo/1; else its last")] = "",
) -> None:
    """Write a model as a file for llama.cpp and Ollama, and compare it with the model."""
    from apo_soup.export.program import export_model
    from apo_soup.export.request import ExportRequest

    if not gguf:
        raise UserError("apo-soup export: expected --gguf, the one format there is, got none; add it")
    named, template, trusted = named_model(model, stage)
    export_model(ExportRequest(named, kind, ollama, template, trusted))


@app.command()
def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="model folder of a run, or recipe")],
    repo: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="repository of the Hub; made if it is not there")
    ] = "",
    stage: Annotated[str, typer.Option(metavar="NAME", help="model of the recipe to send; else its last")] = "",
    private: Annotated[bool, typer.Option("--private", help="make the repository a private one")] = False,
) -> None:
    """Send a run's model and report to the Hub, or say what would be sent."""
    from apo_soup.config.load import load
    from apo_soup.evals.models_to_evaluate import last_model
    from apo_soup.report.push import push_model as send
    from apo_soup.runs.results import run_folder

    recipe = recipe_of(model)
    folder, name = Path(model).parent, Path(model).name
    if recipe:
        folder, name = run_folder(recipe), stage or last_model(load(recipe / "eval.yaml", "eval"))
    raise typer.Exit(send(folder, name, repo or None, private))
