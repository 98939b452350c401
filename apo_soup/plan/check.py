"""`apo-soup check RECIPE`: every error of a recipe at once, and what its training files ask for."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from apo_soup.config.adapter_keys import missing_package
from apo_soup.config.apo import ApoFile
from apo_soup.config.batch import batch_problem, global_batch
from apo_soup.config.kinds import stage_name, stage_of_file
from apo_soup.config.launch_file import launch_processes, read_launch
from apo_soup.config.library_values import missing_library
from apo_soup.config.load import load
from apo_soup.config.members import file_problems, member_recipes
from apo_soup.config.places import resolved
from apo_soup.config.sft import SftFile
from apo_soup.config.shared_rows import division_of_file, division_problem, untested
from apo_soup.config.slurm import SLURM_FILE
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import sweep_problems
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.models.earlier_adapter import earlier_adapter_problem
from apo_soup.plan.begun import begun_problems
from apo_soup.plan.circles import circles
from apo_soup.plan.few_rows import few_rows_problems
from apo_soup.plan.recipe_files import made_by_another, misspelt_files, shared_runs
from apo_soup.plan.tokens import token_problems
from apo_soup.runs.outputs import output_folders, output_problems
from apo_soup.runs.sources import is_local
from apo_soup.runs.trackers import logging_note, missing_note
from apo_soup.tables import text_table


def check_recipe(folder: Path, launch: Path | None = None, alone: bool = False) -> tuple[list[StageFile], list[str]]:
    """Load every stage file of a recipe; returns the good ones and one message for each thing that is wrong.

    Args:
        launch: the accelerate configuration that trainings will be started with.
        alone: as `tried_problems` takes it.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a recipe folder, got none there; correct the path")
    # Late: whoever checks one file alone needs none of the stages.
    from apo_soup.plan.jobs import job_problems
    from apo_soup.plan.named import named_problems
    from apo_soup.plan.tried import tried_problems

    recipes: list[StageFile] = []
    problems: list[str] = []
    for file in sorted(folder.glob("*.yaml")):
        kind = stage_of_file(file)
        if kind is None:
            continue
        recipe, wrong = checked_file(file, kind)
        problems += wrong
        if recipe:
            recipes.append(recipe)
            folders = output_folders(recipe)
            wrong = output_problems(recipe, folders)
            problems += [*wrong, *begun_problems(recipe)]
            if not wrong:
                problems += note_problems(recipe, made_by_another(recipe, folders))
            if isinstance(recipe, TrainingFile):
                notes = {"report_to": missing_note(recipe), "logging_dir": logging_note(recipe)}
                recipe.notes.extend(f"{recipe.where(key)}: {note}" for key, note in notes.items() if note)
    problems += [*doubled_outputs(recipes), *doubled_repositories(recipes), *circles(recipes)]
    training = [recipe for recipe in recipes if isinstance(recipe, TrainingFile)]
    looks = (missing_package, missing_library, earlier_adapter_problem)
    problems += filter(None, (look(recipe) for look in looks for recipe in training))
    try:
        if launch:
            read_launch(launch)  # which is told of where no training is right
            problems += [problem for recipe in training for problem in launch_problems(recipe, launch)]
    except UserError as error:
        problems += [line.strip() for line in str(error).splitlines()]
    if (folder / SLURM_FILE).is_file():
        problems += job_problems(folder, [recipe.path.name for recipe in recipes])
    problems += few_rows_problems(recipes)
    problems += token_problems(recipes)
    problems += named_problems(recipes, folder)
    problems += [*misspelt_files(folder), *shared_runs(folder)]
    sound = [recipe for recipe in recipes if not any(str(recipe.path) in problem for problem in problems)]
    problems += tried_problems(sound, folder, alone)
    problems = list(dict.fromkeys(problems))
    if not recipes and not problems:
        problems.append(
            f"{folder}: expected at least one of mid.yaml, sft.yaml, apo.yaml, merge.yaml and eval.yaml, got none; "
            "name a recipe's folder"
        )
    return recipes, problems


def note_problems(recipe: StageFile, notes: Iterable[str]) -> list[str]:
    """Write notes to a file's own; a sentence where one cannot be told for what is damaged."""
    try:
        recipe.notes.extend(notes)
    except UserError as error:
        return [f"{recipe.place('output_dir')}: {error}"]
    return []


def doubled_outputs(recipes: list[StageFile]) -> list[str]:
    """A sentence for each folder that two stages of a recipe make, or that lies in one that another makes: each would
    replace the other's. `sft_b.yaml` is another file of the stage sft; what an eval file makes lies in its folder.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    made: list[tuple[Path, StageFile]] = []
    problems = []
    for recipe in recipes:
        folders = [Path(recipe.output_dir)] if recipe.kind == "eval" else list(output_folders(recipe).values())
        others = [(place, other) for place, other in made if stage_name(other.path) != stage_name(recipe.path)]
        for folder in folders:
            place, told = resolved(folder), f"{recipe.place('output_dir')}: expected a folder of its own, got {folder}"
            for other, maker in others:
                whose = f"{maker.path.name} makes; name another one"
                if place == other:
                    problems.append(f"{told}, which {whose}")
                elif other in place.parents or place in other.parents:
                    lies = "in" if other in place.parents else "around"
                    problems.append(f"{told} {lies} {other.name}, which {whose}")
        made += [(resolved(folder), recipe) for folder in folders]
    return problems


def doubled_repositories(recipes: list[StageFile]) -> Iterator[str]:
    """A sentence for each repository of the Hub that two files of a recipe send their folders to."""
    senders: dict[tuple[str, str | None], StageFile] = {}
    for recipe in recipes:
        if isinstance(recipe, TrainingFile) and recipe.repository is not None:
            first = senders.setdefault(recipe.repository, recipe)
            if first is not recipe:
                yield (
                    f"{recipe.place('hub_model_id')}: expected a repository of its own, got {recipe.hub_model_id}, "
                    f"to which {first.path.name} sends what it makes; name another one"
                )


def checked_file(
    file: Path, kind: str, overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> tuple[StageFile | None, list[str]]:
    """A stage file with `overrides` over it, or else a sentence for each thing that is wrong with it, with the members
    of an apo file and the points of a sweep file. `options` are those that `load` takes.
    """
    try:
        wrong = file_problems(file, overrides, options) if kind == "apo" else []
        if wrong:
            return None, wrong
        recipe = load(file, kind, overrides, options)
        wrong = sweep_problems(recipe) if isinstance(recipe, SweepFile) else []
        return (None, wrong) if wrong else (recipe, [])
    except UserError as error:
        return None, [line.strip() for line in str(error).splitlines()]


def batch_problems(recipe: TrainingFile, processes: int | None) -> Iterator[str]:
    """A sentence for each training of a file whose global batch that many processes do not divide; none where their
    number is not known.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    for training in trainings_of(recipe) if processes else ():
        problem = batch_problem(training, processes or 1)
        if problem:
            yield problem


def launch_problems(recipe: TrainingFile, launch: Path) -> Iterator[str]:
    """A sentence for each training of a file that processes started with this configuration cannot take.

    Raises:
        UserError: the configuration cannot be read; a member holds an unknown key or a value of the wrong type.
    """
    yield from batch_problems(recipe, launch_processes(launch))
    yield from division_problems(recipe, launch)


def division_problems(recipe: TrainingFile, launch: Path) -> Iterator[str]:
    """A sentence for each training of a file that does not go with what this configuration divides among processes; a
    note on the file for what it hands on untried.

    Raises:
        UserError: as `launch_problems`.
    """
    division = division_of_file(read_launch(launch)[0])
    for training in trainings_of(recipe):
        problem = division_problem(training, division)
        if problem:
            yield f"{problem} ({launch})"
    told = untested(recipe, division)
    if told:
        recipe.notes.append(told)


def trainings_of(recipe: TrainingFile) -> Sequence[TrainingFile]:
    """The trainings of a file: those of its members, where it may have some.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    return member_recipes(recipe) if isinstance(recipe, ApoFile) else [recipe]


def training_table(recipes: list[StageFile]) -> str:
    """A table of the training files: model, data sources, what an optimiser step takes, runs."""
    rows = []
    for recipe in recipes:
        if not isinstance(recipe, SftFile | ApoFile):
            continue
        sources = recipe.dataset_mixture.datasets
        local = sum(is_local(source.id) for source in sources)
        whole, sharing = recipe.global_batch_size is not None, recipe.sequence_parallel_size
        each = "a process" if sharing == 1 else f"a group of {sharing}"
        unit, runs = ("pairs", len(recipe.members or [1])) if isinstance(recipe, ApoFile) else ("sequences", 1)
        rows.append(
            [
                recipe.path.name,
                recipe.model_name_or_path,
                f"{len(sources)} ({local} local)",
                f"{global_batch(recipe, sharing)} {unit} x {recipe.max_length}{'' if whole else f' {each}'}",
                str(recipe.learning_rate) if recipe.gives("learning_rate") else "default",
                str(runs),
            ]
        )
    return text_table(["file", "model", "sources", "a step", "learning rate", "runs"], rows) if rows else ""
