"""The suite file: which tasks, on which rows, in which modes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.runs.members import member_order

MODES = ("think", "no_think")
# kind -> (keys it needs one of, keys beside those of every kind)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "answer": (("data", "generate"), ("modes", "verifier", "max_new_tokens", "question", "reference")),
    "tool": (("data", "generate"), ("modes", "max_new_tokens", "question", "tool_format")),
    "recall": (("data", "generate"), ()),
    "preference": (("data",), ()),
    "loss": (("data",), ()),
    "context_loss": (("data",), ("length",)),
    "harness": (
        ("tasks",),
        ("modes", "max_new_tokens", "lengths", "num_fewshot", "include", "gen_kwargs", "unsafe_code"),
    ),
}
COMMON = ("name", "kind", "limit")
AT_LEAST = {"limit": 1, "length": 8, "max_new_tokens": 1, "num_fewshot": 0}
MOST_KEYS = 256


@dataclass(frozen=True)
class Task:
    """One task of a suite.

    Kinds: `answer` generates and verifies (rows: messages, answer, optional group); `tool` generates and checks the
    call against the tools' schemas (rows: messages, tools, optional call); `recall` asks whether greedy decoding gives
    the answer behind a given prefix (rows: messages, prefix, answer, group, depth); `preference` compares the
    log-probabilities of chosen and rejected; `loss` is the mean negative log-likelihood of assistant tokens;
    `context_loss` that of plain text by place in a long window; `harness` runs tasks of lm-evaluation-harness.
    """

    name: str
    kind: str
    data: str | None = None
    generate: dict[str, Any] | None = None
    modes: tuple[str, ...] = MODES
    verifier: str = "number"
    max_new_tokens: int | None = None
    limit: int | None = None
    question: str = "messages"
    reference: str = "answer"
    tool_format: str = "xml"
    length: int = 4096
    tasks: tuple[Any, ...] = ()
    lengths: tuple[int, ...] = ()
    num_fewshot: int | None = None
    include: str | None = None
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    unsafe_code: bool = False


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
    """The tasks of a suite file.

    Raises:
        UserError: an unknown kind or mode, a key that the kind does not read, a name given twice, or no data.
    """
    tasks: list[Task] = []
    for number, entry in enumerate(recipe.need("tasks")):
        task = read_task(entry, recipe.where(f"tasks.{number}"))
        if task.name in [t.name for t in tasks]:
            raise UserError(f"{recipe.where(f'tasks.{number}')}: two tasks are called {task.name}")
        tasks.append(task)
    return tasks


def read_task(entry: Any, where: str) -> Task:
    """One entry of `tasks`, checked; raises UserError as `read_tasks` does."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: a task is a mapping with name, kind and data, found {entry!r}")
    for key in ("name", "kind"):
        if key not in entry:
            raise UserError(f"{where}: the task has no {key}")
    if entry["kind"] not in KINDS:
        raise UserError(f"{where}: no kind is called {entry['kind']}; known: {', '.join(KINDS)}")
    needs, own = KINDS[entry["kind"]]
    given = [key for key in needs if entry.get(key)]
    if len(given) != 1:
        raise UserError(f"{where}: task {entry['name']} of kind {entry['kind']} needs {' or '.join(needs)}")
    for key in entry:
        if key not in (*COMMON, *needs, *own):
            raise UserError(f"{where}: a task of kind {entry['kind']} does not read {key}; it reads {', '.join(own)}")
    modes = entry.get("modes", ("no_think",) if entry["kind"] == "harness" else MODES)
    for mode in modes:
        if mode not in MODES:
            raise UserError(f"{where}: no mode is called {mode}; known: {', '.join(MODES)}")
    data = entry.get("data")
    if data is not None and not Path(data).is_file():
        raise UserError(f"{where}: data file {data} does not exist")
    check_values(entry, where)
    lists = {key: tuple(entry[key]) for key in ("tasks", "lengths") if key in entry}
    return Task(**{**entry, **lists, "modes": tuple(modes)})


def check_values(entry: dict[str, Any], where: str) -> None:
    """Refuse values of a task that are of another kind than its key, or that no items can be made of."""
    for key, least in AT_LEAST.items():
        if key in entry and (not isinstance(entry[key], int) or isinstance(entry[key], bool) or entry[key] < least):
            raise UserError(f"{where}: {key} is a whole number of {least} or more, found {entry[key]!r}")
    for key, kind, what in (("lengths", int, "whole numbers"), ("tasks", (str, dict), "names or mappings")):
        given = entry.get(key, [])
        if not isinstance(given, list) or not all(isinstance(v, kind) and v for v in given):
            raise UserError(f"{where}: {key} is a list of {what}, found {given!r}")
    for key in ("generate", "gen_kwargs"):
        if not isinstance(entry.get(key, {}), dict):
            raise UserError(f"{where}: {key} is a mapping, found {entry[key]!r}")
    made = entry.get("generate") or {}
    depths = made.get("depths", [0.5])
    if not isinstance(depths, list) or not depths or len(depths) > MOST_KEYS:
        raise UserError(f"{where}: generate.depths is a list of up to {MOST_KEYS} places, found {depths!r}")
    if not all(isinstance(d, (int, float)) and 0 <= d <= 1 for d in depths):
        raise UserError(f"{where}: generate.depths are places from 0 to 1, found {depths!r}")
    if "lengths" in made and not (isinstance(made["lengths"], list) and made["lengths"]):
        raise UserError(f"{where}: generate.lengths is a list of whole numbers, found {made['lengths']!r}")
    for key, value in made.items():
        counts = value if isinstance(value, list) and key == "lengths" else [value]
        if key in ("count", "keys", "lengths") and not all(isinstance(v, int) and v > 0 for v in counts):
            raise UserError(f"{where}: generate.{key} counts from 1, found {value!r}")
    if made.get("keys", 1) > MOST_KEYS:
        raise UserError(f"{where}: generate.keys is at most {MOST_KEYS}, the names there are, found {made['keys']}")


def keep_tasks(recipe: Recipe, only: Sequence[str]) -> None:
    """Leave only the named tasks in a suite; raises UserError where one is not in it."""
    if not only:
        return
    names = [task.get("name") for task in recipe.need("tasks") if isinstance(task, dict)]
    missing = [name for name in only if name not in names]
    if missing:
        raise UserError(f"{recipe.path}: no task is called {', '.join(missing)}; known: {', '.join(map(str, names))}")
    recipe.values["tasks"] = [task for task in recipe.values["tasks"] if task.get("name") in only]


def expand_models(recipe: Recipe, only: Sequence[str] = ()) -> dict[str, Path]:
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
