"""One point of a walk over training keys: its trainings, started as `apo-soup run` starts them, and its scores."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from apo_soup.children import run_program
from apo_soup.cli.ask_state import ask_state, in_sentences
from apo_soup.cli.steps import STEPS, Step, executable, launch_command
from apo_soup.config.apo import ApoFile
from apo_soup.config.kinds import stage_name
from apo_soup.config.load import load
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import (
    NOT_OF_A_POINT,
    TrainingPoint,
    members_with,
    training_kind,
    training_path,
)
from apo_soup.config.training import TrainingFile
from apo_soup.errors import REASON_VARIABLE, told_by_disk
from apo_soup.progress import say
from apo_soup.runs.walked import make_point_folder, point_folder, scores_folder, trained_model, trained_output
from apo_soup.stops import StopAsked, ending_signals
from apo_soup.sweep.scores import Metrics, PointFailed, model_metrics

# In the folder of a point, what its training ended with where that failed.
REASON_FILE = "reason.txt"


@dataclass(frozen=True)
class PointTraining:
    """How the points of a file are trained and measured.

    Attributes:
        file: the sweep file.
        suite: the eval file.
        launch: the accelerate configuration that trainings are started with.
    """

    file: SweepFile
    suite: Path
    launch: str | None

    def train(self, point: TrainingPoint, training: TrainingFile) -> Path:
        """Train a point, or one soup member of it, where that is missing or stale; returns the model's folder.

        Raises:
            PointFailed: the training failed; its own words are on the terminal.
            UserError: the disk refuses the folder.
            StopAsked: a signal ended it.
        """
        folder = point_folder(self.file, point)
        with told_by_disk("settings", folder):
            make_point_folder(folder, point, training)
        step, recipe = self._step, self.file.path.parent
        words, model = self.words(point, training), trained_model(folder, training)
        # As `apo-soup run` does, for a launcher takes seconds to say that there is nothing to do.
        answer = ask_state(step, recipe, words) if model.is_dir() else None
        if answer and answer.code == 0:
            say(in_sentences(answer.said).rstrip("\n"))
            return model
        reason = (folder / REASON_FILE).absolute()
        reason.unlink(missing_ok=True)
        command = executable(launch_command(step, recipe, self.launch, words))
        environment = os.environ | {REASON_VARIABLE: str(reason)}
        code = run_program(command, f"the training of {point.told}", environment=environment)
        if code - 128 in ending_signals():
            raise StopAsked(code - 128, None)
        if code:
            place = self.file.place(next(iter(point.setting.places.values())))
            why = reason.read_text(encoding="utf-8") if reason.is_file() else "its own words are above"
            told = f"expected a training that comes to its end, got exit code {code} from that of {point.told} ({why})"
            raise PointFailed(f"{place}: {told}; mend it, or leave the point out")
        return model

    def measure(self, folder: Path, name: str, model: str, tasks: Sequence[str]) -> Metrics:
        """Scores of a model in some tasks of the suite, which are kept in the folder.

        Raises:
            PointFailed: the evaluation failed.
            UserError: what it left cannot be read.
            StopAsked: a signal ended it.
        """
        return model_metrics(self.suite, model, name, scores_folder(folder, tasks, "evals"), tasks)

    @property
    def _step(self) -> Step:
        path = training_path(self.file)
        return replace(STEPS[stage_name(path)], file=path.name)

    def words(self, point: TrainingPoint, training: TrainingFile) -> list[str]:
        """What a point lays over the training file, and which soup member of it is trained, on the command line.

        Raises:
            UserError: the training file is wrong, or not there.
        """
        given = load(training_path(self.file), training_kind(self.file))
        keys: dict[str, Any] = {"output_dir": str(trained_output(point_folder(self.file, point), training))}
        keys |= {name: value for name, value in NOT_OF_A_POINT.items() if given.gives(name)}
        if isinstance(given, ApoFile):
            keys["members"] = members_with(given.members, point.setting.values, self.file.members)
        else:
            keys |= point.setting.values
        words = [f"--{name}={yaml_word(value)}" for name, value in keys.items()]
        return words if training.member is None else [*words, "--member", str(training.member)]


def yaml_word(value: Any) -> str:
    """A value as a word of the command line, which is read as YAML.

    >>> yaml_word(1e-7), yaml_word("a, b"), yaml_word([{"seed": 1}]), yaml_word(None), yaml_word("true")
    ('1.0e-07', "'a, b'", '[{seed: 1}]', 'null', "'true'")
    """
    # As the one item of a list, where a text is written so that it ends where it ends.
    written = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return written.strip()[1:-1]
