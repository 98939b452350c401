"""The data sets of axolotl's, LLaMA-Factory's and ms-swift's configurations as sources of a mixture."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.in_words import as_written

# Names by which axolotl and LLaMA-Factory map columns, and the fields that they are here.
_COLUMNS = {
    "field_messages": "messages",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_system": "system",
    "field": "text",
    "text_column": "text",
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "messages": "conversations",
    "chosen": "chosen",
    "rejected": "rejected",
    "system": "system",
    "tools": "tools",
    "history": "history",
}
# Formats that axolotl's types are, where the rows themselves do not tell.
_FORMATS = {"completion": "text", "pretrain": "text", "alpaca": "alpaca"}
# Of LLaMA-Factory's data sets: keys that say what the rows show, and why others are left out.
_NOT_A_SAY = ("formatting", "tags")
_WHY = {"num_samples": "weight takes a share of a source's rows", "load_from": "the file or the id of the Hub is taken"}
_READ_BY_ROW = ("message_property_mappings", "roles", "message_field_role", "message_field_content", "field_thinking")


_Left = list[tuple[str, str]]


def axolotl_source(entry: Any, key: str = "datasets") -> tuple[dict[str, Any], _Left]:
    """A source of one of axolotl's data sets, and of its keys those that are left out, each with a reason.

    Args:
        key: what the data set stands below.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return {}, [(key, f"a data set without a path, {as_written(entry)}")]
    left: _Left = []
    files = _files(entry)
    source: dict[str, Any] = {"id": entry["path"]}
    local = entry["path"] in ("json", "csv", "parquet", "arrow")
    if files and local and isinstance(files[0], str):
        source["id"] = files[0]
        left += [(f"{key}.data_files", f"a source has one id: add one for {as_written(name)}") for name in files[1:]]
    elif files:
        told = f"expected names of files, got {as_written(entry['data_files'])}"
        left.append((f"{key}.data_files", told if local else "all files of the data set are read"))
    hub = {"name": "config", "split": "split", "revision": "revision"}
    source |= {ours: entry[theirs] for theirs, ours in hub.items() if entry.get(theirs)}
    kind = entry.get("type")
    columns = {**entry, **kind} if isinstance(kind, dict) else entry
    named = {name: columns[name] for name in _COLUMNS if name.startswith(("field", "text_")) and columns.get(name)}
    renamed, wrong = _renamed(named)
    source |= {"rename": renamed} if renamed else {}
    left += [(f"{key}.{name}", why) for name, why in wrong]
    word = kind.partition(":")[0].partition(".")[0] if isinstance(kind, str) else ""
    if word in _FORMATS:
        source["format"] = _FORMATS[word]
    known = {"path", "data_files", "type", "ds_type", *hub, *_COLUMNS, *_READ_BY_ROW}
    left += [(f"{key}.{name}", "nothing here reads it") for name in entry if name not in known and entry[name]]
    if isinstance(kind, dict):
        others = (name for name in kind if name not in _COLUMNS and kind[name])
        left += [(f"{key}.type.{name}", "rows are rendered by the chat template") for name in others]
    return source, left


def _files(entry: dict[str, Any]) -> list[Any]:
    """The files of one of axolotl's data sets: of its split, where they are named by split."""
    files = entry.get("data_files")
    if isinstance(files, dict):
        files = files.get(str(entry.get("split") or "train")) or [files]
    return files if isinstance(files, list) else [files] if files else []


def _renamed(named: dict[Any, Any]) -> tuple[dict[str, str], _Left]:
    """Columns and the fields that they are here, by the names of a project; and what is no name of a column."""
    wrong = [(str(name), f"expected a column's name, got {as_written(v)}") for name, v in named.items()]
    wrong = [one for one, value in zip(wrong, named.values(), strict=True) if not isinstance(value, str)]
    known = {value: _COLUMNS[name] for name, value in named.items() if isinstance(value, str)}
    return {theirs: ours for theirs, ours in known.items() if theirs != ours}, wrong


def llama_factory_sources(names: Any, folder: Path) -> Iterator[tuple[dict[str, Any], _Left]]:
    """Sources of LLaMA-Factory's data sets, looked up in `dataset_info.json` of a folder where it is there; with each,
    what of it is left out, and why.
    """
    listed = names if isinstance(names, list) else str(names or "").split(",")
    info = folder / "dataset_info.json"
    try:
        known = json.loads(info.read_text(encoding="utf-8")) if os.path.isfile(info) else {}
    except (OSError, ValueError, RecursionError):
        known = {}
    for name in filter(None, (str(name).strip() for name in listed)):
        entry = known.get(name) if isinstance(known, dict) else None
        if isinstance(entry, dict):
            yield _llama_factory_source(name, entry, folder)
        else:
            yield {"id": name}, [("dataset", f"{name} is not in {info}: write its file or id")]


def _llama_factory_source(name: str, entry: dict[str, Any], folder: Path) -> tuple[dict[str, Any], _Left]:
    left: _Left = []
    file, hub, columns = entry.get("file_name"), entry.get("hf_hub_url"), entry.get("columns") or {}
    place = hub if isinstance(hub, str) and hub else str(folder / file) if isinstance(file, str) and file else name
    source: dict[str, Any] = {"id": place}
    of_hub = {"subset": "config", "split": "split", "revision": "revision"}
    for theirs, ours in of_hub.items():
        if entry.get(theirs) and place == hub:
            source[ours] = entry[theirs]
    if isinstance(columns, dict):
        renamed, wrong = _renamed({theirs: column for theirs, column in columns.items() if theirs in _COLUMNS})
        source |= {"rename": renamed} if renamed else {}
        left += [(f"dataset.{name}.columns.{theirs}", why) for theirs, why in wrong]
        others = (theirs for theirs in columns if theirs not in _COLUMNS and columns[theirs])
        left += [(f"dataset.{name}.columns.{theirs}", "nothing here reads it") for theirs in others]
    else:
        left.append((f"dataset.{name}.columns", f"expected fields and their columns, got {as_written(columns)}"))
    if file and place == name:
        left.append((f"dataset.{name}.file_name", f"expected a file, got {as_written(file)}"))
    read = ("columns", "hf_hub_url", "ranking", *(of_hub if place == hub else []), "file_name")
    others = (key for key in entry if key not in (*read, *_READ_BY_ROW, *_NOT_A_SAY) and entry[key])
    return source, left + [(f"dataset.{name}.{key}", _WHY.get(key, "nothing here reads it")) for key in others]


def swift_sources(names: Any, columns: Any) -> Iterator[tuple[dict[str, Any], _Left]]:
    """Sources of ms-swift's data sets, each `ID:SUBSET/SUBSET#COUNT`; with each, what of it is left out, and why.

    Args:
        columns: columns of the rows and the fields that they are, which hold for all.
    """
    if isinstance(columns, str):
        try:
            columns = json.loads(columns)
        except (ValueError, RecursionError):
            columns = None
    given = columns.items() if isinstance(columns, dict) else ()
    renamed = {str(theirs): ours for theirs, ours in given if isinstance(ours, str)}
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or not name:
            yield {}, [("dataset", f"expected a data set's file or id, got {as_written(name)}")]
            continue
        place, _, count = name.partition("#") if not os.path.exists(name) else (name, "", "")
        place = place.removeprefix("HF::").removeprefix("hf::")
        path, _, subsets = place.partition(":") if not os.path.exists(place) else (place, "", "")
        left = [(f"dataset.{name}", f"{count} rows: {_WHY['num_samples']}")] if count else []
        if path in ("MS", "ms"):  # MS::OWNER/NAME
            left.append((f"dataset.{name}", "a data set of ModelScope: write its file, or its id on the Hub"))
            path, _, subsets = subsets.removeprefix(":").partition(":")
        rename = {"rename": renamed} if renamed else {}
        for subset in subsets.split("/"):
            yield {"id": path, **({"config": subset} if subset else {}), **rename}, left
            left = []
