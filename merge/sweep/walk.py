"""The walk itself: which models and weights a file asks for, their scores, and the folder that holds the answer."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.merge import MergeFile, SweepKeys
from apo_soup.errors import UserError
from apo_soup.progress import say, tell
from apo_soup.runs.manifest import write_json
from apo_soup.runs.sources import model_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.walked import scores_folder
from apo_soup.sweep.choose import Yardstick
from apo_soup.sweep.output import points_table
from apo_soup.sweep.scores import eval_file, metric_titles, mix_metrics, suite_reads, suite_values
from merge.mergekit_names import is_adapted, resolved_model
from merge.new_tokens import check_new_tokens
from merge.plan import folder_arguments
from merge.sweep.output import sweep_advice, sweep_curve

FIRST_ALONE = 1.0


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep walks: names and folders of the two models, the weights of the first, suite and stage."""

    names: list[str]
    folders: tuple[Path, Path]
    weights: list[float]
    suite: Path
    stage: Stage

    def parts(self, weight: float) -> dict[Path, float]:
        """The average at one weight of the first model: each folder's weight, models of weight 0 left out."""
        first, second = self.folders
        return {folder: w for folder, w in ((first, weight), (second, round(1 - weight, 12))) if w}


def sweep_plan(recipe: MergeFile) -> SweepPlan:
    """The sweep that a merge file asks for.

    Raises:
        UserError: a model or the suite is missing, or one model has tokens that the other lacks.
    """
    keys, where = recipe.sweep or SweepKeys(), recipe.place("sweep.models")
    suite = eval_file(recipe, "sweep.eval", keys.eval)
    first, second = (_model_folder(name, recipe) for name in keys.models)
    if first == second:
        raise UserError(f"{where}: expected two folders, got {first} twice; name another model")
    check_new_tokens([first, second], where)
    inputs = {f"model {name}": model_hash(str(f), where) for name, f in zip(keys.models, (first, second), strict=True)}
    if len(set(inputs.values())) == 1:
        raise UserError(f"{where}: expected two models, got {first} and {second}, copies of one; name another model")
    inputs |= suite_reads(suite, __name__)
    folder = Path(recipe.output_dir) / "sweep"
    config = (recipe.sweep.given_values() if recipe.sweep else {}) | suite_values(suite)
    arguments, reads = folder_arguments(recipe, ("sweep",)), [(where, first), (where, second)]
    stage = Stage("sweep", folder, config, inputs, arguments=arguments, reads=reads)
    return SweepPlan(keys.models, (first, second), sorted(set(keys.weights)), suite, stage)


def _model_folder(name: str, recipe: MergeFile) -> Path:
    """The folder of a model to walk from or to."""
    model = resolved_model(name, recipe, "sweep.models")
    # An adapter alone is loaded with the base that it names.
    folder = Path(model.partition("+")[2] if is_adapted(model) and "+" not in name else model)
    if not folder.is_dir():
        raise UserError(
            f"{recipe.place('sweep.models')}: expected a stage or a folder that is there, got {name}; make it first"
        )
    return folder


def run_sweep(recipe: MergeFile, plan: SweepPlan) -> None:
    """Measure every point, choose, print, and put table, JSON and curve into place.

    Raises:
        UserError: the suite does not have a metric, or the evaluation stopped.
    """
    keys, names = recipe.sweep or SweepKeys(), plan.names
    # Points outlive the sweep's own folder: one that was stopped goes on, and a finer walk asks only what is new. Those
    # of other tasks lie beside.
    folder = plan.stage.folder.with_name("sweep_points")
    if keys.tasks:
        folder = scores_folder(folder, keys.tasks)
    # The first model alone first: a metric that the suite does not have is told before the other points are paid for.
    alone = repr(FIRST_ALONE)
    reference = mix_metrics(plan.suite, {alone: plan.parts(FIRST_ALONE)}, folder, keys.tasks)[alone]
    yardstick = Yardstick.of(keys, reference, recipe.place("sweep.metric"))
    others = {repr(w): plan.parts(w) for w in plan.weights if w != FIRST_ALONE}
    measured = mix_metrics(plan.suite, others, folder, keys.tasks) | {alone: reference}
    metrics = {w: measured[repr(w)] for w in plan.weights}
    points = [yardstick.point(w, metrics[w]) for w in plan.weights]
    chosen = yardstick.best(points, metrics)
    assert chosen is not None  # the first model alone does not fall below itself
    cells = [[f"{w:g}"] for w in plan.weights]
    table = points_table(points, cells, [names[0]], yardstick, f"{names[0]} alone")
    advice = sweep_advice(chosen, yardstick.metric, names, recipe.path)
    say(f"{table}\n{advice}")
    plan.stage.begin()
    final = plan.stage.result_folder()
    content = {
        "models": names,
        **yardstick.as_json(),
        "points": [_with_weight(asdict(p)) for p in points],
        "chosen": _with_weight(asdict(chosen)),
        "told": advice,
    }
    write_json(final / "sweep.json", content)
    (final / "sweep.txt").write_text(f"{table}\n{advice}\n", encoding="utf-8")
    (final / "sweep.svg").write_text(
        sweep_curve(points, metric_titles(plan.suite, yardstick.names), names), encoding="utf-8"
    )
    plan.stage.finish(final, {"points": len(points), "chosen": chosen.label, "alike": list(chosen.alike)})
    tell(f"sweep: {plan.stage.folder}: sweep.json, sweep.txt and sweep.svg written")


def _with_weight(point: dict[str, Any]) -> dict[str, Any]:
    """A point of a walk over weights, whose label is one, as JSON has it."""
    return {("weight" if name == "label" else name): value for name, value in point.items()}
