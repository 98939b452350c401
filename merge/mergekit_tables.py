"""Whether mergekit's table of an architecture is of the tensors that models have.

mergekit knows most architectures by a table of their tensors, written from the checkpoints of one time. What a table
does not list is left out of a merge, without a word, and what it demands and a checkpoint lacks is refused: the
attention biases of a Llama, the masks that older files of GPT-NeoX hold, a vision tower saved by another release of
transformers. mergekit can also take the tensors that a model's class in transformers has, as it does where it has no
table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.stored_json import read_json
from merge.loading import loading_faults, model_class
from merge.model_tensors import has_several_parts, model_tensors


@dataclass(frozen=True)
class TensorNames:
    """How mergekit is to see the tensors of a merge: under the names that they have `in_memory`, and not in their
    files; by its own `table` of the architecture, and not by what the class in transformers has.
    """

    in_memory: bool
    table: bool


def tensor_names(folders: list[Path], where: str) -> TensorNames:
    """The names by which mergekit loses no tensor of these models.

    Raises:
        UserError: as `model_tensors`, or a model comes with its own code, and has other tensors than mergekit's table.
    """
    stored = {folder: set(model_tensors(folder, where)) for folder in folders}
    if all(_fits(folder, names, where) for folder, names in stored.items()):
        return TensorNames(in_memory=False, table=True)
    loaded = {folder: names_in_memory(folder, where) for folder in folders}
    if all(_fits(folder, names, where) for folder, names in loaded.items()):
        return TensorNames(in_memory=True, table=True)
    return TensorNames(in_memory=stored != loaded, table=False)


def names_in_memory(folder: Path, where: str) -> set[str]:
    """The names that a model's tensors have once they are loaded, a tied one once.

    Raises:
        UserError: the model comes with its own code, which is not run here.
    """
    loaded = _known_class(folder, where).from_pretrained(folder, device_map="meta", dtype="auto")
    return set(loaded.state_dict()) - set(loaded.all_tied_weights_keys)


def tensors_in_memory(folder: Path, where: str) -> dict[str, Any]:
    """The tensors, of any shape, by those names.

    Raises:
        UserError: as `names_in_memory`.
    """
    loaded = _known_class(folder, where).from_pretrained(folder, dtype="auto")
    tied = loaded.all_tied_weights_keys
    return {name: tensor.contiguous() for name, tensor in loaded.state_dict().items() if name not in tied}


def _known_class(folder: Path, where: str) -> Any:
    known = model_class(read_json(folder / "config.json", where))
    if known is None:
        raise UserError(
            f"{where}: {folder}: expected tensors that mergekit's table of the architecture lists, or a class of "
            "transformers that has them, got a model with its own code; merge it with mergekit"
        )
    return known


def _fits(folder: Path, names: set[str], where: str) -> bool:
    """Whether mergekit's table lists all tensors of these names that the model is loaded from, and demands no other.
    One that it makes of others when it reads them, such as a tensor of all experts, is there.
    """
    from mergekit.architecture import arch_info_for_config
    from mergekit.architecture.conversion import can_convert_checkpoint_keys
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError):
        return True  # mergekit's to judge
    table = arch_info_for_config(config)
    if table is None:
        return not has_several_parts(folder, where)
    try:
        listed = table.all_weights(config)
    except (RuntimeError, AttributeError, TypeError):
        return False  # written for another form of the configuration
    known = [{weight.name, *(weight.aliases or ()), *(weight.tied_names or ())} for weight in listed]
    absent = [weight.name for weight, own in zip(listed, known, strict=True) if not (own & names or weight.optional)]
    if absent:
        return all(can_convert_checkpoint_keys(config.model_type, names, name) for name in absent)
    lost = names - set().union(*known)
    return not lost or lost <= _without_place(folder, where)


def _without_place(folder: Path, where: str) -> set[str]:
    """The tensors of a model that transformers has no place for, such as layers for speculative decoding."""
    return (loading_faults(folder, where) or {}).get("unexpected_keys", set())
