"""The walk over training keys itself: its points one after the other, and the folder that holds the answer."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from apo_soup.cli.walked_point import PointTraining
from apo_soup.config.load import load
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import TrainingPoint, swept_points, training_path, value_text
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.progress import clock, say, tell, warn
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.inputs import training_inputs
from apo_soup.runs.manifest import write_json
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.sources import model_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.walked import point_folder, points_folder, trained_model
from apo_soup.stored_json import Form, read_json
from apo_soup.sweep.choose import ChosenPoint, WalkedPoint, Yardstick
from apo_soup.sweep.output import gains_chart, points_table
from apo_soup.sweep.scores import (
    Metrics,
    PointFailed,
    eval_file,
    metric_titles,
    metrics_of_members,
    suite_reads,
    suite_values,
)

SETTINGS_FILE = "settings.json"


class StoredPoint(Form):
    """A point of a walk, as far as it is read again."""

    label: str
    failed: str | None = None


class StoredWalk(Form):
    """What is read of settings.json."""

    points: list[StoredPoint]


@dataclass(frozen=True)
class SettingsWalk:
    """What a sweep file walks.

    Attributes:
        points: in the file's order.
        against: the model that they are compared with, a folder or an id of the Hub.
        tasks: of the suite, those that are asked.
    """

    file: SweepFile
    points: list[TrainingPoint]
    against: str
    tasks: list[str]
    training: PointTraining
    stage: Stage

    @property
    def against_name(self) -> str:
        """The model that points are compared with, as tables have it."""
        return Path(self.against).name

    @property
    def keys(self) -> list[str]:
        """The keys that any point gives."""
        return list(dict.fromkeys(name for point in self.points for name in point.shown))

    def failed_points(self) -> dict[str, str]:
        """Why a walk whose folder is up to date is to be walked again, by the stage's name: points of it failed.

        Raises:
            UserError: settings.json is of another form.
        """
        file = self.stage.folder / SETTINGS_FILE
        if not file.is_file() or self.stage.stale() is not None:
            return {}
        stored = read_json(file, file.parent, "remove the folder and walk again", StoredWalk)
        failed = [point["label"] for point in stored["points"] if point.get("failed")]
        return {self.stage.name: f"{', '.join(failed)} failed"} if failed else {}

    def trained_points(self) -> int:
        """How many points have a model, whether or not it is what the file asks for today."""
        models = (trained_model(point_folder(self.file, p), p.trainings[0]) for p in self.points)
        return sum(model.is_dir() for model in models)


def settings_walk(file: SweepFile, launch: str | None) -> SettingsWalk:
    """The walk that a sweep file asks for.

    Args:
        launch: the accelerate configuration that trainings are started with.

    Raises:
        UserError: a point is wrong, or a model, rows or the suite are not there.
    """
    points = swept_points(file)
    suite = eval_file(file, "eval", file.eval)
    first = points[0].trainings[0]
    usual = load(training_path(file), first.kind)
    assert isinstance(usual, TrainingFile)
    against, place = (
        (usual.model_name_or_path, usual.place("model_name_or_path"))
        if file.against is None
        else (file.against, file.place("against"))
    )
    if file.against is None:
        _require_one_beginning(file, points, usual)
    known = [task.name for task in load(suite, "eval").tasks]
    strange = [name for name in file.tasks if name not in known]
    if strange:
        told = f"expected tasks of {suite} ({', '.join(known)}), got {strange[0]}; correct the name"
        raise UserError(f"{file.place('tasks')}: {told}")
    trainings = [[t.deciding_values(), training_inputs(t)] for point in points for t in point.trainings]
    inputs = {
        f"model {Path(against).name}": model_hash(against, place, None, file.path.parent),
        **suite_reads(suite, "apo_soup.sweep.choose"),
        f"trainings by {training_path(file).name}": hash_value(trainings),
    }
    (folder,) = output_folders(file).values()
    reads = [(place, Path(against))]
    config = file.deciding_values() | suite_values(suite)
    stage = Stage("settings", folder, config, inputs, arguments=deciding_arguments(file), reads=reads)
    tasks = [name for name in known if not file.tasks or name in file.tasks]
    return SettingsWalk(file, points, against, tasks, PointTraining(file, suite, launch), stage)


def _require_one_beginning(file: SweepFile, points: Sequence[TrainingPoint], usual: TrainingFile) -> None:
    """Refuse to compare points with the model that the training file begins with, where another one is meant.

    Raises:
        UserError: a point begins with another model, or with a revision, which no evaluation loads.
    """
    begins = {training.model_name_or_path for point in points for training in point.trainings}
    revision = next((t.model_revision for p in points for t in p.trainings if t.gives("model_revision")), None)
    if begins == {usual.model_name_or_path} and revision is None:
        return
    got = ", ".join(sorted(begins)) + (f" at {revision}" if revision is not None else "")
    raise UserError(
        f"{file.path}: expected against: FOLDER where points begin with several models, or with a revision of one, got "
        f"{got}; write against, the folder of the model that they are compared with"
    )


def run_walk(walk: SettingsWalk) -> None:
    """Train and measure every point, choose, print, and put table, JSON and picture into place.

    Raises:
        UserError: the suite does not have a metric; or, when all is in place, points failed.
        StopAsked: a signal ended a training or an evaluation.
    """
    file, against = walk.file, walk.against_name
    # First what all are compared with: a metric that the suite does not have is told before anything is trained.
    reference = walk.training.measure(points_folder(file) / "against", against, walk.against, walk.tasks)
    yardstick = Yardstick.of(file, reference, file.place("metric"))
    points: list[WalkedPoint[str]] = []
    metrics: dict[str, Metrics] = {}
    for number, point in enumerate(walk.points, 1):
        started = time.monotonic()
        say(f"settings: point {number} of {len(walk.points)}: {point.told}")
        try:
            found = _measured(walk, point, yardstick)
            points.append(yardstick.point(point.told, found, partly=True))
        except PointFailed as error:
            warn(f"settings: {error}")
            points.append(WalkedPoint(point.told, {}, {}, (), str(error)))
            continue
        metrics[point.told] = found
        scores = "  ".join(f"{name} {value:.3f}" for name, value in points[-1].scores.items())
        tell(f"settings: {point.told}: {scores}  ({clock(time.monotonic() - started)})")
    chosen = yardstick.best(points, metrics, [point.told for point in walk.points if point.of_file])
    cells = [[point.value(key) for key in walk.keys] for point in walk.points]
    table = points_table(points, cells, walk.keys, yardstick, against)
    advice = settings_advice(walk, points, chosen, yardstick)
    say(f"{table}\n{advice}")
    walk.stage.begin()
    final = walk.stage.result_folder()
    content = {
        "stage": file.stage,
        "members": file.members,
        "against": walk.against,
        **yardstick.as_json(),
        "reference": {name: reference[name]["value"] for name in yardstick.names},
        "points": [
            {**asdict(walked), "keys": point.shown, "folder": str(point_folder(file, point)), "of_file": point.of_file}
            for walked, point in zip(points, walk.points, strict=True)
        ],
        "chosen": None if chosen is None else asdict(chosen),
        "told": advice,
    }
    write_json(final / SETTINGS_FILE, content)
    (final / "settings.txt").write_text(f"{table}\n{advice}\n", encoding="utf-8")
    names, titles = [" · ".join(line) for line in cells], metric_titles(walk.training.suite, yardstick.names)
    (final / "settings.svg").write_text(
        gains_chart(points, names, " · ".join(walk.keys), yardstick, titles, against), encoding="utf-8"
    )
    figures = {"points": len(points), "chosen": None if chosen is None else chosen.label}
    walk.stage.finish(final, figures)
    tell(f"settings: {walk.stage.folder}: settings.json, settings.txt and settings.svg written")
    failed = [point.label for point in points if point.failed is not None]
    if failed:
        raise UserError(
            f"{file.path}: expected {len(points)} points that are trained and measured, got {len(failed)} that failed "
            f"({', '.join(failed)}); mend them and run the same command again, or leave them out"
        )


def _measured(walk: SettingsWalk, point: TrainingPoint, yardstick: Yardstick) -> Metrics:
    """The scores of a point, a mean over its soup members; where a guardrail falls, those that were measured until
    then.
    """
    guards = [task for task in walk.tasks if _of_task(task, yardstick.guardrails)]
    rest = [task for task in walk.tasks if task not in guards]
    folder, models, found = point_folder(walk.file, point), dict[str, Path](), list[Metrics]()
    for training in point.trainings:
        name = walk.file.stage if training.member is None else f"{walk.file.stage}/{training.member}"
        models[name] = walk.training.train(point, training)
        if not guards:
            continue
        found.append(walk.training.measure(folder, name, str(models[name]), guards))
        fallen = yardstick.point(point.told, metrics_of_members(found), partly=True).fallen
        if fallen:
            members = len(point.trainings) - len(found)
            left = [f"{members} of its members"] * bool(members) + rest
            more = f"; {', '.join(left)} left out" if left else ""
            say(f"settings: {point.told}: {', '.join(fallen)} fell beyond noise{more}")
            return metrics_of_members(found)
    if not rest:
        return metrics_of_members(found)
    others = [walk.training.measure(folder, name, str(model), rest) for name, model in models.items()]
    return (metrics_of_members(found) if found else {}) | metrics_of_members(others)


def _of_task(task: str, scores: Iterable[str]) -> bool:
    return any(score == task or score.startswith(f"{task}/") for score in scores)


def settings_advice(
    walk: SettingsWalk, points: Sequence[WalkedPoint[str]], chosen: ChosenPoint[str] | None, yardstick: Yardstick
) -> str:
    """What the scores support, and the lines of the training file that say so."""
    metric, against, path = yardstick.metric, walk.against_name, training_path(walk.file)
    own = [point.told for point in walk.points if point.of_file]
    lines = [f"settings: {told} is what {path} says" for told in own]
    failed = [point for point in points if point.failed is not None]
    lines += [f"settings: {point.label} failed: {point.failed}" for point in failed]
    if chosen is None:
        told = "every point failed or lets a guardrail fall" if failed else "at every point a guardrail falls"
        return "\n".join([*lines, f"settings: {told}; {path} is better left as it is"])
    gain = next(point.differences[metric] for point in points if point.label == chosen.label)
    beyond = "" if gain.beyond_noise else ", which is within noise"
    lines.append(
        f"settings: {chosen.label} has the best {metric} of the points whose guardrails hold: {gain.value:+.3f} "
        f"({gain.interval(3)}) on {against}{beyond}"
    )
    if chosen.alike:
        others = ", ".join(chosen.alike)
        lines.append(
            f"settings: on these items its difference from {others} is within noise; take it as one of several, not "
            "as the best"
        )
    point = next(point for point in walk.points if point.told == chosen.label)
    if point.of_file:
        lines.append(f"settings: {path} may stay as it is")
    else:
        lines.append(f"in {path}:")
        lines += [f"    {name}: {value_text(value)}" for name, value in point.shown.items()]
    return "\n".join(lines)
