"""What `sequence_parallel_size`, and parallelism by accelerate, can stand beside: in a file, and in a launch.

Several processes share a packed row by `sequence_parallel_size` (`apo_soup/models/shared_rows.py`). accelerate has ways
of its own, which divide rows (context and sequence parallelism) or products (tensor parallelism) among processes.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from apo_soup.config.launch_file import DIVIDED_KINDS, distributed_type
from apo_soup.config.loss_keys import COUPLING
from apo_soup.config.stage_file import Fault, Remark
from apo_soup.errors import UserError

if TYPE_CHECKING:
    from apo_soup.config.apo import ApoFile
    from apo_soup.config.training import TrainingFile

# Arguments of `from_pretrained` by which it loads a part of each weight.
_TENSOR_PARALLEL = {"tp_plan", "tp_size", "distributed_config"}
# Keys by which each process computes, or counts, rows whole, where they are given as other than their defaults.
_WHOLE = (
    "use_liger_kernel",
    "torch_compile",
    "neftune_noise_alpha",
    "label_smoothing_factor",
    "include_num_input_tokens_seen",
)
# Of FlexAttention beneath rows of documents.
_UNTRIED = "under which shared rows of documents were never tried"
_LEFT_OUT = "leave the key out, or train without that"
_WHOLE_OF_KIND = {"sft": (*_WHOLE, "loss_type"), "apo": _WHOLE}
# Keys beside which pairs run on the stock trainer, which packs none, where they are given as other than their defaults.
UNPACKED = (
    "f_divergence_type",
    "ld_alpha",
    "use_weighting",
    "sync_ref_model",
    "bf16_full_eval",
    "fp16_full_eval",
    "torch_empty_cache_steps",
    "auto_find_batch_size",
    "disable_dropout",
)


@dataclass(frozen=True)
class Division:
    """What a launch divides among processes.

    Attributes:
        deepspeed: DeepSpeed holds the model.
        parallel: accelerate has a `parallelism_config`, whatever its sizes.
        sizes: processes of a group by kind, `tp`, `cp` and `sp`; those of 1 are left out.
    """

    deepspeed: bool
    parallel: bool
    sizes: Mapping[str, int]


def division_of_file(settings: dict[str, Any]) -> Division:
    """That of an accelerate configuration."""
    parallel: dict[str, Any] = settings.get("parallelism_config") or {}
    found = {kind: parallel.get(f"parallelism_config_{kind}_size") or 1 for kind in DIVIDED_KINDS}
    return Division(distributed_type(settings) == "DEEPSPEED", bool(parallel), _above_one(found))


def division_here() -> Division:
    """That of the launch of this process, as `accelerate launch` tells it in the environment."""
    parallel = os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "").lower() == "true"
    found = {kind: os.environ.get(f"PARALLELISM_CONFIG_{kind.upper()}_SIZE", "1") for kind in DIVIDED_KINDS}
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"
    return Division(deepspeed, parallel, _above_one(found) if parallel else {})


def _above_one(sizes: Mapping[str, Any]) -> dict[str, int]:
    return {kind: int(size) for kind, size in sizes.items() if str(size).isdecimal() and int(size) > 1}


def sharing_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """Keys that a `sequence_parallel_size` cannot stand beside; and a model that is loaded in parts of its products."""
    size, name = recipe.sequence_parallel_size, "sequence_parallel_size"
    for other in recipe.loading_arguments.keys() & _TENSOR_PARALLEL:
        told = "expected a model that each process loads whole, for FSDP2 divides it, got tensor parallelism"
        yield Fault(f"model_init_kwargs.{other}", f"{told}; leave it out, and launch with fsdp2.yaml")
    if size == 1:
        return
    if recipe.deepspeed:
        yield Fault(name, _told("DeepSpeed", size, "leave deepspeed out and launch with fsdp2.yaml"), ("deepspeed",))
    if recipe.attn_implementation == "eager":
        told = _told("attn_implementation: eager, which is in no registry", size, "leave that key out")
        yield Fault(name, told, ("attn_implementation",))
    if recipe.kind == "sft" and recipe.attn_implementation == "flex_attention":
        told = _told(f"attn_implementation: flex_attention, {_UNTRIED}", size, "leave that key out")
        yield Fault(name, told, ("attn_implementation",))
    for other in _WHOLE_OF_KIND[recipe.kind]:
        if recipe.differs(other):
            told = _told(f"{other}, for which each process takes rows whole", size, "leave one of the two out")
            yield Fault(name, told, (other,))
    if recipe.kind == "apo":
        yield from _pairs_faults(cast("ApoFile", recipe))


def _pairs_faults(recipe: "ApoFile") -> Iterator[Fault]:
    """Keys beside which pairs are not packed into the rows that processes share."""
    size = recipe.sequence_parallel_size
    unpacked = {name: name for name in UNPACKED if recipe.differs(name)}
    coupled = COUPLING.intersection(recipe.loss_type)
    if coupled:
        unpacked["loss_type"] = f"loss_type {', '.join(sorted(coupled))}"
    if not recipe.packs:
        unpacked["packed_pairs"] = "packed_pairs: false"
    for other, beside in unpacked.items():
        told = _told(f"{beside}, with which pairs are not packed", size, "leave one of the two out")
        yield Fault("sequence_parallel_size", told, (other,))


def sharing_remarks(recipe: "TrainingFile") -> Iterator[Remark]:
    """What a person should know of a file whose rows are shared: an adapter's dropout is drawn from the same seed by
    all processes. That of pairs is off, or they are not packed.
    """
    size, dropout = recipe.sequence_parallel_size, recipe.lora_dropout
    if size > 1 and recipe.kind == "sft" and recipe.use_peft and dropout:
        drawn = f"with lora_dropout {dropout} the {size} processes that share a row drop alike in their parts of it"
        yield Remark(
            "sequence_parallel_size",
            f"{drawn}, so losses are not those of a process alone; lora_dropout: 0 has them be",
        )


def _told(beside: str, size: int, way: str) -> str:
    return f"expected 1 beside {beside}, got {size}; {way}"


@dataclass(frozen=True)
class Unshared:
    """Why processes cannot share the rows of a training.

    Attributes:
        expected: what `sequence_parallel_size` would have to be, and why.
        way: what to do.
    """

    expected: str
    way: str


def unshared(reason: str, way: str = _LEFT_OUT) -> Unshared:
    """That they cannot because of something, in a few words."""
    return Unshared(f"1 beside {reason}", way)


def sharing_refused(recipe: "TrainingFile", why: Unshared) -> UserError:
    """The error of a training whose rows cannot be shared."""
    where = recipe.place("sequence_parallel_size")
    return UserError(f"{where}: expected {why.expected}, got {recipe.sequence_parallel_size}; {why.way}")


def heads_problem(config: Any, size: int) -> Unshared | None:
    """Why so many processes cannot divide the heads of a language model of this configuration; None where they can."""
    queries = getattr(config, "num_attention_heads", None)
    keys = getattr(config, "num_key_value_heads", None) or queries
    for count, kind in ((keys, "key-value heads"), (queries, "attention heads")):
        if not isinstance(count, int):
            return unshared(f"a model whose config.json gives no number of {kind}", "leave the key out")
        if count % size:
            right = ", ".join(str(number) for number in range(1, count + 1) if count % number == 0)
            return Unshared(f"a divisor of {count} ({right}), the model's {kind}", "write one of those")
    return None


def division_problem(recipe: "TrainingFile", division: Division) -> str | None:
    """The sentence about a launch that divides what this recipe's trainings do not; None where it does not."""
    size, sizes = recipe.sequence_parallel_size, division.sizes
    where = recipe.place("sequence_parallel_size") if size > 1 else str(recipe.path)
    if "tp" in sizes:
        return (
            f"{where}: expected a launch without tensor parallelism, since each process loads the model whole before "
            f"FSDP2 divides it, got parallelism_config_tp_size {sizes['tp']}; leave it out, and divide weights with "
            "fsdp2.yaml and rows with sequence_parallel_size"
        )
    if "sp" in sizes:
        return (
            f"{where}: expected a launch without DeepSpeed's sequence parallelism, got parallelism_config_sp_size "
            f"{sizes['sp']}; leave it out, launch with fsdp2.yaml and write sequence_parallel_size: {sizes['sp']}"
        )
    if "cp" in sizes and size > 1:
        return (
            f"{where}: expected 1 beside context parallelism, got {size} and parallelism_config_cp_size {sizes['cp']}; "
            "leave one of the two out"
        )
    if "cp" in sizes and recipe.packs:
        unpacked = "packed_pairs: false" if recipe.kind == "apo" else "packing: false"
        return (
            f"{where}: expected rows of one document under context parallelism, whose ring attends to rows whole, got "
            f"packed ones and parallelism_config_cp_size {sizes['cp']}; leave it out and write sequence_parallel_size: "
            f"{sizes['cp']}, or write {unpacked}"
        )
    if division.parallel and size > 1:
        return f"{where}: {_told('a parallelism_config of accelerate', size, 'leave one of the two out')}"
    if division.deepspeed and size > 1:
        return f"{where}: {_told('DeepSpeed', size, 'launch with fsdp2.yaml')}"
    return None


def untested(recipe: "TrainingFile", division: Division) -> str | None:
    """What is said of a launch whose division is handed on to TRL and accelerate as it is; None of any other."""
    if "cp" not in division.sizes:
        return None
    return f"{recipe.path}: context parallelism is handed on to TRL and accelerate, and was never tried here"
