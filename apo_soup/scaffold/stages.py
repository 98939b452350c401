"""The stage files of a new recipe: which there are, and what their keys are, by the rows, the model and the machine."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apo_soup.config.eval import EvalFile
from apo_soup.config.load import file_model
from apo_soup.config.recipe_file import RecipeFile
from apo_soup.config.slurm import JOB_FILE, SLURM_FILE, SlurmFile
from apo_soup.config.stage_file import Keys
from apo_soup.scaffold.looked_at import RowsLookedAt
from apo_soup.scaffold.model_seen import ModelSeen, path_from
from apo_soup.scaffold.sizes import MachineSize

# Where a model of fewer parameters learns by larger steps.
SMALL = 1e9
# The learning rates of sft and of apo: of an adapter, of a small model, of a larger one.
RATES = {"adapter": (2e-4, 5e-5), "small": (1e-4, 5e-6), "large": (2e-5, 1e-6)}
# Documents or pairs of which fewer are gone over three times.
FEW_ROWS = 1000
# Steps of an epoch below which the global batch is halved, down to the least one.
FEW_STEPS, LEAST_BATCH = 10, 4
# Steps of a whole training below which rows are not packed.
FEW_IN_ALL = 30
SCHEDULE = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}


@dataclass(frozen=True)
class RecipeAsked:
    """What a person asked for: a recipe's folder, a model, rows, a machine, and how weights are trained.

    Attributes:
        data: conversations or texts, `pairs` preferences, as they were found; None where there are none.
        prompts: file of prompts of which pairs are made; empty for none.
        answered: whether these prompts have right answers that are numbers.
        adapter: `lora`, `qlora`, or empty where all weights are trained.
    """

    folder: str
    model: ModelSeen
    machine: MachineSize
    data: RowsLookedAt | None = None
    pairs: RowsLookedAt | None = None
    prompts: str = ""
    answered: bool = False
    adapter: str = ""

    @property
    def name(self) -> str:
        """The recipe's, which is its run's."""
        return Path(self.folder).name

    @property
    def thinks(self) -> bool:
        """Whether any row is in think mode."""
        return any(rows.thinks for rows in (self.data, self.pairs) if rows)

    @property
    def trained(self) -> tuple[str, ...]:
        """The trainings, in order."""
        return (*(["sft"] if self.data else []), *(["apo"] if self.pairs or self.prompts else []))


@dataclass(frozen=True)
class Cut:
    """How a training's rows are cut and put together.

    Attributes:
        length: the longest sequence, in tokens.
        sequences: about how many an epoch has; None where that is not known.
        at_once: sequences or pairs of a micro-batch on a device.
        checkpointed: whether activations are computed again in the backward pass.
        packed: about how many sequences an epoch would have packed, where rows are not packed for that.
    """

    length: int
    sequences: int | None = None
    at_once: int = 1
    checkpointed: bool = True
    packed: int | None = None

    def unpacked(self, machine: MachineSize, rows: int) -> "Cut":
        """The same with every row a sequence of its own, where packed ones would be too few for a training."""
        steps = epochs(rows) * -(-(self.sequences or rows) // self.batch(machine))
        if self.sequences is None or self.sequences >= rows or steps >= FEW_IN_ALL:
            return self
        return replace(self, sequences=rows, packed=self.sequences)

    def batch(self, machine: MachineSize) -> int:
        """The global batch: as large as the machine's, as long as an epoch has some steps of it."""
        processes = machine.processes.processes
        batch = machine.batch
        while self.sequences and batch > max(LEAST_BATCH, processes) and self.sequences < FEW_STEPS * batch:
            batch //= 2
        return batch

    def fitting_batch(self, machine: MachineSize) -> "Cut":
        """The same with no more at once than a step has on a device."""
        return replace(self, at_once=min(self.at_once, self.batch(machine) // machine.processes.processes))


@dataclass(frozen=True)
class WrittenFile:
    """A file of a recipe: its typed model, a comment at its top, and its keys in groups."""

    model: type[Keys]
    about: tuple[str, ...]
    parts: tuple[dict[str, Any], ...]
    # More to be said above a key.
    remarks: dict[str, str] = field(default_factory=dict)


def recipe_yaml(asked: RecipeAsked) -> WrittenFile:
    """What the stage files share."""
    keys = {"name": asked.name, "model": asked.model.written}
    keys |= {"chat_template": "apo-soup"} if asked.model.our_template else {}
    return WrittenFile(RecipeFile, ("What the files beside this one share.",), (keys,))


def sft_yaml(asked: RecipeAsked, cut: Cut) -> WrittenFile:
    """Supervised fine-tuning on a person's rows."""
    assert asked.data is not None
    mode = asked.data.mode_keys if asked.model.knows_modes else {}
    source = {"id": "data/train.jsonl", **mode}
    tokens = asked.model.new_token_keys
    packing = {"packing": True, "packing_strategy": "bfd"} if cut.packed is None else {"packing": False}
    remarks = (
        {} if cut.packed is None else {"packing": f"These rows would be {_sequences(cut.packed)}, too few for steps"}
    )
    cutting = {**packing, "max_length": cut.length}
    parts = (
        {"model_name_or_path": "base", **_weights(asked), **tokens},
        _adapter(asked, 0.05),
        {"dataset_mixture": {"datasets": [source], "seed": 0}},
        {"assistant_only_loss": asked.data.texts == 0, **cutting},
        _steps(asked, cut, 0, asked.data.rows),
        {"seed": 42},
    )
    about = f"Supervised fine-tuning on {asked.data.rows:,} rows of {asked.data.reader.source.id}"
    told = (f"{about}, for {asked.machine.told}.", _command("run sft", asked))
    return WrittenFile(file_model("sft"), told, parts, remarks)


def apo_yaml(asked: RecipeAsked, cut: Cut) -> WrittenFile:
    """Anchored preference optimisation: two members, which differ in their seeds, for the soup."""
    sources = []
    if asked.pairs:
        mode = asked.pairs.mode_keys if asked.model.knows_modes else {}
        sources.append({"id": "data/pairs.jsonl", **mode})
    if asked.prompts:
        sources.append({"id": "pairs/train.jsonl"})
    model = {} if asked.data else {"model_name_or_path": "base"}
    parts = (
        {**model, **_weights(asked)},
        _adapter(asked, 0.0),
        {"dataset_mixture": {"datasets": sources, "seed": 0}},
        {"members": [{"seed": 42}, {"seed": 43}]},
        {"loss_type": "apo_zero", "beta": 0.05, "max_length": cut.length, "precompute_ref_log_probs": True},
        _steps(asked, cut, 1, asked.pairs.rows if asked.pairs else FEW_ROWS),
    )
    told = f"Anchored preference optimisation, two soup members, for {asked.machine.told}."
    return WrittenFile(file_model("apo"), (told, _command("run apo", asked)), parts)


def pairs_yaml(asked: RecipeAsked) -> WrittenFile:
    """Preference pairs of a person's prompts: the trained model's answers over the base model's."""
    strong = "sft" if asked.data else "base"
    template = {"chat_template": "apo-soup"} if asked.model.our_template else {}
    judged = {"verifier": "number", "keep": "right_over_wrong"} if asked.answered else {"keep": "strong_over_weak"}
    parts: tuple[dict[str, Any], ...] = (
        {"prompts": path_from(Path(asked.folder), asked.prompts), "mode": "think" if asked.thinks else "no_think"},
        {
            "strong": {"model": strong, "temperature": 0.6, **({} if asked.data else template)},
            "weak": {"model": "base", "temperature": 1.0, **template},
        },
        {**judged, "candidates": 4, "max_new_tokens": 512, "batch_size": 32},
        {"test_share": 0.1, "seed": 0},
    )
    about = (
        f"Preference pairs of the prompts in {asked.prompts}: answers of `strong` over those of `weak`.",
        "A stronger model, by its folder or id, gives better pairs.",
        _command("run pairs", asked),
    )
    return WrittenFile(file_model("pairs"), about, parts)


def merge_yaml(asked: RecipeAsked) -> WrittenFile:
    """The soup of the members, and the mix with the model that preference training began with."""
    dtype = "float32" if asked.machine.on_cpu else "bfloat16"
    first = "sft" if asked.data else "base"
    models = [{"model": "soup", "parameters": {"weight": 0.9}}, {"model": first, "parameters": {"weight": 0.1}}]
    merge = {"merge_method": "linear", "dtype": "float64", "out_dtype": dtype, "models": models}
    about = (
        "The average of the members, then the mix with the model that preference training began with: 0.9 and 0.1.",
        _command("run merge", asked),
    )
    return WrittenFile(file_model("merge"), about, ({"soup": {"members": "all", "dtype": dtype}}, {"merge": merge}))


def eval_yaml(asked: RecipeAsked) -> WrittenFile:
    """Every checkpoint on the held-out rows."""
    tasks: list[dict[str, Any]] = []
    if asked.data:
        text = asked.data.texts == asked.data.rows
        kind: dict[str, Any] = {"kind": "context_loss", "length": 256} if text else {"kind": "loss"}
        tasks.append({"name": "loss", **kind, "data": "data/heldout.jsonl"})
    if asked.data and asked.data.tooled:
        made = {"count": 40}
        tasks.append({"name": "tools", "kind": "tool", "generate": made, "modes": ["no_think"], "max_new_tokens": 96})
    if asked.pairs:
        tasks.append({"name": "preference", "kind": "preference", "data": "data/heldout-pairs.jsonl"})
    if asked.prompts:
        name = "made_preference" if asked.pairs else "preference"
        tasks.append({"name": name, "kind": "preference", "data": "pairs/test.jsonl"})
    dtype = "float32" if asked.machine.on_cpu else "bfloat16"
    about = ("Every checkpoint of the run on the held-out rows.", _command("run", asked))
    more = {"batch_size": 8 if asked.machine.on_cpu else 32, "samples": 3, "seed": 0, "dtype": dtype}
    return WrittenFile(EvalFile, about, ({"tasks": tasks}, more))


def slurm_yaml(asked: RecipeAsked) -> WrittenFile:
    """What Slurm is asked for: all machines for trainings, one GPU for the rest, none where no model runs."""
    one: dict[str, Any] = {"pairs": {"gpus_per_node": 1}} if asked.prompts else {}
    one |= {"soup": {"gpus_per_node": 0}, "merge": {"gpus_per_node": 0}} if "apo" in asked.trained else {}
    nodes = asked.machine.nodes
    parts: tuple[dict[str, Any], ...] = (
        {"nodes": nodes, "gpus_per_node": asked.machine.processes.processes // nodes},
        {"time": "24:00:00", "launch": asked.machine.launch},
        {"stages": {**one, "eval": {"gpus_per_node": 1}}},
    )
    about = (
        "What sbatch is told. Add `partition`, `account`, and as `setup` what jobs run first.",
        _command("run", asked) + " --send",
        f"Without --send the commands are printed. {JOB_FILE} beside this file is the job that they start.",
    )
    return WrittenFile(SlurmFile, about, parts)


def stage_files(asked: RecipeAsked, cuts: dict[str, Cut]) -> Iterator[tuple[str, WrittenFile]]:
    """The files of the recipe, by their names."""
    yield "recipe.yaml", recipe_yaml(asked)
    if asked.data:
        yield "sft.yaml", sft_yaml(asked, cuts["sft"])
    if asked.prompts:
        yield "pairs.yaml", pairs_yaml(asked)
    if "apo" in asked.trained:
        yield "apo.yaml", apo_yaml(asked, cuts["apo"])
        yield "merge.yaml", merge_yaml(asked)
    yield "eval.yaml", eval_yaml(asked)
    if asked.machine.nodes > 1:
        yield SLURM_FILE, slurm_yaml(asked)


def _command(words: str, asked: RecipeAsked) -> str:
    if asked.machine.nodes > 1:
        return f"  apo-soup {words.replace('run', 'submit')} {shlex.quote(asked.folder)}"
    launch = f" --launch {asked.machine.launch}" if asked.machine.launch else ""
    return f"  apo-soup {words} {shlex.quote(asked.folder)}{launch}"


def _weights(asked: RecipeAsked) -> dict[str, Any]:
    return {"dtype": "float32" if asked.machine.on_cpu else "bfloat16"}


def _adapter(asked: RecipeAsked, dropout: float) -> dict[str, Any]:
    if not asked.adapter:
        return {}
    quantised = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    shape = {"lora_target_modules": "all-linear", "lora_r": 16, "lora_alpha": 32, "lora_dropout": dropout}
    return {"use_peft": True, **(quantised if asked.adapter == "qlora" else {}), **shape}


def epochs(rows: int) -> int:
    """How often sft goes over its rows."""
    return 3 if rows < FEW_ROWS else 2


def _sequences(count: int) -> str:
    return f"{count:,} sequence{'' if count == 1 else 's'}"


def _steps(asked: RecipeAsked, cut: Cut, stage: int, rows: int) -> dict[str, Any]:
    """The keys of a training's steps; `stage` is 0 for sft and 1 for apo."""
    small = asked.model.parameters is not None and asked.model.parameters < SMALL
    short = cut.sequences is not None and cut.sequences < FEW_STEPS * cut.batch(asked.machine)
    rates = RATES["adapter" if asked.adapter else "small" if small else "large"]
    return {
        "num_train_epochs": (3 if short else 1) if stage else epochs(rows),
        "global_batch_size": cut.batch(asked.machine),
        "per_device_train_batch_size": cut.fitting_batch(asked.machine).at_once,
        "learning_rate": rates[stage],
        **SCHEDULE,
        "warmup_steps": 0.1,
        "max_grad_norm": 0.2 if stage else 1.0,
        "bf16": not asked.machine.on_cpu,
        "gradient_checkpointing": cut.checkpointed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 0.25,
        "save_total_limit": 1,
    }
