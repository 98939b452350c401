"""What one training will be: its rows, steps, memory, disk and time."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, PreTrainedConfig, TrainingArguments
from trl import DPOConfig, SFTConfig

from apo.pair_attention import PAIRS
from apo.train import CAPACITIES
from apo.which_trainer import NotPackable, packed_attention, stock_reason
from apo_soup.config.apo import ApoFile
from apo_soup.config.batch import accumulation_steps, row_processes
from apo_soup.config.training import TrainingFile
from apo_soup.errors import first_line
from apo_soup.models.document_attention import DOCUMENTS
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.embeddings import rows_for
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS
from apo_soup.models.refusals import FORWARD_ERRORS
from apo_soup.plan.device import Device
from apo_soup.plan.few_rows import few_steps_told
from apo_soup.plan.launch import Processes
from apo_soup.plan.memory import PeakMemory, on_cpu, on_device, on_shards
from apo_soup.plan.rehearsal import STAND_IN, Rehearsal, RehearsedBatch, RehearsedModel, rehearse, weights_of
from apo_soup.plan.row_counts import SplitCounts
from apo_soup.private import causal_model_class, supports_attention
from apo_soup.training.arguments import adapters, trl_arguments
from apo_soup.training.precision import Precision, precision
from apo_soup.training.room import Sizes, chosen_every, optimizer_states, training_room
from sft.documents_alone import documents_reason
from sft.which_path import TRL_OPTIONS

# Bytes of a number in a base of 4 bits, with a float32 for 64 of them, and of 8 bits.
FOUR_BIT_BYTES, EIGHT_BIT_BYTES = 0.5 + 4 / 64, 1.0


class ConfigNotSeen(Exception):
    """The configuration of a model is not there, or transformers does not read it; says what the library said."""


@dataclass(frozen=True)
class Measured:
    """What a few steps of a training took: seconds a step in the order of the training and of the longest rows, and the
    most memory of a device, or of a process on a CPU, in bytes.
    """

    step_seconds: float
    longest_step_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class StagePlan:
    """The figures of a training; None where one is not known before it runs.

    Attributes:
        name: the stage's, such as `mid` or `apo/1`.
        rows: documents or pairs, `tokens` those of an epoch, `trained_tokens` those of them with a loss.
        sequences: packed rows or pairs, which batches are counted in.
        steps: optimiser steps, `warmup_steps` those in which the learning rate rises.
        global_batch: sequences or pairs of a step, on all processes.
        peak_memory_bytes: the most memory of a device, or of a process on a CPU.
        disk_bytes: the most that lies on disk at once: prepared rows, checkpoints, the finished folder.
        seconds: of the passes alone.
        memory: the peak by what it is of.
        measured: what its first steps took, where they were measured; `seconds` are by that.
        notes: what was assumed, and what is not known.
        keys: the hash of the keys that decide on the result.
        run: the folder of its run.
    """

    name: str
    rows: int | None = None
    tokens: int | None = None
    trained_tokens: int | None = None
    sequences: int | None = None
    steps: int | None = None
    warmup_steps: int | None = None
    global_batch: int | None = None
    peak_memory_bytes: int | None = None
    disk_bytes: int | None = None
    seconds: float | None = None
    memory: PeakMemory | None = None
    measured: Measured | None = None
    notes: tuple[str, ...] = ()
    keys: str = ""
    run: str = ""


@dataclass(frozen=True)
class Setting:
    """A training as it will be run.

    Attributes:
        recipe: its file, `arguments` TRL's of it.
        config: the architecture it begins with, `types` those of its numbers.
        adapter: what PEFT trains, or None.
        packed_pairs: whether pairs are packed, and their prompts computed once.
        checkpointed: whether activations are computed again in the backward pass.
        states: bytes that the optimiser keeps for a byte of trained weights; Adam's where its name is not known.
    """

    recipe: TrainingFile
    arguments: TrainingArguments
    config: PreTrainedConfig
    types: Precision
    launch: Processes
    adapter: Any
    packed_pairs: bool
    checkpointed: bool
    states: float

    @property
    def attention(self) -> str:
        """The attention implementation, or what stands in for one whose memory does not grow with a row's square."""
        model_class = causal_model_class(self.config)
        usual = "sdpa" if model_class is None or supports_attention(model_class, "sdpa") else "eager"
        asked = self.recipe.attn_implementation or usual
        if self.packed_pairs:
            asked = packed_attention(self.config, self.recipe.attn_implementation, not self.launch.on_cpu)
        if self.launch.on_cpu and asked not in ("eager", PAIRS):
            asked = usual
        if self.by_documents and asked == "sdpa":
            return DOCUMENTS if self.launch.on_cpu else STAND_IN
        exact = ("eager", "sdpa", PAIRS) if self.launch.on_cpu else ("eager", "sdpa")
        return asked if asked in exact else STAND_IN

    @property
    def by_documents(self) -> bool:
        """Whether SDPA attends to each document of a packed row by itself."""
        if isinstance(self.recipe, ApoFile) or self.recipe.attn_implementation == "eager":
            return False
        text, arguments = self.config.get_text_config(), cast(SFTConfig, self.arguments)
        options = any(asks(getattr(arguments, name)) for name, asks in TRL_OPTIONS.items())
        return not options and text is self.config and documents_reason(text, arguments.max_length) is None

    def model(self, low: bool = False) -> RehearsedModel:
        """What a rehearsal builds; `low` in the type of the products alone."""
        types = self.types
        options = cast(dict[str, Any], self.arguments.activation_checkpointing_kwargs or {})
        return RehearsedModel(
            self.config,
            types.computed if low else types.loaded,
            types.computed if low else types.trained,
            types.computed,
            self.attention,
            self.adapter,
            options if self.checkpointed else None,
            FOUR_BIT_BYTES if self.recipe.load_in_4bit else EIGHT_BIT_BYTES if self.recipe.load_in_8bit else None,
            self.recipe.trust_remote_code,
        )

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step on each process; accelerate's own number of them wins over the Trainer's.

        Raises:
            UserError: `global_batch_size` is not divided by what the processes take at once.
        """
        inside = cast(Any, self.arguments.accelerator_config).gradient_accumulation_kwargs or {}
        return int(inside.get("num_steps") or accumulation_steps(self.recipe, self.launch.processes))

    @property
    def at_once(self) -> int:
        """Sequences or pairs of a micro-batch, on all processes together."""
        split = cast(Any, self.arguments.accelerator_config).split_batches
        taking = row_processes(self.recipe, self.launch.processes)
        return self.recipe.per_device_train_batch_size * (1 if split else taking)

    @property
    def global_batch(self) -> int:
        """Sequences or pairs of a step, on all processes together.

        Raises:
            UserError: as `accumulation` does.
        """
        return self.recipe.global_batch_size or self.at_once * self.accumulation

    @property
    def kept_reference(self) -> bool:
        """Whether the stock trainer of pairs holds a second model, the reference, while it trains."""
        if not isinstance(self.recipe, ApoFile) or self.packed_pairs or self.adapter is not None:
            return False
        return not cast(DPOConfig, self.arguments).precompute_ref_log_probs


def setting_of(recipe: TrainingFile, launch: Processes, model: str, token_count: int | None) -> Setting:
    """How a file's training will be run.

    Args:
        model: the model that its own begins with, where that is not made yet.
        token_count: token ids that resized embeddings have a row for.

    Raises:
        UserError: a value that TRL or transformers refuses.
        ConfigNotSeen: the model's configuration is not there to be read.
    """
    at_base = recipe.model_copy(update={"model_name_or_path": model})
    kind: Any = DPOConfig if isinstance(recipe, ApoFile) else SFTConfig
    fewest = recipe.sequence_parallel_size  # processes of a launch; how many they are is the plan's to say
    arguments, of_model = trl_arguments(at_base, kind, Path(recipe.output_dir), fewest)
    base = base_model(at_base)
    try:
        config = AutoConfig.from_pretrained(
            base, revision=recipe.model_revision, trust_remote_code=recipe.trust_remote_code
        )
    except CONFIG_ERRORS as error:
        raise ConfigNotSeen(first_line(error)) from error
    text = config.get_text_config()
    multiple = recipe.embedding_multiple
    if multiple is not None and token_count is not None:
        text.vocab_size = rows_for(token_count, text.vocab_size, multiple)
    types = precision(at_base, arguments, of_model.use_peft)
    packed = False
    if isinstance(recipe, ApoFile) and launch.sharing != "zero3":
        packed = recipe.packed_pairs is not False and stock_reason(arguments, config) is None
        try:
            packed_attention(config, recipe.attn_implementation, not launch.on_cpu)
        except NotPackable:
            packed = False
    states = optimizer_states(arguments.optim)
    return Setting(
        recipe,
        arguments,
        config,
        types,
        launch,
        adapter=adapters(of_model, recipe.path)["peft_config"],
        packed_pairs=packed,
        checkpointed=bool(arguments.activation_checkpointing),
        states=2.0 if states is None else states,
    )


def training_steps(setting: Setting, sequences: int) -> int:
    """Optimiser steps of a training, as transformers' Trainer counts them."""
    arguments, size = setting.arguments, setting.global_batch
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    drops = arguments.dataloader_drop_last
    if setting.recipe.global_batch_size:
        # A step that is not full is left out as a whole (`apo_soup/training/step_order.py`).
        an_epoch = sequences // size if drops else math.ceil(sequences / size)
    else:
        batches = sequences // setting.at_once if drops else math.ceil(sequences / setting.at_once)
        an_epoch = math.ceil(batches / setting.accumulation)
    return math.ceil(arguments.num_train_epochs * max(1, an_epoch))


def largest_batch(setting: Setting, counts: SplitCounts | None) -> RehearsedBatch:
    """The largest batch that goes through the model of a process at once: of rows that processes share, its part. Of
    rows that are not known it is `max_length`, all scored.
    """
    recipe = setting.recipe
    longest = counts.longest if counts else recipe.max_length
    scored = counts.trained / max(1, counts.tokens) if counts else 1.0
    rows, width, documents = recipe.per_device_train_batch_size, longest, 1
    predicting = longest
    if isinstance(recipe, ApoFile) and setting.packed_pairs:
        capacity = min(recipe.max_length, CAPACITIES.get(setting.attention, recipe.max_length))
        step = recipe.per_device_train_batch_size * setting.accumulation
        mean = counts.tokens / max(1, counts.sequences) if counts else recipe.max_length
        rows, width = 1, max(longest, min(capacity, round(step * mean)))
        predicting = width
    elif isinstance(recipe, ApoFile):
        rows *= 2  # chosen and rejected, each with its prompt
    elif setting.by_documents and counts:
        width, documents = counts.most_computed, max(1, round(rows * counts.rows / counts.sequences))
    parts = recipe.sequence_parallel_size
    predicting_here = max(1, round(rows * predicting * scored / parts))
    return RehearsedBatch(rows, -(-width // parts), predicting_here, isinstance(recipe, ApoFile), documents)


def peak_memory(setting: Setting, batch: RehearsedBatch, process: float) -> tuple[PeakMemory, Rehearsal]:
    """The peak of a training and the step it was rehearsed by; `process` is what a process on a CPU takes before."""
    launch, states = setting.launch, setting.states
    several = setting.packed_pairs or setting.accumulation > 1
    shards = launch.divides and not launch.on_cpu
    step = rehearse(setting.model(low=shards), batch, states, several)
    if shards:
        memory = on_shards(*weights_of(setting.model()), states, launch, step)
    elif launch.on_cpu:
        memory = on_cpu(step, states, process, setting.checkpointed, setting.adapter is not None)
    else:
        memory = on_device(step, states, launch)
    if setting.kept_reference:
        memory = replace(memory, weights=memory.weights * 2)
    return memory, step


def operations_of(setting: Setting, batch: RehearsedBatch, step: Rehearsal, counts: SplitCounts) -> float:
    """Floating-point operations of a training: those of the rehearsed step for every token, and attention's.

    Attention does 4 operations for each of the pairs of a causal square, head and dimension of a head, and 2.5 times as
    many on the way back; checkpointing does the way there twice.
    """
    text = setting.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    passes = 4.5 if setting.checkpointed else 3.5
    forward = 4 * text.num_hidden_layers * text.num_attention_heads * width * counts.squares / 2
    products = step.operations / batch.positions * counts.tokens
    an_epoch = products + passes * forward
    epochs = setting.arguments.num_train_epochs
    if setting.arguments.max_steps > 0:
        done = setting.arguments.max_steps * setting.global_batch
        epochs = done / max(1, counts.sequences)
    reference = (products / (4 if passes > 3.5 else 3) + forward) if isinstance(setting.recipe, ApoFile) else 0
    return float(epochs * an_epoch + reference)


def packed_told(file: Path, batch: int, at_once: int, counts: SplitCounts) -> str:
    """What a step of so many packed rows holds, and the batch that comes nearest to the steps of the same file without
    packing, of those that processes which take `at_once` rows together can have.
    """
    in_a_row, rows = counts.rows / counts.sequences, min(batch, counts.sequences)
    told = (
        f"{file}: packed, a step has {rows * counts.trained / counts.sequences:,.0f} trained tokens of "
        f"{rows * in_a_row:,.1f} documents, {in_a_row:,.1f} a row"
    )
    alike = at_once * max(1, round(batch / in_a_row / at_once))
    if alike >= batch:
        return told
    unpacked = math.ceil(counts.rows / batch)
    steps = math.ceil(counts.sequences / alike)
    return (
        f"{told}; without packing a batch of {batch:,} takes {unpacked:,} steps an epoch, packed a `global_batch_size` "
        f"of {alike:,} takes {steps:,}"
    )


def plan_training(
    setting: Setting, name: str, counts: SplitCounts | None, device: Device, process: float, notes: tuple[str, ...] = ()
) -> StagePlan:
    """The plan of one training, or of one soup member's.

    Args:
        counts: its rows, where they could be prepared.
        process: bytes that a process on a CPU takes before a training begins.
    """
    arguments, launch = setting.arguments, setting.launch
    if setting.recipe.eval_suite is not None:
        notes = (*notes, f"{setting.recipe.place('eval_suite')}: the time of its scores is not counted")
    packing = bool(getattr(arguments, "packing", False))
    if counts and packing:
        notes = (*notes, packed_told(setting.recipe.path, setting.global_batch, setting.at_once, counts))
    plan = StagePlan(name, global_batch=setting.global_batch, notes=notes)
    if counts is not None:
        steps = training_steps(setting, counts.sequences)
        asked = arguments.max_steps > 0
        notes = notes if asked else (*notes, *few_steps_told(setting.recipe.path, steps, packing))
        plan = replace(
            plan,
            notes=notes,
            rows=counts.rows,
            tokens=counts.tokens,
            trained_tokens=counts.trained,
            sequences=counts.sequences,
            steps=steps,
            warmup_steps=arguments.get_warmup_steps(steps),
        )
    batch = largest_batch(setting, counts)
    try:
        memory, step = peak_memory(setting, batch, process)
    except FORWARD_ERRORS as error:
        unknown = (
            f"{setting.recipe.path}: memory and time are not known, for {type(setting.config).__name__} cannot be "
        )
        return replace(plan, notes=(*notes, f"{unknown}run without data ({first_line(error)[:120]})"))
    plan = replace(plan, peak_memory_bytes=round(memory.total), memory=memory)
    if counts is None or plan.steps is None:
        return plan
    seconds = device.seconds(operations_of(setting, batch, step, counts), launch.processes)
    return replace(plan, disk_bytes=disk_bytes(setting, counts, plan.steps), seconds=round(seconds, 1))


def disk_bytes(setting: Setting, counts: SplitCounts, steps: int) -> int:
    """The most that lies on disk at once: prepared rows, checkpoints, the finished folder."""
    weights, trained = weights_of(setting.model())
    wider = getattr(torch, setting.types.saved).itemsize / getattr(torch, setting.types.trained).itemsize
    in_checkpoint = weights if setting.adapter is None else trained
    sizes = Sizes(trained, in_checkpoint, max(in_checkpoint, weights * wider))
    chosen = chosen_every(setting.recipe, steps)
    return counts.folder_bytes + round(training_room(sizes, setting.arguments, steps, chosen_every=chosen).most or 0)
