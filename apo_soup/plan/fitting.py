"""What to turn where a training does not fit its device: ways in order of what they cost, each with what it leaves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from apo_soup.config.apo import ApoFile
from apo_soup.config.shared_rows import heads_problem, sharing_faults
from apo_soup.plan.launch import Processes
from apo_soup.plan.rehearsal import RehearsedBatch
from apo_soup.plan.row_counts import SplitCounts
from apo_soup.plan.stage_plan import Setting, largest_batch, peak_memory
from apo_soup.plan.whole_rows import whole_rows_reason
from apo_soup.tables import size_text

# Of a device's memory, what its driver's context and torch's unused blocks leave.
USABLE = 0.92
# With a file of 8-bit states, and what a length is halved to at least.
_EIGHT_BIT, _SHORTEST = "adamw_bnb_8bit", 512
# Key-value heads that a model has at most.
_MOST_HEADS = 1024


@dataclass(frozen=True)
class Way:
    """A change of a recipe or a launch, in words, and how the training would then be run."""

    told: str
    setting: Setting
    batch: RehearsedBatch


def ways(setting: Setting, counts: SplitCounts | None) -> Iterator[Way]:
    """One change after another, each laid over those before it: those that cost nothing first, then time, devices, and
    what is learned last.
    """
    recipe = setting.recipe
    batch = largest_batch(setting, counts)
    on_device = recipe.per_device_train_batch_size
    if on_device > 1 and not setting.packed_pairs:
        keeps = "" if recipe.global_batch_size else f" with gradient_accumulation_steps {on_device} times as large"
        batch = replace(batch, rows=batch.rows // on_device, scored=max(1, batch.scored // on_device))
        yield Way(f"per_device_train_batch_size: 1{keeps}", setting, batch)
    if not setting.checkpointed:
        setting = replace(setting, checkpointed=True)
        yield Way("gradient_checkpointing: true, which computes a quarter more", setting, batch)
    launch = setting.launch
    if not launch.on_cpu and launch.sharing in ("none", "ddp"):
        setting = replace(setting, launch=Processes(max(8, launch.processes), "fsdp", on_cpu=False))
        yield Way(f"LAUNCH=fsdp2.yaml with {setting.launch.processes} GPUs", setting, batch)
    if setting.states > 1 and setting.adapter is None and not launch.on_cpu:
        setting = replace(setting, states=0.5)
        yield Way(f"optim: {_EIGHT_BIT}", setting, batch)
    if isinstance(recipe, ApoFile) and not setting.packed_pairs:
        return
    size = most_that_share(setting)
    if size > 1:
        keeps = "" if recipe.global_batch_size else f" with gradient_accumulation_steps {size} times as large"
        batch = replace(batch, width=-(-batch.width // size), scored=max(1, batch.scored // size))
        yield Way(f"sequence_parallel_size: {size}{keeps}", setting, batch)
    whole = batch.width
    while batch.width > _SHORTEST:
        batch = replace(batch, width=batch.width // 2, scored=max(1, batch.scored // 2))
        yield Way(f"max_length: {recipe.max_length * batch.width // whole}", setting, batch)


def most_that_share(setting: Setting) -> int:
    """The most processes of a launch on GPUs that can share a row; 1 where some do already, or none can."""
    recipe, launch, text = setting.recipe, setting.launch, setting.config.get_text_config()
    if recipe.sequence_parallel_size > 1 or launch.on_cpu or launch.sharing not in ("ddp", "fsdp"):
        return 1
    shared = recipe.model_copy(update={"sequence_parallel_size": 2})
    if any(sharing_faults(shared)) or whole_rows_reason(recipe, text):
        return 1
    sizes = [size for size in range(2, min(launch.processes, _MOST_HEADS) + 1) if launch.processes % size == 0]
    return max((size for size in sizes if heads_problem(text, size) is None), default=1)


def fitting(setting: Setting, counts: SplitCounts | None, total: float, memory: float, process: float) -> str | None:
    """A sentence where a training of `total` bytes does not fit a device's `memory`, with the ways until it would."""
    if total <= USABLE * memory:
        return None
    told = []
    for way in ways(setting, counts):
        left = peak_memory(way.setting, way.batch, process)[0].total
        told.append(f"{way.told} ({size_text(left)})")
        if left <= USABLE * memory:
            break
    else:
        told.append("use_peft: true, or a smaller model")
    return (
        f"{setting.recipe.path}: expected at most {size_text(USABLE * memory)}, which a device of {size_text(memory)} "
        f"leaves, got {size_text(total)}; in order of cost, one over the other: {'; '.join(told)}"
    )
