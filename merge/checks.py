"""What must hold before anything is merged: whole folders, equal architecture, tensors, vocabulary and template."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from merge.tensors import stored_tensors
from pipeline.errors import UserError

# Keys of a merge file by which its author says which tokenizer the result has.
TOKENIZER_KEYS = ("tokenizer", "tokenizer_source", "chat_template")


def check_merge(config: dict[str, Any], models: list[str], output: Path, where: str) -> None:
    """Refuse a merge that makes no sense.

    Raises:
        UserError: naming folder and tensor, before anything is written.
    """
    check_weights(config, where)
    folders = [Path(m) for m in models if (Path(m) / "config.json").is_file()]
    if not folders:
        return
    size = check_alike(folders, where)
    if not any(config.get(key) for key in TOKENIZER_KEYS):
        check_tokenizers(folders, where)
    check_disk(size, output, where)


def check_weights(config: dict[str, Any], where: str) -> None:
    """The weights of a linear merge: finite, and of a sum that the method can work with."""
    if config.get("merge_method") != "linear":
        return
    entries = config.get("models") or []
    weights = [(e.get("parameters") or {}).get("weight", 1.0) for e in entries if isinstance(e, dict)]
    if not all(isinstance(w, (int, float)) for w in weights):
        return  # by layer or by tensor: mergekit's to judge
    total = sum(weights)
    if not math.isfinite(total):
        raise UserError(f"{where}: the weights {weights} are not finite")
    if (config.get("parameters") or {}).get("normalize", True):
        if abs(total) < 1e-6:
            raise UserError(f"{where}: the weights {weights} sum to 0, and normalize divides by their sum")
    elif abs(total - 1) > 1e-6:
        raise UserError(
            f"{where}: the weights {weights} sum to {total:g} with normalize: false, which would scale the model; "
            "let them sum to 1, or leave normalize out"
        )


def check_alike(folders: list[Path], where: str) -> int:
    """Refuse models that cannot be averaged; returns the bytes of the first one's weights."""
    first, *others = folders
    kind, shapes = _architecture(first, where), _shapes(first, where)
    for folder in others:
        other = _architecture(folder, where)
        if other != kind:
            raise UserError(f"{where}: {folder} is a {other} and {first} is a {kind}; only equal architectures merge")
        found = _shapes(folder, where)
        for name in sorted(shapes.keys() ^ found.keys()):
            missing = folder if name in shapes else first
            raise UserError(f"{where}: tensor {name} is missing in {missing}")
        for name, shape in shapes.items():
            if found[name] != shape:
                raise UserError(
                    f"{where}: tensor {name} is {list(found[name])} in {folder} and {list(shape)} in {first}"
                )
    return sum(s.count * s.dtype.itemsize for s in stored_tensors(first, where).values())


def _architecture(folder: Path, where: str) -> Any:
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise UserError(f"{where}: {folder}/config.json is not valid JSON: {error}") from error
    return (config.get("architectures") or [config.get("model_type")])[0]


def _shapes(folder: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes by name; a copy of tied embeddings under the head's name does not count."""
    shapes = {name: stored.shape for name, stored in stored_tensors(folder, where).items()}
    if json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return shapes


def check_tokenizers(folders: list[Path], where: str) -> None:
    """Refuse models whose tokens or chat templates differ, where both say what theirs are."""
    for read, what in ((_tokens, "tokens"), (_template, "chat template")):
        known = [(folder, read(folder)) for folder in folders]
        known = [(folder, value) for folder, value in known if value is not None]
        for folder, value in known[1:]:
            if value != known[0][1]:
                raise UserError(
                    f"{where}: {folder} and {known[0][0]} differ in their {what}; take models of one family, or say "
                    "which is meant with mergekit's keys tokenizer or chat_template"
                )


def _tokens(folder: Path) -> Any:
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    return tokenizer["model"].get("vocab"), [(t["id"], t["content"]) for t in tokenizer.get("added_tokens", [])]


def _template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    settings = folder / "tokenizer_config.json"
    template = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return template.strip() if isinstance(template, str) else None


def check_disk(size: int, output: Path, where: str) -> None:
    """Refuse where the result, twice as large if it is written in float32, might not fit beside the inputs."""
    place = output
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(
            f"{where}: {place} has {free / 1e9:.1f} GB free and the merged model needs about {size / 1e9:.1f} GB"
        )
