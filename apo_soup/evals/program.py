"""What `apo-soup eval --config FILE [--model DIR | --only NAME ...]` does: evaluate the models that are not up to date.

`apo_soup/evals/run.py` runs the suite on each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apo_soup.config.command_line import AskedState
from apo_soup.config.endpoint import endpoint_address
from apo_soup.config.eval import AnswerTask, ConsistencyTask, EvalFile
from apo_soup.config.eval_programs import BfclTask, LiveCodeBenchTask
from apo_soup.config.load import load
from apo_soup.config.places import places_looked_at
from apo_soup.errors import UserError
from apo_soup.evals.installed import require_served_tokenizer
from apo_soup.evals.models_to_evaluate import EvaluatedModel, models_of_suite, models_to_evaluate
from apo_soup.evals.results_folder import results_folders
from apo_soup.hashing import hash_value
from apo_soup.models.libraries import quiet_libraries, spare_collector
from apo_soup.progress import say, tell
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.entry import alone_on, report_state
from apo_soup.runs.manifest import write_json
from apo_soup.runs.results import evaluation_results
from apo_soup.runs.sources import is_local, model_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.suite_inputs import TaskWithRows, suite_inputs
from apo_soup.runs.upstream import read_by_file
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
    state: AskedState = ""


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
    places = folders_of_models(suite, models)
    folders = {f"evals/{model.name}": places[model.name] for model in models}
    with alone_on(suite, folders, request.state):
        stages = evaluation_stages(suite, models)
        for stage, _ in stages.values():
            stage.arguments += [word for name in request.task for word in ("--task", name)]
        todo, code = report_state(suite, [stage for stage, _ in stages.values()], request.state)
        if todo and not request.state:
            quiet_libraries()
            for note in suite.notes:
                say(note)
            from apo_soup.evals.mix import Mixer

            spare_collector()
            mixer = Mixer(str(suite.path), suite.trust_remote_code)
            for stage in todo:
                run_evaluation(suite, *stages[stage.name], mixer)
        return code


def folders_of_models(suite: EvalFile, models: Sequence[EvaluatedModel]) -> dict[str, Path]:
    """Where the results of each model go, by name: every model of the file has its place, whichever are asked for.

    Raises:
        UserError: results that lie there cannot be read.
    """
    names = dict.fromkeys([*models_of_suite(suite), *(model.name for model in models)])
    return results_folders(Path(suite.output_dir), list(names))


def refuse_partial_results(suite: EvalFile, models: list[EvaluatedModel], tasks: Sequence[str]) -> None:
    """Refuse to put the results of some tasks in the place of those of the whole suite.

    Raises:
        UserError: a model's folder has results of other tasks of the suite.
    """
    folders = folders_of_models(suite, models)
    for model in models:
        file = folders[model.name] / "results.json"
        present = set(evaluation_results(file).get("tasks", {})) if file.is_file() else set()
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
    require_served_tokenizer(suite)
    for number, task in enumerate(suite.tasks):
        if (
            isinstance(task, AnswerTask | ConsistencyTask) and ":" not in task.verifier
        ):  # a module of one's own may be slow to import
            verifier(task.verifier, suite.place(f"tasks.{number}.verifier"))
        if isinstance(task, LiveCodeBenchTask | BfclTask):
            check_outside(suite, number, task)
        elif isinstance(task, TaskWithRows) and task.data is not None and _is_missing(task.data):
            key = f"tasks.{number}.data"
            looked = places_looked_at(task.data, suite.path.parent)
            raise UserError(
                f"{suite.place(key)}: expected a file of rows, got {task.data}; correct the path ({looked})"
            )


def _is_missing(data: str) -> bool:
    """Whether rows are neither a file nor, by their name, of the Hub, which tells itself what it has not."""
    return is_local(data) and not Path(data).is_file()


def check_outside(suite: EvalFile, number: int, task: LiveCodeBenchTask | BfclTask) -> None:
    """Refuse a task whose problems, program or Python are not there.

    Raises:
        UserError: naming the key, and both places that were looked at.
    """
    expected = [("python", "the Python of an environment", task.python, Path(task.python or "").is_file())]
    if isinstance(task, LiveCodeBenchTask):
        program = Path(task.program or "")
        there = (program / "lcb_runner").is_dir()
        expected += [
            ("data", "a file or folder of problems", task.data, Path(task.data or "").exists()),
            ("program", "the repository of LiveCodeBench, with its folder lcb_runner", task.program, there),
        ]
    for key, what, named, there in expected:
        if named is not None and not there:
            looked = places_looked_at(named, suite.path.parent)
            raise UserError(
                f"{suite.place(f'tasks.{number}.{key}')}: expected {what}, got {named}; correct the path ({looked})"
            )


def evaluation_stages(suite: EvalFile, models: list[EvaluatedModel]) -> dict[str, tuple[Stage, EvaluatedModel]]:
    """A stage a model with that model, by the stage's name, in the models' order.

    Raises:
        UserError: a model's folder or a file of the suite is not there.
    """
    inputs = suite_inputs(suite) | {"code": code_hash(__name__)}
    rows = read_by_file(suite, without="models")
    folders = folders_of_models(suite, models)
    stages: dict[str, tuple[Stage, EvaluatedModel]] = {}
    for model in models:
        where = suite.place(f"models.{model.name}")
        stage = Stage(
            f"evals/{model.name}",
            folders[model.name],
            suite.deciding_values(),
            {"model": evaluated_hash(suite, model), **inputs},
            arguments=model_arguments(suite, model.name),
            reads=[*rows, *((where, f) for f, _ in (model.mix.parts if model.mix else [(model.folder, 1.0)]))],
        )
        stages[stage.name] = stage, model
    return stages


def evaluated_hash(suite: EvalFile, model: EvaluatedModel) -> str:
    """Content hash of a model, of the parts and shares of a mix, or the name and address of a served one.

    Raises:
        UserError: its folder is not there.
    """
    where, beside = suite.place(f"models.{model.name}"), suite.path.parent
    if suite.endpoint is not None:
        return hash_value([suite.endpoint.model, endpoint_address(suite.endpoint).url])
    if model.mix:
        return hash_value([[model_hash(str(f), where, None, beside), weight] for f, weight in model.mix.parts])
    return model_hash(str(model.folder), where, None, beside)


def model_arguments(suite: EvalFile, name: str) -> list[str]:
    """The words of the command line that decide the results of a model of this name: not those that give others."""

    def of_model(key: str) -> bool:
        first, _, model = key.partition(".")
        return first != "models" or model in ("", name, name.partition("/")[0])

    return deciding_arguments(suite, of_model)


def run_evaluation(suite: EvalFile, stage: Stage, model: EvaluatedModel, mixer: "Mixer") -> None:
    """Evaluate one model, write its results.json and print its headline scores.

    Raises:
        UserError: as `evaluate_model` does, the disk refuses the results, or the model was made anew while those before
            it were evaluated, which may have taken hours.
    """
    from apo_soup.evals.run import evaluate_model

    if evaluated_hash(suite, model) != stage.inputs["model"]:
        raise UserError(
            f"{suite.place(f'models.{model.name}')}: expected a model that stays, got {model.folder}, which changed "
            "since this command began; run it again"
        )
    stage.begin()
    folder = stage.result_folder()
    mixed = mixer.mixed_model(model.mix) if model.mix else None
    tasks = ", ".join(task.name for task in suite.tasks)
    say(f"{stage.name}: {model.folder} is measured by {tasks}")
    results = evaluate_model(suite, model.folder, mixed, folder, stage.name)
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
    tell(f"{stage.name}: {line}  ({seconds:.1f} s)")
