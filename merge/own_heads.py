"""Models of which one ties its head to the embeddings and another does not: each with a head of its own.

An adapter on the embeddings or the head of a tied model leaves a head that is no longer the embeddings. Averaged with
the model that it began from, that model's head is its embeddings.
"""

import json
from pathlib import Path

from safetensors.torch import save_file

from apo_soup.hashing import hash_value
from apo_soup.stored_json import read_json
from apo_soup.weights import INDEX_FILE, weight_files
from merge.model_tensors import EMBEDDINGS, HEADS, has_several_parts, model_tensors, ties_head
from merge.tensors import StoredTensor, stored_tensors


def with_own_heads(folders: list[Path], scratch: Path, where: str) -> dict[Path, Path]:
    """Models that tie their head where another one does not, each with a folder below `scratch` that takes its place:
    links to its files, and its head beside them. Nothing where all of them tie it, or none.

    Raises:
        UserError: a head is tied and stored with values of its own.
    """
    known = [folder for folder in folders if (folder / "config.json").is_file()]
    if any(has_several_parts(folder, where) for folder in known):
        return {}
    tied = {folder: ties_head(folder, where) for folder in known}
    apart = next((stored_tensors(folder, where) for folder, ties in tied.items() if not ties), {})
    head = next((name for name in apart if name.endswith(HEADS)), None)
    if head is None:
        return {}
    made = {}
    for folder in (folder for folder, ties in tied.items() if ties):
        model_tensors(folder, where)  # a head that is stored and no copy of the embeddings is refused
        stored = stored_tensors(folder, where)
        embeddings = [n for n, t in stored.items() if n.endswith(EMBEDDINGS) and t.shape == apart[head].shape]
        if len(embeddings) == 1:
            made[folder] = _with_own_head(folder, head, stored, embeddings[0], scratch, where)
    return made


def by_head(folders: list[Path], where: str) -> list[list[Path]]:
    """The folders in two lists, of those that tie their head and of those that do not, without one that is empty: what
    `with_own_heads` makes of them is alike if each list is.

    Raises:
        UserError: a configuration cannot be read, or is of another form.
    """
    if any(has_several_parts(folder, where) for folder in folders):
        return [folders]
    tied = [folder for folder in folders if ties_head(folder, where)]
    return [one for one in (tied, [folder for folder in folders if folder not in tied]) if one]


def _with_own_head(
    folder: Path, head: str, stored: dict[str, StoredTensor], embedding: str, scratch: Path, where: str
) -> Path:
    """The folder of links, made now if it is not there yet."""
    view = scratch / f"own-head-{hash_value(str(folder))[:16]}"
    if (view / "config.json").is_file():
        return view
    view.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json" and not file.name.endswith(".index.json"):
            (view / file.name).symlink_to(file.resolve())
    files = weight_files(folder)
    part_of = {file: f"model-{number:05}-of-{len(files) + 1:05}.safetensors" for number, file in enumerate(files, 1)}
    for file, part in part_of.items():
        (view / part).symlink_to(file.resolve())
    file_of = {name: part_of[values.file] for name, values in stored.items()}
    if head not in stored:
        values = stored[embedding]
        file_of[head] = f"model-{len(files) + 1:05}-of-{len(files) + 1:05}.safetensors"
        save_file({head: values.read(0, values.count).view(values.shape)}, view / file_of[head], {"format": "pt"})
    (view / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": file_of}), encoding="utf-8")
    config = read_json(folder / "config.json", where) | {"tie_word_embeddings": False}
    config.pop("transformers_weights", None)
    (view / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return view
