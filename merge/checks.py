"""What must hold before anything is merged: whole folders, equal architecture, tensors, vocabulary and template."""

import math
import shutil
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, read_json
from apo_soup.runs.model_files import not_finite
from merge.tensors import stored_tensors

# Keys of a merge file by which its author says which tokens, and which template, the result has.
TOKEN_KEYS = ("tokenizer", "tokenizer_source")
TOKENIZER_KEYS = (*TOKEN_KEYS, "chat_template")
TOKENS = ("tokenizer.json", "tokenizer.model", "vocab.json")
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Keys of config.json that change what equal weights compute; a key that only one model writes is a default of both.
ARCHITECTURE = (
    "architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "layer_types",
    "no_rope_layers", "sliding_window", "tie_word_embeddings", "vocab_size",
)  # fmt: skip


def check_merge(config: dict[str, Any], models: list[str], output: Path, where: str) -> None:
    """Refuse a merge that makes no sense.

    Raises:
        UserError: naming folder and tensor, before anything is written.
    """
    check_weights(config, where)
    folders = [Path(m) for m in models if (Path(m) / "config.json").is_file()]
    if not folders:
        return
    named = any(config.get(key) for key in TOKEN_KEYS)
    elements, itemsize = check_alike(folders, where, named)
    if not named:
        check_tokenizers(folders, where, bool(config.get("chat_template")))
        donor = Path(config.get("base_model") or folders[0])
        if not any((donor / name).is_file() for name in TOKENS):
            raise UserError(
                f"{where}: {donor} has no tokenizer (none of {', '.join(TOKENS)}), and the merged model takes its own "
                "from there; put its files beside the weights, or name another model with tokenizer_source"
            )
    written = str(config.get("out_dtype") or config.get("dtype") or "").removeprefix("torch.")
    check_disk(elements * ITEM_BYTES.get(written, itemsize), output, where)
    check_finite(folders, where)


def check_weights(config: dict[str, Any], where: str) -> None:
    """The weights of a linear merge: finite, and of a sum that the method can work with."""
    if config.get("merge_method") != "linear":
        return
    entries, shared = config.get("models") or [], config.get("parameters") or {}
    if not entries or not isinstance(shared, dict) or not all(isinstance(e, dict) for e in entries):
        return  # slices, modules, or what mergekit refuses in its own words
    weights = [(e.get("parameters") or {}).get("weight", shared.get("weight", 1.0)) for e in entries]
    if not all(isinstance(w, (int, float)) for w in weights):
        return  # by layer or by tensor: mergekit's to judge
    total = sum(weights)
    if not math.isfinite(total):
        raise UserError(f"{where}: the weights {weights} are not finite")
    if shared.get("normalize", True):
        if abs(total) < 1e-6:
            raise UserError(f"{where}: the weights {weights} sum to 0, and normalize divides by their sum")
    elif abs(total - 1) > 1e-6:
        raise UserError(
            f"{where}: the weights {weights} sum to {total:g} with normalize: false, which would scale the model; "
            "let them sum to 1, or leave normalize out"
        )


def check_alike(folders: list[Path], where: str, own_tokenizer: bool = False) -> tuple[int, int]:
    """Refuse models that cannot be averaged; returns how many values the first one has, and the bytes of its largest.

    Args:
        own_tokenizer: the merge names its tokenizer, so vocabularies, and what has a row a token, may differ.
    """
    first, *others = folders
    shapes, made = _shapes(first, where, own_tokenizer), _architecture(first, where)
    for folder in others:
        other = _architecture(folder, where)
        for key in made:
            both = key in other and made[key] is not None and other[key] is not None
            if both and other[key] != made[key] and not (own_tokenizer and key == "vocab_size"):
                raise UserError(
                    f"{where}: {key} is {other[key]} in {folder}/config.json and {made[key]} in {first}/config.json; "
                    "only equal architectures merge"
                )
        found = _shapes(folder, where, own_tokenizer)
        for name in sorted(shapes.keys() ^ found.keys()):
            missing = folder if name in shapes else first
            raise UserError(f"{where}: tensor {name} is missing in {missing}")
        for name, shape in shapes.items():
            if found[name] != shape:
                raise UserError(
                    f"{where}: tensor {name} is {list(found[name])} in {folder} and {list(shape)} in {first}"
                )
    stored = stored_tensors(first, where).values()
    return sum(s.count for s in stored), max(s.dtype.itemsize for s in stored)


def _architecture(folder: Path, where: str) -> dict[str, Any]:
    """What decides the function that the weights compute, beside their shapes."""
    config = read_json(folder / "config.json", where)
    kept = {key: config.get(key) for key in ARCHITECTURE}
    rope = config.get("rope_parameters") or {}
    return kept | {"rope_theta": rope.get("rope_theta", config.get("rope_theta"))}


def _shapes(folder: Path, where: str, own_tokenizer: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by name; a copy of tied embeddings under the head's name does not count."""
    shapes = {name: stored.shape for name, stored in stored_tensors(folder, where).items()}
    if read_json(folder / "config.json", where).get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    if own_tokenizer:
        shapes = {n: s[1:] if n.endswith(("embed_tokens.weight", "lm_head.weight")) else s for n, s in shapes.items()}
    return shapes


def check_tokenizers(folders: list[Path], where: str, own_template: bool = False) -> None:
    """Refuse models whose tokens or, without `own_template`, chat templates differ, where both say what theirs are."""
    for read, what in ((_tokens, "tokens"), (_end, "end-of-turn token"), (_template, "chat template")):
        if own_template and read is _template:
            continue
        known = [(folder, read(folder, where)) for folder in folders]
        known = [(folder, value) for folder, value in known if value is not None]
        for folder, value in known[1:]:
            if value != known[0][1]:
                raise UserError(
                    f"{where}: {folder} and {known[0][0]} differ in their {what}; take models of one family, or say "
                    f"which is meant with mergekit's key {'chat_template' if read is _template else 'tokenizer_source'}"
                )


def _tokens(folder: Path, where: str) -> Any:
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = read_json(file, where)
    return tokenizer.get("model", {}).get("vocab"), [(t["id"], t["content"]) for t in tokenizer.get("added_tokens", [])]


def _end(folder: Path, where: str) -> Any:
    settings = folder / "tokenizer_config.json"
    end = read_json(settings, where).get("eos_token") if settings.is_file() else None
    return end.get("content") if isinstance(end, dict) else end


def _template(folder: Path, where: str) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    settings = folder / "tokenizer_config.json"
    template = read_json(settings, where).get("chat_template") if settings.is_file() else None
    return template.strip() if isinstance(template, str) else None


def check_adapters(adapted: list[tuple[Path, Path]], output: Path, where: str) -> None:
    """Refuse adapters, each with its base, whose merged models would not fit on the disk or hold no numbers.

    They are whole models for as long as the merge takes, so this comes before the first of them is written.
    """
    bases = list(dict.fromkeys(base for base, _ in adapted))
    check_alike(bases, where)
    size = {base: sum(s.count * s.dtype.itemsize for s in stored_tensors(base, where).values()) for base in bases}
    check_disk(sum(size[base] for base, _ in adapted), output, where)
    check_finite([*bases, *(adapter for _, adapter in adapted)], where)


def check_finite(folders: list[Path], where: str) -> None:
    """Refuse weights that hold NaN or infinity."""
    for folder in folders:
        bad = not_finite(folder)
        if bad:
            raise UserError(f"{where}: tensor {bad[1]} of {bad[0]} holds values that are not finite")


def check_disk(size: int, output: Path, where: str) -> None:
    """Refuse where the result, in the type it is written in, would not fit."""
    place = output
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(f"{where}: {place} has {free / 1e9:.1f} GB free and the merge needs about {size / 1e9:.1f} GB")
