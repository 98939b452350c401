"""Models and rows by their ids, local paths or ids of the Hub: where they lie, and the hash of their content."""

import glob
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from apo_soup.config.file_names import COMPRESSED, TABLE_KINDS, TEXT_KINDS, row_kind
from apo_soup.config.places import places_looked_at, unwritable_name
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.addresses import instead_of_address
from apo_soup.runs.known_hashes import content_hash
from apo_soup.runs.model_files import TOKENIZER_FILES, hash_model
from apo_soup.stored_json import Form, read_json
from apo_soup.weights import INDEX_FILE, named_weights, read_header, weight_files, weight_index

# OWNER/NAME, with @REVISION behind it where a merge names a model.
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def is_local(name: str) -> bool:
    """Whether a model or data id can only be a path: it exists, or it does not look like OWNER/NAME of the Hub."""
    begins = name.startswith((".", "/", "~", "runs/", "recipes/", "data/"))
    return os.path.exists(name) or begins or row_kind(Path(name)) is not None or not HUB_ID.fullmatch(name)


# A model's folder has the first of these, an adapter's the second.
MODEL_MARKS = ("config.json", "adapter_config.json")
# Files beside the weights that hold a mapping.
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json")


def model_folder(name: str, where: str, recipe_folder: Path | None = None) -> Path | None:
    """The local folder of a model id, or None for a Hub id.

    `recipe_folder` is where the recipe looked first, for the sentence about a path that is not there.

    Raises:
        UserError: the path is not there, or is not a whole model folder: a file of weights is missing or cut, or one of
            settings cannot be read.
    """
    if not is_local(name):
        return None
    folder = Path(name).expanduser()
    if not folder.exists():
        of_recipe = "write its folder or id as model of recipe.yaml, or here" if name == "base" else None
        looked = f"run the stage that makes it, or correct the path ({places_looked_at(name, recipe_folder)})"
        way = instead_of_address(name, "model") or of_recipe or looked
        raise UserError(f"{where}: expected a model folder, got {name}, which is not there; {way}")
    if folder.suffix.lower() == ".gguf" and folder.is_file():
        raise UserError(
            f"{where}: expected a model folder with config.json and *.safetensors, got the GGUF file {name}, which is "
            "for llama.cpp and cannot be trained; name the folder or the id of the model that it was made of"
        )
    if not folder.is_dir():
        raise UserError(
            f"{where}: expected a model folder with config.json and *.safetensors, got the file {name}; name its folder"
        )
    if not any((folder / name).is_file() for name in MODEL_MARKS):
        raise UserError(f"{where}: expected a model folder with config.json, got {name} without one; correct the path")
    if not weight_files(folder) and not (folder / INDEX_FILE).is_file():
        raise UserError(f"{where}: expected a model folder with model.safetensors, got {_other_weights(name, folder)}")
    for file in weight_files(folder):
        if not file.is_file():
            index = weight_index(folder) or folder / INDEX_FILE
            raise UserError(f"{where}: {index}: expected {file.name} beside it, got no such file; copy the model again")
        read_header(file, where)
    # Of settings that it cannot read, transformers says nothing, and takes defaults in its place.
    for file in (folder / settings for settings in SETTINGS):
        if file.is_file():
            read_json(file, where, "copy the model again")
    return folder


def _other_weights(name: str, folder: Path) -> str:
    """What a folder has instead of weights that transformers would read, and what to do about it."""
    named = named_weights(folder)
    if named:
        return f"{name} without {named}, which transformers_weights in its config.json names; copy the whole folder"
    for pattern, cure in (
        ("pytorch_model*.bin", "load it in transformers and save it again, which writes safetensors"),
        ("*.gguf", "load it in transformers with gguf_file and save it again"),
        ("*.safetensors", f"name it model.safetensors, or put {INDEX_FILE} beside its parts"),
    ):
        found = sorted(folder.glob(pattern))
        if found:
            return f"{name} with {found[0].name}; {cure}"
    return f"{name} without any; run the stage that makes it"


class FileState(NamedTuple):
    """A file as it lay there: one that differs in size or time is another."""

    path: Path
    bytes: int
    mtime_ns: int


def file_states(files: Sequence[Path], where: str) -> list[FileState]:
    """The states of files.

    Raises:
        UserError: one of them went since its folder was read, or may not be looked at.
    """
    try:
        return [FileState(file, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    except OSError as error:
        raise UserError(
            f"{where}: expected {error.filename}, which was there a moment ago, got {error.strerror}; see whether "
            "something moves or removes it, and ask again"
        ) from error


def row_files(name: str, where: str, recipe_folder: Path | None = None) -> list[Path] | None:
    """Local data files of a source id (a path or a glob), or None for a Hub id.

    Raises:
        UserError: a file is not there, or is of a kind that is not read.
    """
    path = Path(name).expanduser()
    files = [path] if path.exists() else sorted(Path(p) for p in glob.glob(str(path), recursive=True))
    for file in files:
        fault = unwritable_name(file)
        if fault:
            raise UserError(f"{where}: {fault}")
        if file.is_dir():
            inside = sorted(one.suffix for one in file.iterdir() if row_kind(one)) or [".jsonl"]
            raise UserError(
                f"{where}: expected a data file, got the folder {file}; name its files, such as '{file}/*{inside[0]}'"
            )
        if row_kind(file) is None or not file.is_file():
            kinds = ", ".join(sorted((*TEXT_KINDS, *TABLE_KINDS)))
            raise UserError(
                f"{where}: expected a data file that ends in one of {kinds}, or a text with one of "
                f"{', '.join(COMPRESSED)} behind that, got {file}; name such a file, or several with *"
            )
    if not files and (is_local(name) or any(c in name for c in "*?[")):
        way = instead_of_address(name, "data set") or f"correct the path ({places_looked_at(name, recipe_folder)})"
        raise UserError(f"{where}: expected a data file, got {name}, which is not there; {way}")
    return files or None


@cache
def hub_commit(kind: str, name: str, revision: str | None) -> str:
    """The commit that a Hub `model` or `dataset` stands at, from the Hub or the local cache; else the revision's name.

    A branch such as `main` moves; a stage made from another commit is stale.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import repo_folder_name

    branch = revision or "main"
    if not constants.HF_HUB_OFFLINE:
        try:
            commit = HfApi().repo_info(name, revision=branch, repo_type=kind, timeout=10).sha
        except (HTTPError, OSError):
            commit = None  # no network or no access: the cache may know, and loading the weights or rows tells the rest
        if commit:
            return commit
    reference = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "refs" / branch
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else branch


def model_hash(name: str, where: str, revision: str | None = None, recipe_folder: Path | None = None) -> str:
    """Content hash of a local model (with an adapter's base), or `hub:NAME@COMMIT`.

    Raises:
        UserError: the path is not there, or is not a whole model folder.
    """
    folder = model_folder(name, where, recipe_folder)
    if folder is None:
        return f"hub:{name}@{hub_commit('model', name, revision)}"
    adapter = folder / "adapter_config.json"
    if not adapter.is_file() or (folder / "config.json").is_file():
        return hash_model(folder)
    base = adapter_base_name(folder, where)
    return hash_value([hash_model(folder), model_hash(base, f"{where}: {adapter}") if base else None])


class AdapterSettings(Form):
    """What is read of adapter_config.json."""

    base_model_name_or_path: str | None = None
    peft_type: str | None = None


def adapter_settings(adapter: Path, where: str) -> dict[str, Any]:
    """The settings of an adapter's folder.

    Raises:
        UserError: the file cannot be read, or is of another form.
    """
    return read_json(adapter / "adapter_config.json", where, "copy the adapter again", AdapterSettings)


def adapter_base_name(adapter: Path, where: str) -> str | None:
    """The model that an adapter names as its base, as its file has it; None where it names none.

    Raises:
        UserError: `adapter_config.json` cannot be read, or is of another form.
    """
    return adapter_settings(adapter, where).get("base_model_name_or_path") or None


def tokenizer_hash(name: str, where: str) -> str:
    """Content hash of a local tokenizer and the configuration beside it, or `hub:NAME@COMMIT`.

    Raises:
        UserError: the path is not there.
    """
    if not is_local(name):
        return f"hub:{name}@{hub_commit('model', name, None)}"
    folder = Path(name).expanduser()
    files = sorted({file for pattern in ("config.json", *TOKENIZER_FILES) for file in folder.glob(pattern)})
    if not files:
        raise UserError(f"{where}: expected a folder with a tokenizer, got {name} without one; correct the path")
    return hash_value({file.relative_to(folder).as_posix(): content_hash(file) for file in files})


def rows_hash(name: str, where: str, revision: str | None = None, recipe_folder: Path | None = None) -> str:
    """Content hash of local data files, or `hub:NAME@COMMIT`.

    Raises:
        UserError: as `row_files` does, and where a file cannot be read.
    """
    files = row_files(name, where, recipe_folder)
    if files is None:
        return f"hub:{name}@{hub_commit('dataset', name, revision)}"
    try:
        return hash_value([content_hash(f) for f in files])
    except OSError as error:
        raise UserError(
            f"{where}: expected data files that can be read, got {error.strerror} ({name}); check their permissions"
        ) from error
