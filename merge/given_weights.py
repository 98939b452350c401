"""The weights that a linear merge gives its models. No torch: `check` asks too."""

import math

from apo_soup.config.mergekit import MergekitKeys, MergekitParameters
from apo_soup.errors import UserError


def check_weights(config: MergekitKeys, where: str) -> None:
    """The weights of a linear merge: finite, and of a sum that the method can work with.

    Raises:
        UserError: they are not.
    """
    if config.merge_method != "linear" or not config.models:
        return  # of slices or modules, or what mergekit refuses in its own words
    shared = config.parameters or MergekitParameters()
    usual = shared.weight if shared.gives("weight") else 1.0
    own = [entry.parameters or MergekitParameters() for entry in config.models]
    given = [parameters.weight if parameters.gives("weight") else usual for parameters in own]
    weights = [w for w in given if isinstance(w, (int, float))]
    if len(weights) < len(given):
        return  # by layer or by tensor: mergekit's to judge
    where, total = f"{where}.models: the weights", sum(weights)
    if not math.isfinite(total):
        raise UserError(f"{where}: expected finite numbers, got {weights}; correct them")
    if shared.normalize if shared.gives("normalize") else True:
        if abs(total) < 1e-6:
            raise UserError(
                f"{where}: expected a sum other than 0, by which normalize divides, got {weights}; correct them"
            )
    elif abs(total - 1) > 1e-6:
        raise UserError(
            f"{where}: expected a sum of 1 with normalize: false, for another scales the model, got {weights}, which "
            f"sum to {total:g}; let them sum to 1, or leave normalize out"
        )
