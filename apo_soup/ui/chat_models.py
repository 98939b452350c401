"""The models of a recipe that can be talked to: their names, where they are, and whether they are there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import expanded
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import models_of_suite
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.sources import MODEL_MARKS, is_local
from apo_soup.ui.stage_folders import files_of_stages


@dataclass(frozen=True)
class ChatModel:
    """A model under its name in the recipe: a folder or an id of the Hub, the template that is laid over it, and
    whether code that comes with it may run.
    """

    name: str
    model: str
    template: str | None = None
    trusted: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it is on disk, as a model or an adapter; of one on the Hub that is known when it is asked for."""
        folder = expanded(self.model)
        return not is_local(self.model) or any((folder / name).is_file() for name in MODEL_MARKS)


def chat_models(recipe: Path) -> list[ChatModel]:
    """The models that a recipe's suite names; without a suite, its base and what its files make.

    Raises:
        UserError: the suite is wrong.
    """
    file = recipe / "eval.yaml"
    if not file.is_file():
        return list(dict.fromkeys(_models_of_files(recipe)))
    suite = load(file, "eval")
    template, trusted = suite.chat_template, suite.trust_remote_code
    return [ChatModel(name, str(path), template, trusted) for name, path in models_of_suite(suite).items()]


def _models_of_files(recipe: Path) -> Iterator[ChatModel]:
    base = None
    for file in files_of_stages(recipe):
        kind = stage_of_file(file) or ""
        if kind not in ("sft", "apo", "merge"):
            continue
        try:
            loaded = load(file, kind)
            folders = output_folders(loaded)
        except UserError:  # the first page tells it
            continue
        template, trusted = None, False
        if isinstance(loaded, TrainingFile):
            template, trusted = loaded.chat_template, loaded.trust_remote_code
            if base is None:
                base = loaded.model_name_or_path
                yield ChatModel("base", base, template, trusted)
        for name, folder in folders.items():
            if name != "sweep":
                yield ChatModel(name, str(folder), None, trusted)
