"""Manifests and marks of trainings, asked models and evaluations whose rows, or models, lay elsewhere, with the same
content: a run that was renamed, or rows that were moved, make nothing stale.
"""

from pathlib import Path
from typing import Any, TypeGuard

from apo_soup.config.file_names import row_kind

_MIXTURE, _SOURCES, _ID = "dataset_mixture", "datasets", "id"
_PROMPTS, _MODEL = "prompts", "model"
_SUITE, _TASKS, _DATA = "suite", "tasks", "data"


def with_names_of(
    config: dict[str, Any], inputs: dict[str, str], record: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A training's configuration and inputs with its sources called as the record calls them, where their rows are the
    same, source by source; that of pairs and traces with its prompts and the models that it asks called so, and that of
    a suite with the rows of its tasks.

    >>> rows = {"dataset_mixture": {"datasets": [{"id": "old/a.jsonl"}]}}
    >>> record = {"config": rows, "inputs": {"rows old/a.jsonl #0": "x"}}
    >>> moved = {"dataset_mixture": {"datasets": [{"id": "new/a.jsonl"}]}}
    >>> with_names_of(moved, {"rows new/a.jsonl #0": "x"}, record) == (rows, record["inputs"])
    True
    >>> with_names_of(moved, {"rows new/a.jsonl #0": "y"}, record) == (moved, {"rows new/a.jsonl #0": "y"})
    True
    """
    config, inputs = _measured_as(_asked_as(config, inputs, record), inputs, record)
    now, before = _sources(config), _sources(record["config"])
    if len(now) != len(before):
        return config, inputs
    sources, named = [], dict(inputs)
    for number, (source, old) in enumerate(zip(now, before, strict=True)):
        label, old_label = (f"rows {one.get(_ID)} #{number}" for one in (source, old))
        same = label in inputs and inputs[label] == record["inputs"].get(old_label) and _kind(source) == _kind(old)
        if same:
            named[old_label] = named.pop(label)
        sources.append(source | {_ID: old[_ID]} if same else source)
    if named == inputs:
        return config, inputs
    return config | {_MIXTURE: config[_MIXTURE] | {_SOURCES: sources}}, named


def _asked_as(config: dict[str, Any], inputs: dict[str, str], record: dict[str, Any]) -> dict[str, Any]:
    """The configuration of pairs or traces with the record's names for prompts and models of the same content."""
    named = dict(config)
    for name, old in record["config"].items():
        new = config.get(name)
        if name not in inputs or inputs[name] != record["inputs"].get(name):
            continue
        if isinstance(new, dict) and isinstance(old, dict) and _MODEL in new and _MODEL in old:
            named[name] = new | {_MODEL: old[_MODEL]}
        if name == _PROMPTS and _listed(new) and _listed(old) and list(map(_kind, new)) == list(map(_kind, old)):
            named[name] = [one | {_ID: was[_ID]} for one, was in zip(new, old, strict=True)]
    return named


def _measured_as(
    config: dict[str, Any], inputs: dict[str, str], record: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of a suite, or of a stage that asks one, and its inputs, with rows of the same content called
    as the record calls them.
    """
    if isinstance(config.get(_SUITE), dict) and isinstance(record["config"].get(_SUITE), dict):
        inside = {"config": record["config"][_SUITE], "inputs": record["inputs"]}
        suite, inputs = _measured_as(config[_SUITE], inputs, inside)
        return config | {_SUITE: suite}, inputs
    now, before = config.get(_TASKS), record["config"].get(_TASKS)
    if not isinstance(now, list) or not isinstance(before, list) or len(now) != len(before):
        return config, inputs
    tasks: list[Any] = []
    called: dict[str, str] = {}
    for task, old in zip(now, before, strict=True):
        named = task
        if isinstance(task, dict) and isinstance(old, dict) and task.get(_DATA) and old.get(_DATA):
            label, old_label = (f"rows {one[_DATA]}" for one in (task, old))
            same = label in inputs and inputs[label] == record["inputs"].get(old_label)
            alike = row_kind(Path(task[_DATA])) == row_kind(Path(old[_DATA]))
            if same and alike and called.setdefault(label, old_label) == old_label:
                named = task | {_DATA: old[_DATA]}
        tasks.append(named)
    return config | {_TASKS: tasks}, {called.get(label, label): value for label, value in inputs.items()}


def _listed(sources: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether these are sources in a list, each with its name."""
    return isinstance(sources, list) and all(isinstance(one, dict) and _ID in one for one in sources)


def _kind(source: dict[str, Any]) -> str | None:
    """By which rows are read: the same bytes may be JSON of one form or another, compressed or not. A pattern of file
    names that tells no kind may have any, and is of none but its own.
    """
    name = str(source.get(_ID))
    return row_kind(Path(name)) or name


def _sources(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources of a configuration, which may be of another kind of stage, or of another release."""
    mixture = config.get(_MIXTURE)
    sources = mixture.get(_SOURCES) if isinstance(mixture, dict) else None
    return sources if isinstance(sources, list) and all(isinstance(one, dict) for one in sources) else []
