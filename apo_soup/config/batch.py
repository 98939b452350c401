"""The global batch: the sequences or pairs of an optimiser step, on all processes together.

`global_batch_size` says it once, and the micro-batches of a step follow from it, from the batch a device and from the
number of processes, so that a file is one and the same stage on any number of them.
"""

from collections.abc import Iterator
from math import isqrt
from typing import TYPE_CHECKING, Any

from apo_soup.config.in_words import as_written
from apo_soup.config.stage_file import Fault
from apo_soup.errors import UserError

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

# The keys that say how a global batch comes about, and nothing else where the product is given.
SPLIT_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps")
# Options of accelerate that would change the batch, or draw rows as one number of processes does and no other.
_USUAL_OPTIONS = {"split_batches": (None, False), "even_batches": (None, True), "use_seedable_sampler": (None, True)}


def row_processes(recipe: "TrainingFile", processes: int) -> int:
    """How many of that many processes take rows of their own: those that share rows count as one."""
    return processes // recipe.sequence_parallel_size


def global_batch(recipe: "TrainingFile", processes: int) -> int:
    """Sequences or pairs of an optimiser step on that many processes.

    >>> from types import SimpleNamespace
    >>> keys = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "sequence_parallel_size": 1}
    >>> global_batch(SimpleNamespace(global_batch_size=None, **keys), 8)
    64
    """
    if recipe.global_batch_size is not None:
        return recipe.global_batch_size
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * row_processes(recipe, processes)


def accumulation_steps(recipe: "TrainingFile", processes: int) -> int:
    """Micro-batches of an optimiser step on each of that many processes.

    Raises:
        UserError: `global_batch_size` is not divided by them, `gradient_accumulation_steps` beside it says another
            number, or so many processes cannot share rows as the recipe says.
    """
    problem = batch_problem(recipe, processes)
    if problem:
        raise UserError(problem)
    if recipe.global_batch_size is None:
        return recipe.gradient_accumulation_steps
    return recipe.global_batch_size // (recipe.per_device_train_batch_size * row_processes(recipe, processes))


def batch_problem(recipe: "TrainingFile", processes: int) -> str | None:
    """The sentence about a `global_batch_size`, or a `sequence_parallel_size`, that cannot be had on that many
    processes; None where both can.
    """
    wanted, on_device = recipe.global_batch_size, recipe.per_device_train_batch_size
    misfit = sharing_misfit(recipe, processes)
    if misfit or wanted is None:
        return misfit
    taking = row_processes(recipe, processes)
    at_once = on_device * taking
    if wanted % at_once:
        below = wanted // at_once * at_once
        near = f"{below} or {below + at_once}" if below else str(at_once)
        each = wanted // taking if wanted % taking == 0 else 0
        fitting = next((size for size in range(on_device, 0, -1) if each and each % size == 0), None)
        way = f"write per_device_train_batch_size {fitting}" if fitting else "launch another number of processes"
        return (
            f"{recipe.place('global_batch_size')}: expected a multiple of {at_once}, which is "
            f"{_on_device(recipe)} x {_taking(recipe, processes)}, got {wanted}; {way}, or a global batch of {near}"
        )
    steps = wanted // at_once
    if recipe.gives("gradient_accumulation_steps") and recipe.gradient_accumulation_steps != steps:
        return (
            f"{recipe.place('gradient_accumulation_steps')}: expected {steps}, which global_batch_size {wanted} is on "
            f"{_taking(recipe, processes)} of {on_device} each, got {recipe.gradient_accumulation_steps}; leave the "
            "key out, since it follows"
        )
    return None


def sharing_misfit(recipe: "TrainingFile", processes: int) -> str | None:
    """The sentence about processes that cannot be put into groups of `sequence_parallel_size`; None where they can."""
    size = recipe.sequence_parallel_size
    if processes % size == 0:
        return None
    lower = [number for number in range(1, isqrt(processes) + 1) if processes % number == 0]
    divisors = sorted({*lower, *(processes // number for number in lower)})
    return (
        f"{recipe.place('sequence_parallel_size')}: expected a divisor of the {processes} "
        f"{'process' if processes == 1 else 'processes'} of this launch ({', '.join(map(str, divisors))}), got {size}; "
        f"launch a multiple of {size} processes, or write one of those"
    )


def batch_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with a `global_batch_size` beside other keys, whatever the number of processes."""
    wanted, on_device = recipe.global_batch_size, recipe.per_device_train_batch_size
    if wanted is None:
        return
    if on_device and wanted % on_device:
        told = f"expected a multiple of {_on_device(recipe)}, got {wanted}; change one of the two"
        yield Fault("global_batch_size", told, ("per_device_train_batch_size",))
        return
    steps = recipe.gradient_accumulation_steps
    if on_device and recipe.gives("gradient_accumulation_steps") and steps and (wanted // on_device) % steps:
        told = f"expected no such key beside global_batch_size {wanted}, from which it follows, or a number that "
        told += f"divides {wanted // on_device}, got {steps}; leave the key out"
        yield Fault("gradient_accumulation_steps", told, ("global_batch_size", "per_device_train_batch_size"))
    if recipe.auto_find_batch_size:
        told = "expected no such key beside global_batch_size, which a batch that shrinks by itself would change, got "
        yield Fault("auto_find_batch_size", f"{told}true; leave it out, and lower per_device_train_batch_size")
    if recipe.average_tokens_across_devices is False:
        told = "expected true with global_batch_size, whose loss is the mean over a step's tokens on all processes, "
        yield Fault("average_tokens_across_devices", f"{told}got false; leave the key out")
    yield from _option_faults(recipe.accelerator_config)


def _option_faults(options: Any) -> Iterator[Fault]:
    """Options of accelerate beside which a global batch is not what the key says."""
    if isinstance(options, str):
        told = f"expected a mapping with global_batch_size, which some of its options would change, got {options}; "
        yield Fault("accelerator_config", f"{told}write the options into the recipe")
    if not isinstance(options, dict):
        return
    for name, usual in _USUAL_OPTIONS.items():
        if name in options and options[name] not in usual:
            told = f"expected {as_written(usual[-1])} with global_batch_size, got {as_written(options[name])}"
            yield Fault(f"accelerator_config.{name}", f"{told}; leave it out")
    inside = options.get("gradient_accumulation_kwargs")
    if isinstance(inside, dict) and "num_steps" in inside:
        got = as_written(inside["num_steps"])
        told = f"expected no such key beside global_batch_size, from which it follows, got {got}"
        yield Fault("accelerator_config.gradient_accumulation_kwargs.num_steps", f"{told}; leave it out")


def _taking(recipe: "TrainingFile", processes: int) -> str:
    """The processes that take rows of their own, in words."""
    size = recipe.sequence_parallel_size
    return f"{processes} processes" if size == 1 else f"{processes // size} groups of {size} processes"


def _on_device(recipe: "TrainingFile") -> str:
    default = "" if recipe.gives("per_device_train_batch_size") else " (its default)"
    return f"per_device_train_batch_size {recipe.per_device_train_batch_size}{default}"
