"""Keys of preference losses that say nothing, or something impossible, beside the loss that is chosen.

TRL passes over most of them without a word, and tells the rest when rows are tokenised and the model is loaded.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from apo_soup.config.in_words import as_written
from apo_soup.config.keys import is_finite
from apo_soup.config.stage_file import Fault

if TYPE_CHECKING:
    from apo_soup.config.apo import ApoFile

# Losses that read `label_smoothing`.
SMOOTHED = {"exo_pair", "robust", "aot", "aot_unpaired"}
# Losses of the difference of both answers: in the others another divergence leaves a term that depends on the prompt.
DIVERGENT = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
# Losses that sort the answers of a batch, so that no weight belongs to a pair.
SORTING = {"aot", "aot_unpaired"}
# Losses by which the pairs of a micro-batch depend on each other: it also takes the mean over all of its tokens.
COUPLING = {*SORTING, "sft"}


def loss_faults(recipe: "ApoFile") -> Iterator[Fault]:
    """What is wrong with the keys of an apo file's losses together."""
    kinds: set[str] = set(recipe.loss_type)
    names = ", ".join(recipe.loss_type)
    yield from _smoothing_faults(recipe, kinds, names)
    divergence = recipe.f_divergence_type
    if divergence != "reverse_kl" and kinds - DIVERGENT:
        told = f"expected losses that have another divergence ({', '.join(sorted(DIVERGENT))}), got {divergence} with "
        yield Fault("f_divergence_type", f"{told}loss_type {names}; leave one of them out", ("loss_type",))
    # What is written out with the library's own value changes nothing.
    for key, beside, said, is_read in (
        ("f_alpha_divergence_coef", "f_divergence_type", "alpha_divergence", divergence == "alpha_divergence"),
        ("ref_model_mixup_alpha", "sync_ref_model", "true", recipe.sync_ref_model),
        ("ref_model_sync_steps", "sync_ref_model", "true", recipe.sync_ref_model),
    ):
        if recipe.differs(key) and not is_read:
            told = f"expected {beside}: {said} beside it, without which nothing reads it, got none"
            yield Fault(key, f"{told}; write it, or leave the key out", (beside,))
    if recipe.differs("discopop_tau") and "discopop" not in kinds:
        told = f"expected loss_type discopop, which alone reads it, got {names}; leave the key out"
        yield Fault("discopop_tau", told, ("loss_type",))
    if recipe.use_weighting and kinds & SORTING:
        told = f"expected losses of single pairs, got {names}, which sorts a batch's answers; leave one of them out"
        yield Fault("use_weighting", told, ("loss_type",))
    yield from _listed_faults(recipe)
    if recipe.sync_ref_model:
        fixed = {"use_peft": recipe.use_peft, "precompute_ref_log_probs": recipe.precompute_ref_log_probs}
        for key, asked in fixed.items():
            if asked:
                told = f"expected a reference that moves with the model, got {key}: true, which holds it fixed"
                yield Fault("sync_ref_model", f"{told}; leave one of them out", (key,))


def _listed_faults(recipe: "ApoFile") -> Iterator[Fault]:
    """What is wrong with the list of losses, and with that of their weights."""
    for number, name in enumerate(recipe.loss_type):
        if name in recipe.loss_type[:number]:
            told = f"expected every loss once, got {name} again; list it once, with a weight in loss_weights"
            yield Fault(f"loss_type.{number}", told)
    weights = recipe.loss_weights
    for number, weight in enumerate(weights or []):
        if not is_finite(weight) or weight < 0:
            told = f"expected a number of 0 or more, got {as_written(weight)}; correct it"
            yield Fault(f"loss_weights.{number}", told)
    if weights is not None and len(weights) != len(recipe.loss_type):
        told = f"expected a weight for each of {len(recipe.loss_type)} losses, got {len(weights)}; write as many"
        yield Fault("loss_weights", told, ("loss_type",))


def _smoothing_faults(recipe: "ApoFile", kinds: set[str], names: str) -> Iterator[Fault]:
    smoothing = recipe.label_smoothing
    if smoothing and not SMOOTHED & kinds:
        told = f"expected a loss that reads it ({', '.join(sorted(SMOOTHED))}), got loss_type {names}, which ignores it"
        yield Fault("label_smoothing", f"{told}; leave one of them out", ("loss_type",))
    elif "exo_pair" in kinds and not 0 < smoothing < 1:
        told = f"expected a share between 0 and 1 for loss_type exo_pair, got {smoothing}; write one such as 0.001"
        yield Fault("label_smoothing", told, ("loss_type",))
    elif "robust" in kinds and not 0 <= smoothing < 0.5:
        told = f"expected less than 0.5 for loss_type robust, which divides by 1 - 2 x it, got {smoothing}; lower it"
        yield Fault("label_smoothing", told, ("loss_type",))
    if recipe.label_smoothing_factor:
        told = "expected no such key, since preference training has no labels to smooth, got one"
        yield Fault("label_smoothing_factor", f"{told}; write label_smoothing, or leave the key out")
