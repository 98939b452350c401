"""The data sets of axolotl's and LLaMA-Factory's configurations as sources of a mixture."""

import json
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
_READ_BY_ROW = ("message_property_mappings", "roles", "message_field_role", "message_field_content", "field_thinking")


def axolotl_source(entry: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A source of one of axolotl's data sets, and of its keys those that are left out, each with a reason."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return {}, [("datasets", f"a data set without a path, {as_written(entry)}")]
    left: list[tuple[str, str]] = []
    files = entry.get("data_files")
    files = files if isinstance(files, list) else [files] if files else []
    source: dict[str, Any] = {"id": entry["path"]}
    if files and entry["path"] in ("json", "csv", "parquet", "arrow"):
        source["id"] = files[0]
        left += [("datasets.data_files", f"a source has one id: add one for {name}") for name in files[1:]]
    elif files:
        left.append(("datasets.data_files", "all files of the data set are read"))
    source |= {ours: entry[theirs] for theirs, ours in (("name", "config"), ("split", "split")) if entry.get(theirs)}
    kind = entry.get("type")
    columns = {**entry, **kind} if isinstance(kind, dict) else entry
    rename = {
        columns[name]: field for name, field in _COLUMNS.items() if name.startswith("field") and columns.get(name)
    }
    source |= {"rename": renamed} if (renamed := {a: b for a, b in rename.items() if a != b}) else {}
    word = kind.partition(":")[0].partition(".")[0] if isinstance(kind, str) else ""
    if word in _FORMATS:
        source["format"] = _FORMATS[word]
    known = {"path", "data_files", "name", "split", "type", "ds_type", *_COLUMNS, *_READ_BY_ROW}
    left += [(f"datasets.{name}", "nothing here reads it") for name in entry if name not in known and entry[name]]
    return source, left


def llama_factory_sources(names: Any, folder: Path) -> Iterator[tuple[dict[str, Any], list[tuple[str, str]]]]:
    """Sources of LLaMA-Factory's data sets, looked up in `dataset_info.json` of a folder where it is there."""
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else names or []
    info = folder / "dataset_info.json"
    try:
        known = json.loads(info.read_text(encoding="utf-8")) if info.is_file() else {}
    except ValueError:
        known = {}
    for name in listed:
        entry = known.get(name) if isinstance(known, dict) else None
        if not isinstance(entry, dict):
            yield {"id": str(name)}, [("dataset", f"{name} is not in {info}: write its file or id")]
            continue
        file = entry.get("file_name")
        place = str(folder / file) if file else entry.get("hf_hub_url") or name
        columns = entry.get("columns") or {}
        rename = {theirs: _COLUMNS[name] for name, theirs in columns.items() if name in _COLUMNS}
        rename = {theirs: ours for theirs, ours in rename.items() if theirs != ours}
        yield {"id": place, **({"rename": rename} if rename else {})}, []
