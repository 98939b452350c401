"""A merged folder as transformers loads it: every tensor finds its place, and every place its tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, told_by_library
from apo_soup.progress import say
from apo_soup.stored_json import read_json
from merge.tensors import stored_tensors

# What transformers tells of a load -> how a sentence says it.
_KINDS = {
    "missing_keys": "a tensor for {name}, got none",
    "mismatched_keys": "tensor {name} in the shape that the configuration gives it, got another",
    "unexpected_keys": "no tensor {name}, which the configuration has no place for, got one",
}


# Names of tensors by kind of fault: "missing_keys", "mismatched_keys", "unexpected_keys".
LoadingFaults = dict[str, set[str]]


def check_loads(
    folder: Path,
    parents: list[Path],
    where: str,
    sliced: bool = False,
    faults: Callable[[Path, str], LoadingFaults | None] | None = None,
) -> None:
    """Load a merged folder in transformers, on the meta device, where tensors have shapes and no values. What a parent
    has left over too when it is loaded is told, and no fault of the merge.

    Args:
        sliced: the merge chose layers, and not all of its parents'.
        faults: loads a folder, as `loading_faults` does, which is taken where none is given.

    Raises:
        UserError: transformers cannot load it, or a tensor is missing, has no place or another shape.
    """
    faults = faults or loading_faults
    found = faults(folder, where)
    if found is None:
        say(f"note: {where}: the merged folder is not loaded, for the model comes with its own code")
        return
    if not any(found.values()):
        return
    known = {parent: theirs for parent in parents if (theirs := faults(parent, where))}
    for kind, sentence in _KINDS.items():
        for name in sorted(found[kind]):
            at_fault = [parent for parent, theirs in known.items() if name in theirs[kind]]
            if at_fault and kind == "unexpected_keys":
                continue
            more = f" (and {len(found[kind]) - 1:,} more)" if len(found[kind]) > 1 else ""
            named = at_fault[0] if at_fault else "the merged folder"
            raise UserError(
                f"{where}: {named}: expected {sentence.format(name=name)}{more}; {_cure(name, parents, where, sliced)}"
            )
    left = sorted(found["unexpected_keys"])
    more = f" and {len(left) - 1:,} more" if left[1:] else ""
    say(f"note: {where}: transformers reads no tensor {left[0]}{more}, in the merged folder as in its parents")


def _cure(name: str, parents: list[Path], where: str, sliced: bool) -> str:
    """What to do about a tensor without a place, or a place without a tensor."""
    if sliced:
        return "choose layers in an order that its config.json can describe"
    if any(name in stored_tensors(parent, where) for parent in parents):
        return (
            "mergekit writes the tensors that its table of the architecture lists: average the models with "
            "merge_method linear, which takes all"
        )
    return "merge models whose weights and config.json belong together"


def model_class(config: dict[str, Any]) -> Any:
    """The class of transformers that a config.json names, or that its model type has; None where transformers has
    neither, for such a model's own code is not run here.
    """
    import transformers
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    if config.get("model_type") not in CONFIG_MAPPING:
        return None
    named = (getattr(transformers, str(name), None) for name in config.get("architectures") or [])
    return next((one for one in named if one is not None), AutoModelForCausalLM)


def loading_faults(folder: Path, where: str) -> LoadingFaults | None:
    """The names that transformers finds missing, left over or of another shape; None where it has no class for the
    model, whose own code is not run here.

    Raises:
        UserError: transformers refuses the folder.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils import logging

    known = model_class(read_json(folder / "config.json", where))
    if known is None:
        return None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    refusals = (ValueError, OSError, RuntimeError, TypeError, KeyError, AttributeError, StrictDataclassError)
    try:
        with told_by_library(where, refusals, expected=f"a folder that transformers loads, {folder}", way="mend it"):
            _, info = known.from_pretrained(
                folder, device_map="meta", dtype="auto", output_loading_info=True, ignore_mismatched_sizes=True
            )
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    return {kind: {str(n[0] if isinstance(n, tuple) else n) for n in info[kind]} for kind in _KINDS}
