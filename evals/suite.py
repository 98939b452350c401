"""The suite file: which tasks, on which rows, in which modes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.members import member_order
from pipeline.recipe import Recipe

KINDS = ("answer", "recall", "preference", "loss")
MODES = ("think", "no_think")


@dataclass(frozen=True)
class Task:
    """One task of a suite.

    Kinds: `answer` generates and verifies (rows: messages, answer, optional group); `recall` asks whether greedy
    decoding gives the answer behind a given prefix (rows: messages, prefix, answer, group); `preference` compares the
    log-probabilities of chosen and rejected; `loss` is the mean negative log-likelihood of assistant tokens.
    """

    name: str
    kind: str
    data: str
    modes: tuple[str, ...] = MODES
    verifier: str = "number"
    max_new_tokens: int = 256
    limit: int | None = None
    question: str = "messages"
    reference: str = "answer"


@dataclass(frozen=True)
class Mix:
    """A name, model folders and their weights."""

    name: str
    parts: tuple[tuple[Path, float], ...]


def parse_mix(text: str) -> Mix:
    """`NAME:FOLDER=WEIGHT,FOLDER=WEIGHT` as a Mix; raises UserError where it is written otherwise."""
    name, colon, rest = text.partition(":")
    parts = []
    for entry in rest.split(","):
        folder, equals, weight = entry.rpartition("=")
        try:
            parts.append((Path(folder), float(weight)))
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--mix {text}: expected NAME:FOLDER=WEIGHT,FOLDER=WEIGHT")
    if not name or not colon or "/" in name:
        raise UserError(f"--mix {text}: expected a plain name before the first colon")
    return Mix(name, tuple(parts))


def read_tasks(recipe: Recipe) -> list[Task]:
    """The tasks of a suite file; raises UserError at an unknown kind, mode or missing data file."""
    tasks = []
    for number, entry in enumerate(recipe.need("tasks")):
        where = recipe.where(f"tasks.{number}")
        if not isinstance(entry, dict):
            raise UserError(f"{where}: a task is a mapping with name, kind and data, found {entry!r}")
        for key in ("name", "kind", "data"):
            if key not in entry:
                raise UserError(f"{where}: the task has no {key}")
        if entry["kind"] not in KINDS:
            raise UserError(f"{where}: no kind is called {entry['kind']}; known: {', '.join(KINDS)}")
        modes = tuple(entry.get("modes", MODES))
        for mode in modes:
            if mode not in MODES:
                raise UserError(f"{where}: no mode is called {mode}; known: {', '.join(MODES)}")
        tasks.append(Task(**{**entry, "modes": modes}))
        if not Path(entry["data"]).is_file():
            raise UserError(f"{where}: data file {entry['data']} does not exist")
    return tasks


def keep_tasks(recipe: Recipe, only: list[str] | None) -> None:
    """Leave only the named tasks in a suite; raises UserError where one is not in it."""
    if not only:
        return
    names = [task.get("name") for task in recipe.need("tasks") if isinstance(task, dict)]
    missing = [name for name in only if name not in names]
    if missing:
        raise UserError(f"{recipe.path}: no task is called {', '.join(missing)}; known: {', '.join(map(str, names))}")
    recipe.values["tasks"] = [task for task in recipe.values["tasks"] if task.get("name") in only]


def expand_models(recipe: Recipe, only: list[str] | None = None) -> dict[str, Path]:
    """Names and folders of the models to evaluate; a path that ends in /* stands for every folder there."""
    models: dict[str, Path] = {}
    for name, path in recipe.need("models").items():
        if path.endswith("/*"):
            parent = Path(path[:-2])
            found = [f for f in parent.glob("[!.]*") if (f / "config.json").is_file()]
            models |= {f"{name}/{f.name}": f for f in sorted(found, key=lambda f: member_order(f.name))}
        else:
            models[name] = Path(path)
    if only:
        missing = [name for name in only if name not in models]
        if missing:
            raise UserError(f"{recipe.path}: no model is called {', '.join(missing)}; known: {', '.join(models)}")
        models = {name: models[name] for name in only}
    return models


def suite_settings(recipe: Recipe) -> dict[str, Any]:
    """What decides a result, beside the model and the rows."""
    return {k: v for k, v in recipe.values.items() if k not in ("models", "output_dir")}
