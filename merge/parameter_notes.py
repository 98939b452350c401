"""Parameters of a merge that mergekit reads and passes over, or that are for no tensor that is there."""

from pathlib import Path

from apo_soup.config.merge_methods import filters, unused_by_base, unused_parameters
from apo_soup.config.mergekit import MergekitKeys
from merge.tensors import stored_tensors


def parameter_notes(config: MergekitKeys, folders: list[Path], where: str) -> list[str]:
    """A line for each parameter, or filter of one, without an effect.

    Raises:
        UserError: the weights of a model cannot be read.
    """
    given, method = config.given_values(), config.merge_method
    lines = [f"parameters: {method} has no parameter {name} and passes over it" for name in unused_parameters(given)]
    lines += [
        f"models: {name} of the base model is passed over, for {method} takes what the others differ by from it"
        for name in unused_by_base(given)
    ]
    sought = filters(given)
    known = [name for folder in folders for name in stored_tensors(folder, where)] if sought else []
    lines += [
        f"parameters: no tensor of the models has {part} in its name, so what its filter gives is for none of them"
        for part in sought
        if not any(part in name for name in known)
    ]
    return lines
