"""What `apo-soup eval --config FILE [--model DIR | --only NAME ...]` does: evaluate the models that are not up to date.

`apo_soup/evals/run.py` runs the suite on each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apo_soup.config.endpoint import endpoint_address
from apo_soup.config.eval import AnswerTask, EvalFile, ToolTask
from apo_soup.config.load import load
from apo_soup.config.places import places_looked_at
from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import EvaluatedModel, models_to_evaluate
from apo_soup.hashing import hash_value
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import report_state
from apo_soup.runs.manifest import write_json
from apo_soup.runs.sources import model_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.suite_inputs import TaskWithRows, suite_inputs
from apo_soup.verify.answers import verifier

if TYPE_CHECKING:
    from apo_soup.evals.mix import Mixer


@dataclass(frozen=True)
class EvalRequest:
    """Which models and tasks of a suite are asked for on the command line, and whether only their state is."""

    model: str | None = None
    only: tuple[str, ...] = ()
    mix: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    state: bool = False


def run_suite(config: Path, request: EvalRequest, overrides: list[str], options: Sequence[str] = ()) -> int:
    """Evaluate what is not up to date; returns the exit code.

    Raises:
        UserError: with what is wrong with the file, the request, a model or the rows.
    """
    suite = load(config, "eval", overrides, options)
    models = models_to_evaluate(suite, request.model, request.only, request.mix)
    if request.task:
        whole, suite = suite, suite.with_tasks(request.task)
        refuse_partial_results(whole, models, request.task)
    check_tasks(suite)
    stages = evaluation_stages(suite, models)
    todo, code = report_state([stage for stage, _ in stages.values()], request.state)
    if todo and not request.state:
        quiet_libraries()
        from apo_soup.evals.mix import Mixer

        mixer = Mixer(str(suite.path), suite.trust_remote_code)
        for stage in todo:
            run_evaluation(suite, *stages[stage.name], mixer)
    return code


def results_folder(suite: EvalFile, model: EvaluatedModel) -> Path:
    """Where the results of a model go."""
    return Path(suite.output_dir) / model.name.removeprefix("mix/").replace("/", "-")


def refuse_partial_results(suite: EvalFile, models: list[EvaluatedModel], tasks: Sequence[str]) -> None:
    """Refuse to put the results of some tasks in the place of those of the whole suite.

    Raises:
        UserError: a model's folder has results of other tasks of the suite.
    """
    for model in models:
        file = results_folder(suite, model) / "results.json"
        present = set(json.loads(file.read_text())["tasks"]) if file.is_file() else set()
        lost = sorted(present.intersection(task.name for task in suite.tasks).difference(tasks))
        if lost:
            raise UserError(
                f"{file.parent}: expected results of {', '.join(tasks)} alone, got those of {', '.join(lost)} too, "
                "which --task would remove; give --output_dir, or leave --task out"
            )


def check_tasks(suite: EvalFile) -> None:
    """Refuse a task whose file of rows or verifier is not there, before a model is loaded.

    Raises:
        UserError: naming the key and, of a file, both places that were looked at.
    """
    for number, task in enumerate(suite.tasks):
        if suite.engine == "openai" and not isinstance(task, AnswerTask | ToolTask):
            raise UserError(
                f"{suite.place(f'tasks.{number}.kind')}: expected kind answer or tool, which a server can answer, with "
                f"engine openai, got {task.kind} of task {task.name}; name the other tasks with --task, or leave it out"
            )
        if isinstance(task, AnswerTask) and ":" not in task.verifier:  # a module of one's own may be slow to import
            verifier(task.verifier, suite.place(f"tasks.{number}.verifier"))
        if isinstance(task, TaskWithRows) and task.data is not None and not Path(task.data).is_file():
            key = f"tasks.{number}.data"
            looked = places_looked_at(task.data, suite.path.parent)
            raise UserError(
                f"{suite.place(key)}: expected a file of rows, got {task.data}; correct the path ({looked})"
            )


def evaluation_stages(suite: EvalFile, models: list[EvaluatedModel]) -> dict[str, tuple[Stage, EvaluatedModel]]:
    """A stage a model with that model, by the stage's name, in the models' order.

    Raises:
        UserError: a model's folder or a file of the suite is not there.
    """
    inputs, beside = suite_inputs(suite), suite.path.parent
    stages: dict[str, tuple[Stage, EvaluatedModel]] = {}
    for model in models:
        where = suite.place(f"models.{model.name}")
        if suite.endpoint is not None:
            weights_hash = hash_value([suite.endpoint.model, endpoint_address(suite.endpoint).url])
        elif model.mix:
            weights_hash = hash_value(
                [[model_hash(str(f), where, None, beside), weight] for f, weight in model.mix.parts]
            )
        else:
            weights_hash = model_hash(str(model.folder), where, None, beside)
        stage = Stage(
            f"evals/{model.name}",
            results_folder(suite, model),
            suite.deciding_values(),
            {"model": weights_hash, **inputs},
        )
        stages[stage.name] = stage, model
    return stages


def run_evaluation(suite: EvalFile, stage: Stage, model: EvaluatedModel, mixer: "Mixer") -> None:
    """Evaluate one model, write its results.json and print its headline scores."""
    from apo_soup.evals.run import evaluate_model

    folder = stage.begin() / "final"
    folder.mkdir(exist_ok=True)
    results = evaluate_model(suite, model.folder, mixer.mixed_model(model.mix) if model.mix else None)
    suite_parts = {label: value for label, value in stage.inputs.items() if label != "model"}
    header = {
        "name": model.name,
        "model": str(model.folder),
        "model_hash": stage.inputs["model"],
        "suite_hash": hash_value([stage.config, suite_parts]),
    }
    write_json(folder / "results.json", header | results)
    headlines = {name: metric["value"] for name, metric in results["metrics"].items() if metric["headline"]}
    stage.finish(folder, headlines)
    seconds = sum(task["seconds"] for task in results["tasks"].values())
    line = "  ".join(f"{name} {value:.3f}" for name, value in headlines.items() if value is not None)
    print(f"{stage.name}: {line}  ({seconds:.1f} s)", flush=True)
