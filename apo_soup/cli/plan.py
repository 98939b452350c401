"""`apo-soup plan RECIPE`: see apo_soup/plan/recipe_plan.py."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from apo_soup.cli.rows import make_generated_rows
from apo_soup.cli.shadowed import require_our_module
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import swept_points
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_together
from apo_soup.models.libraries import quiet_libraries
from apo_soup.resources import launch_file

if TYPE_CHECKING:
    from apo_soup.plan.recipe_plan import RecipePlan


@dataclass(frozen=True)
class Devices:
    """What a plan is made for: an accelerate configuration, and a GPU by its name with its price an hour; `measure`
    says whether steps are run on the devices that are here, `sample` from how many rows those of a file are estimated.
    """

    launch: str
    gpu: str
    price: float | None
    measure: bool
    sample: int | None = None


def print_plan(recipe: Path, devices: Devices, as_json: bool) -> None:
    """Print what each training of a recipe will be, as a table or as JSON.

    Raises:
        UserError: the recipe or its rows are at fault, with everything that check finds; or the GPU is not known, or
            steps are to be measured of rows that are not prepared.
    """
    if devices.measure and devices.sample is not None:
        raise UserError(
            "--sample: expected no --measure beside it, got both; leave out one, for steps need prepared rows"
        )
    for stage in ("apo", "merge"):
        require_our_module(stage)
    from apo_soup.plan.check import check_recipe

    file = launch_file(devices.launch) if devices.launch else None
    recipes, problems = check_recipe(recipe, file)
    if problems:
        raise told_together(problems)
    with stdout_for_programs() if as_json else nullcontext():
        planned = _planned(recipe, recipes, file, devices)
    print(planned.json() if as_json else planned.text())
    for one in recipes if not as_json else ():
        if isinstance(one, SweepFile):
            print(walk_told(one, planned))


def walk_told(file: SweepFile, planned: "RecipePlan") -> str:
    """What a walk over training keys will train, with the time that its training file alone would take for each.

    Raises:
        UserError: a point is wrong.
    """
    from apo_soup.plan.recipe_plan import duration

    count = sum(len(point.trainings) for point in swept_points(file))
    one = next((plan.seconds for plan in planned.stages if plan.name.partition("/")[0] == file.stage), None)
    time = "" if one is None else f", {duration(count * one)} together if each takes as long as that does alone"
    return (
        f"{file.path}: {file.count} points, {count} trainings by {file.stage}.yaml{time}; `apo-soup sweep "
        f"{file.path.parent}` walks them"
    )


def _planned(folder: Path, recipes: list[StageFile], file: Path | None, devices: Devices) -> "RecipePlan":
    from apo_soup.plan.device import gpu, this_cpu
    from apo_soup.plan.launch import launch_of

    # Before torch is imported, which takes seconds.
    card, launch = gpu(devices.gpu), launch_of(file)
    quiet_libraries()
    # A stage has these imported before it begins: this process takes what it will.
    for stage in ("apo", "sft"):
        import_module(f"{stage}.train")
    from apo_soup.memory import most_memory_held
    from apo_soup.plan.recipe_plan import plan_recipe

    process = most_memory_held()
    device = this_cpu() if launch.on_cpu else card
    for recipe in recipes:
        if isinstance(recipe, TrainingFile):
            make_generated_rows(recipe)
    plan = plan_recipe(recipes, launch, device, process, devices.price, devices.sample)
    trainings = {recipe.path.stem: recipe for recipe in recipes if isinstance(recipe, TrainingFile)}
    if devices.measure:
        from apo_soup.cli.measure import measured_plans

        launched = str(file) if file else None
        plan = replace(plan, stages=list(measured_plans(plan.stages, trainings, folder, launched)))
    plan.keep()
    return plan


@contextmanager
def stdout_for_programs() -> Iterator[None]:
    """Send what is printed inside, by programs that are started too, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
