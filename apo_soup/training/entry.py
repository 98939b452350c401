"""The opening of the training stages: the output folder that a file asks for, with its fingerprint."""

from pathlib import Path

from apo_soup.config.batch import accumulation_steps
from apo_soup.config.shared_rows import division_here, division_problem, untested
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.progress import warn
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.inputs import training_inputs
from apo_soup.runs.manifest import process_count
from apo_soup.runs.ranks import main_decides
from apo_soup.runs.stage import Stage
from apo_soup.runs.upstream import read_by_file


def training_stage(recipe: TrainingFile) -> Stage:
    """The output folder of a mid, sft or apo file, or of a soup member's, with its fingerprint.

    Raises:
        UserError: an input is not there.
    """
    folder = Path(recipe.output_dir)
    name = folder.name if recipe.member is None else f"apo/{recipe.member}"
    inputs = main_decides(f"inputs of {name}", lambda: training_inputs(recipe))
    config = recipe.deciding_values()
    return Stage(name, folder, config, inputs, arguments=deciding_arguments(recipe), reads=read_by_file(recipe))


def require_same_inputs(stage: Stage, recipe: TrainingFile) -> None:
    """Look, when rows and weights have been read, whether they are those that the stage's folder will say.

    Raises:
        UserError: one of them is another one since the stage began.
    """

    def look() -> None:
        now = training_inputs(recipe)
        changed = [name for name in stage.inputs if now.get(name) != stage.inputs[name]]
        if changed or now.keys() != stage.inputs.keys():
            raise UserError(
                f"{recipe.path}: expected inputs that stay, got {(changed or ['some'])[0]} that changed while "
                f"{stage.name} was begun; run the same command again"
            )

    main_decides(f"what {stage.name} was begun with", look)


def require_batch(recipe: TrainingFile, name: str) -> None:
    """Look, before torch is imported, whether the global batch, and what divides rows, can be had on the processes of
    this launch.

    Args:
        name: the stage's.

    Raises:
        UserError: they cannot.
    """

    def look() -> None:
        division = division_here()
        problem, told = division_problem(recipe, division), untested(recipe, division)
        if problem:
            raise UserError(problem)
        accumulation_steps(recipe, process_count())
        if told:
            warn(told)

    main_decides(f"batch of {name}", look)
