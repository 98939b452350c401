"""`python -m evals --config FILE [--model DIR | --only NAME ...]`: see evals/run.py; `python -m evals compare A B`."""

import json
import sys
from pathlib import Path

from pipeline.errors import UserError, run_main
from pipeline.hashing import hash_value
from pipeline.inputs import model_hash, suite_inputs
from pipeline.program import STATE_FLAG, quiet_libraries, report_state
from pipeline.recipe import arguments, load
from pipeline.stage import Stage, write_json

MODEL_FLAG = ("--model", {"metavar": "DIR", "help": "evaluate this folder in place of the models of the file"})
MIX_FLAG = (
    "--mix",
    {
        "action": "append",
        "metavar": "NAME:DIR=W,DIR=W",
        "help": "evaluate a weighted average of models, made in memory, in place of the models of the file",
    },
)
TASK_FLAG = ("--task", {"action": "append", "metavar": "NAME", "help": "run only this task of the suite"})
ONLY_FLAG = ("--only", {"action": "append", "metavar": "NAME", "help": "evaluate only this model of the file"})


def main() -> int:
    if sys.argv[1:2] == ["compare"]:
        from evals.compare import main as compare

        return compare(sys.argv[2:])
    flags = (MODEL_FLAG, ONLY_FLAG, MIX_FLAG, TASK_FLAG, STATE_FLAG)
    options, overrides = arguments("evals", "Run a suite on checkpoints.", *flags)
    recipe = load(options.config, "eval", overrides)
    from evals.suite import expand_models, keep_tasks, parse_mix, read_tasks, suite_settings

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
        from evals.mix import Mixer
        from evals.run import evaluate

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


run_main(main)
