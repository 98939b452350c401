"""Models as mergekit is to see them: folders of links, with an index of the tensors that count.

mergekit reads an index before a single file, where transformers reads the file, and takes a stored copy of a tied head
for a tensor of its own. An index of our own in a folder of links says the same to both.
"""

import json
import re
from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.hashing import hash_value
from apo_soup.weights import INDEX_FILE, WEIGHTS_FILE, weight_files
from merge.mergekit_names import with_models
from merge.mergekit_tables import tensors_in_memory
from merge.model_tensors import model_tensors


def with_views(config: MergekitKeys, folder: Path, where: str, in_memory: bool = False) -> MergekitKeys:
    """A mergekit configuration in which every model is such a folder, below `folder`.

    Args:
        in_memory: the tensors have the names of memory, and not those of their files.

    Raises:
        UserError: as `model_tensors`, or as `tensors_in_memory`.
    """
    return with_models(config, lambda model: str(model_view(Path(model), folder, where, in_memory)))


def view_place(model: Path, folder: Path) -> Path:
    """Where the links to a model's files lie: one place a model, below `folder`."""
    # mergekit reads + and @ in a path as an adapter and a revision.
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '-', model.name)}-{hash_value(str(model))[:8]}"


def model_view(model: Path, folder: Path, where: str, in_memory: bool = False) -> Path:
    """The folder of links to a model's files, made now if it is not there yet. With the names of memory its weights are
    written anew.

    Raises:
        UserError: as `with_views`.
    """
    view = view_place(model, folder)
    if view.exists():
        return view
    view.mkdir(parents=True)
    for file in model.iterdir():
        if file.suffix not in (".safetensors", ".bin", ".pt", ".pth") and not file.name.endswith(".index.json"):
            (view / file.name).symlink_to(file.resolve())
    if in_memory:
        from safetensors.torch import save_file

        save_file(tensors_in_memory(model, where), view / WEIGHTS_FILE, metadata={"format": "pt"})
        return view
    weights = weight_files(model)
    for number, file in enumerate(weights, 1):
        (view / _part(number, len(weights))).symlink_to(file.resolve())
    part_of = {file: _part(number, len(weights)) for number, file in enumerate(weights, 1)}
    file_of = {name: part_of[stored.file] for name, stored in model_tensors(model, where).items()}
    (view / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": file_of}), encoding="utf-8")
    return view


def _part(number: int, parts: int) -> str:
    return f"model-{number:05}-of-{parts:05}.safetensors"
