"""Models as mergekit is to see them: folders of links, with an index of the tensors that count.

mergekit reads an index before a single file, where transformers reads the file, and takes a stored copy of a tied head
for a tensor of its own. An index of our own in a folder of links says the same to both.
"""

import json
import re
from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.stored_json import read_json
from apo_soup.weights import INDEX_FILE, WEIGHTS_FILE, weight_files
from merge.loading import model_class
from merge.mergekit_names import with_models
from merge.model_tensors import has_several_parts, model_tensors


def with_views(config: MergekitKeys, folder: Path, where: str) -> MergekitKeys:
    """A mergekit configuration in which every model is such a folder, below `folder`.

    Raises:
        UserError: as `model_tensors`.
    """
    return with_models(config, lambda model: str(model_view(Path(model), folder, where)))


def view_place(model: Path, folder: Path) -> Path:
    """Where the links to a model's files lie: one place a model, below `folder`."""
    # mergekit reads + and @ in a path as an adapter and a revision.
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '-', model.name)}-{hash_value(str(model))[:8]}"


def model_view(model: Path, folder: Path, where: str) -> Path:
    """The folder of links to a model's files, made now if it is not there yet.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    view = view_place(model, folder)
    if view.exists():
        return view
    view.mkdir(parents=True)
    for file in model.iterdir():
        if file.suffix not in (".safetensors", ".bin", ".pt", ".pth") and not file.name.endswith(".index.json"):
            (view / file.name).symlink_to(file.resolve())
    if has_several_parts(model, where):
        _write_as_in_memory(model, view, where)
        return view
    weights = weight_files(model)
    for number, file in enumerate(weights, 1):
        (view / _part(number, len(weights))).symlink_to(file.resolve())
    part_of = {file: _part(number, len(weights)) for number, file in enumerate(weights, 1)}
    file_of = {name: part_of[stored.file] for name, stored in model_tensors(model, where).items()}
    (view / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": file_of}))
    return view


def _write_as_in_memory(model: Path, view: Path, where: str) -> None:
    """Write the weights of a model of several parts under the names that they have in memory: mergekit looks for those,
    and leaves out, without a word, what a checkpoint names otherwise.
    """
    from safetensors.torch import save_file

    known = model_class(read_json(model / "config.json", where))
    if known is None:
        raise UserError(
            f"{where}: {model}: expected a model of several parts that transformers has a class for, got one with its "
            "own code; merge it with mergekit"
        )
    loaded = known.from_pretrained(model, dtype="auto")
    tied = loaded.all_tied_weights_keys
    tensors = {name: t.contiguous() for name, t in loaded.state_dict().items() if name not in tied}
    save_file(tensors, view / WEIGHTS_FILE, metadata={"format": "pt"})


def _part(number: int, parts: int) -> str:
    return f"model-{number:05}-of-{parts:05}.safetensors"
