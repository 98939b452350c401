"""`apo-soup plan RECIPE`: a table of what each training of a recipe will be, and the same for programs.

Rows are counted by preparing them, which the run then finds; memory is that of a rehearsed step.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.batch import global_batch
from apo_soup.config.members import member_recipes, same_but_seed
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.data.prepare import prepare_mixture
from apo_soup.errors import UserError, first_line
from apo_soup.models.recipe_tokenizer import recipe_tokenizer, token_ids
from apo_soup.plan.device import Device
from apo_soup.plan.fitting import fitting
from apo_soup.plan.launch import Processes
from apo_soup.plan.row_counts import SplitCounts, row_counts
from apo_soup.plan.sampled_rows import sampled_counts
from apo_soup.plan.stage_plan import ConfigNotSeen, StagePlan, plan_training, setting_of
from apo_soup.runs.makers import missing_sources, upstream
from apo_soup.runs.planned import FIGURES, keep_plan, keys_hash, run_of
from apo_soup.runs.sources import is_local
from apo_soup.tables import size_text, text_table

# The files of trainings that a run starts, in its order.
RUN_FILES = ("mid.yaml", "sft.yaml", "apo.yaml")
# What a plan is for, one and more, by whether it is a CPU.
DEVICE_WORDS = {True: ("CPU process", "CPU processes"), False: ("GPU", "GPUs")}
HEADER = ["stage", "rows", "tokens", "trained", "sequences", "batch", "steps", "warm-up", "memory", "disk", "time"]


@dataclass(frozen=True)
class RecipePlan:
    """The plans of all trainings of a recipe, and what they are made for.

    Attributes:
        price: of a device and hour.
        left_out: files of trainings that no run starts.
    """

    stages: list[StagePlan]
    launch: Processes
    device: Device
    price: float | None
    left_out: tuple[str, ...] = ()

    def json(self) -> str:
        """The figures for programs; null where one is not known."""
        stages: dict[str, Any] = {}
        for plan in self.stages:
            memory = asdict(plan.memory) if plan.memory else None
            stages[plan.name] = {name: getattr(plan, name) for name in FIGURES}
            stages[plan.name] |= {"memory": memory, "notes": list(plan.notes)}
            if plan.measured:
                stages[plan.name]["measured"] = asdict(plan.measured)
        seconds = self.seconds
        whole = {"processes": self.launch.processes, "seconds": seconds, "cost": self.cost(seconds)}
        return json.dumps({"stages": stages, **whole}, indent=2)

    def text(self) -> str:
        """A table for people, and below it what was assumed."""
        lines = [text_table(HEADER, [_cells(plan) for plan in self.stages])]
        lines += dict.fromkeys(note for plan in self.stages for note in plan.notes)
        lines += [f"{name} is not planned, for `apo-soup run` does not start it" for name in self.left_out]
        count, (one, more) = self.launch.processes, DEVICE_WORDS[self.launch.on_cpu]
        shared = "" if self.launch.sharing == "none" else f", {self.launch.sharing}"
        lines.append(f"for {count} {one if count == 1 else more}{shared}; memory is of one")
        seconds = self.seconds
        price = (
            "" if self.price is None or seconds is None else f", {self.cost(seconds):,.2f} at {self.price:g} an hour"
        )
        told = (
            "time is not known" if seconds is None else f"time is that of training, {duration(seconds)} together{price}"
        )
        assumed = "by the steps that were measured" if any(p.measured for p in self.stages) else self.device.told
        lines.append(f"{told}: {assumed}")
        return "\n".join(lines)

    def keep(self) -> None:
        """Leave the figures in the folders of their runs, from which each stage takes its own along."""
        known = [plan for plan in self.stages if plan.keys]
        for run in dict.fromkeys(plan.run for plan in known):
            of_run = [plan for plan in known if plan.run == run]
            keep_plan(Path(run), {p.name: {"keys": p.keys} | {n: getattr(p, n) for n in FIGURES} for p in of_run})

    @property
    def seconds(self) -> float | None:
        """Of all trainings; None where one is not known."""
        found = [plan.seconds for plan in self.stages]
        return None if None in found else sum(seconds for seconds in found if seconds)

    def cost(self, seconds: float | None) -> float | None:
        """Of so many seconds on all devices."""
        if self.price is None or seconds is None:
            return None
        return round(self.price * self.launch.processes * seconds / 3600, 2)


def plan_recipe(
    recipes: Sequence[StageFile],
    launch: Processes,
    device: Device,
    process: float,
    price: float | None,
    sample: int | None = None,
) -> RecipePlan:
    """The plans of all trainings of a recipe, in the order of its stages; of an apo file one a member.

    Args:
        process: bytes that a process on a CPU takes before a training begins.
        price: of a device and hour.
        sample: from how many rows those of a file are estimated where it has more; None prepares and counts all.

    Raises:
        UserError: rows or a value are at fault.
    """
    plans: list[StagePlan] = []
    files = {recipe.path.name: recipe for recipe in recipes if isinstance(recipe, TrainingFile)}
    for name in RUN_FILES:
        if name in files:
            plans += _plans_of(files.pop(name), launch, device, process, sample)
    return RecipePlan(plans, launch, device, price, tuple(sorted(files)))


def _plans_of(
    recipe: TrainingFile, launch: Processes, device: Device, process: float, sample: int | None
) -> list[StagePlan]:
    members: Sequence[TrainingFile] = member_recipes(recipe) if isinstance(recipe, ApoFile) else [recipe]
    model = upstream(recipe).model
    plans: list[StagePlan] = []
    for member in members:
        name = recipe.path.stem + (f"/{member.member}" if member.member is not None else "")
        same = next((n for n in range(len(plans)) if same_but_seed(members[n], member)), None)
        if same is not None:
            keys = keys_hash(member) if plans[same].keys else ""
            plans.append(replace(plans[same], name=name, keys=keys, run=run_of(member)))
            continue
        counts, token_count, notes = _rows_of(member, sample)
        try:
            setting = setting_of(member, launch, model, token_count)
        except ConfigNotSeen as error:
            where = upstream(recipe).files[-1] if upstream(recipe).files else recipe
            told = f"{where.place('model_name_or_path')}: {model} is not there to be seen ({error})"
            plans.append(StagePlan(name, global_batch=global_batch(member, launch.processes), notes=(*notes, told)))
            continue
        plan = plan_training(setting, name, counts, device, process, tuple(notes))
        too_large = fitting(setting, counts, plan.peak_memory_bytes or 0, device.memory, process)
        more = (too_large,) if too_large else ()
        plans.append(replace(plan, keys=keys_hash(member), run=run_of(member), notes=(*plan.notes, *more)))
    return plans


def _rows_of(recipe: TrainingFile, sample: int | None) -> tuple[SplitCounts | None, int | None, list[str]]:
    """The counts of a file's rows, how many token ids its tokenizer has, and notes on what is not known."""
    missing = missing_sources(recipe)
    told = [
        f"{recipe.place(f'dataset_mixture.datasets.{number}.id')}: rows are not known before {maker.name} has made them"
        for number, maker in missing.items()
    ]
    try:
        tokenizer = recipe_tokenizer(recipe)
    except UserError as error:
        return None, None, [*told, f"no tokenizer: {first_line(error)}"]
    if told:
        return None, token_ids(tokenizer), told
    remote = [s.written_id for s in recipe.dataset_mixture.datasets if not is_local(s.id)]
    if remote:
        told = [f"{recipe.path}: rows of the Hub ({remote[0]}{', ...' if remote[1:] else ''}) are counted by prepare"]
        return None, token_ids(tokenizer), told
    if sample is not None:
        estimated, of_what = sampled_counts(recipe, tokenizer, sample)
        if estimated is not None:
            return estimated, token_ids(tokenizer), [of_what]
    return row_counts(prepare_mixture(recipe, tokenizer), isinstance(recipe, ApoFile)), token_ids(tokenizer), []


def _cells(plan: StagePlan) -> list[str]:
    counts = (plan.rows, plan.tokens, plan.trained_tokens, plan.sequences, plan.global_batch, plan.steps)
    memory = "?" if plan.peak_memory_bytes is None else size_text(plan.peak_memory_bytes)
    if plan.measured:
        memory += f", measured {size_text(plan.measured.peak_memory_bytes)}"
    return [
        plan.name,
        *("?" if count is None else f"{count:,}" for count in counts),
        "?" if plan.warmup_steps is None else f"{plan.warmup_steps:,}",
        memory,
        "?" if plan.disk_bytes is None else size_text(plan.disk_bytes),
        "?" if plan.seconds is None else duration(plan.seconds),
    ]


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> duration(42), duration(600), duration(100_000)
    ('42 s', '10 min', '27.8 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
