"""What `apo-soup eval --config FILE [--model DIR | --only NAME ...]` does: see apo_soup/apo_soup/evals/run.py."""

import json
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.recipe import load
from apo_soup.errors import UserError
from apo_soup.evals.suite import expand_models, keep_tasks, parse_mix, read_tasks, suite_settings
from apo_soup.hashing import hash_value
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import report_state
from apo_soup.runs.inputs import model_hash, suite_inputs
from apo_soup.runs.stage import Stage, write_json


@dataclass(frozen=True)
class Asked:
    """Which models and tasks of a suite are asked for on the command line, and whether only their state is."""

    model: str | None = None
    only: tuple[str, ...] = ()
    mix: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    state: bool = False


def run_suite(config: Path, options: Asked, overrides: list[str]) -> int:
    """Evaluate what is not up to date; returns the exit code."""
    recipe = load(config, "eval", overrides)
    for one, other in (("model", "mix"), ("model", "only"), ("mix", "only")):
        if getattr(options, one) and getattr(options, other):
            raise UserError(f"--{one} and --{other} both say which models are evaluated; give one of them")
    asked_tasks = [t.get("name") for t in recipe.need("tasks") if isinstance(t, dict)]
    keep_tasks(recipe, options.task)
    mixes = {}
    # A model or a mix named on the command line needs no list of models in the file.
    listed = not (options.mix or options.model) or "models" in recipe.values
    models = expand_models(recipe, options.only) if listed else {}
    if options.model:
        folder = Path(options.model).resolve()
        known = {f.resolve(): name for name, f in models.items()}
        models = {known.get(folder, f"{folder.parent.name}-{folder.name}"): folder}
    if options.mix:
        mixes = {f"mix/{m.name}": m for m in map(parse_mix, options.mix)}
        models = {name: mix.parts[0][0] for name, mix in mixes.items()}
    if not models:
        raise UserError(f"{recipe.where('models')}: there is no model to evaluate; name them under models, or --model")
    read_tasks(recipe)
    asked = suite_inputs(recipe)
    stages = {}
    for name, folder in models.items():
        where = recipe.where(f"models.{name}")
        target = Path(recipe.need("output_dir")) / name.removeprefix("mix/").replace("/", "-")
        if name in mixes:
            model = hash_value([[model_hash(str(f), where), w] for f, w in mixes[name].parts])
        else:
            model = model_hash(str(folder), where)
        inputs = {"model": model, **asked}
        if options.task and "output_dir" not in overrides:
            keep_whole(target, set(asked_tasks), set(options.task))
        stages[f"evals/{name}"] = (Stage(f"evals/{name}", target, suite_settings(recipe), inputs), folder)
    todo, code = report_state([stage for stage, _ in stages.values()], options.state)
    if todo and not options.state:
        quiet_libraries()
        from apo_soup.evals.mix import Mixer
        from apo_soup.evals.run import evaluate

        mixer = Mixer(str(recipe.path))
        for stage in todo:
            final = stage.begin() / "final"
            final.mkdir(exist_ok=True)
            mix = mixes.get(stage.name.removeprefix("evals/"))
            results = evaluate(recipe, stages[stage.name][1], mixer.at(mix) if mix else None)
            suite = {k: v for k, v in stage.inputs.items() if k != "model"}
            about = {"name": stage.name.removeprefix("evals/"), "model": str(stages[stage.name][1])}
            about |= {"model_hash": stage.inputs["model"], "suite_hash": hash_value([stage.config, suite])}
            results = about | results
            write_json(final / "results.json", results)
            shown = {k: v["value"] for k, v in results["metrics"].items() if v["headline"]}
            seconds = sum(t["seconds"] for t in results["tasks"].values())
            stage.finish(final, shown)
            line = "  ".join(f"{k} {v:.3f}" for k, v in shown.items() if v is not None)
            print(f"{stage.name}: {line}  ({seconds:.1f} s)", flush=True)
    return code


def keep_whole(folder: Path, every: set[str], some: set[str]) -> None:
    """Refuse to put the results of some tasks in the place of those of the whole suite."""
    file = folder / "results.json"
    there = set(json.loads(file.read_text())["tasks"]) & every if file.is_file() else set()
    if there - some:
        raise UserError(
            f"{folder} holds {', '.join(sorted(there - some))} too, which --task would remove; give --output_dir, or "
            "leave --task out"
        )
