"""What a training stage reads, by content: model, rows and template, and evaluations to stay clear of."""

from collections.abc import Collection

from apo_soup.config.training import TrainingFile
from apo_soup.hashing import hash_value
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.sources import model_hash, rows_hash


def training_inputs(recipe: TrainingFile) -> dict[str, str]:
    """Content hashes by label of the model, rows and template of a mid, sft or apo file, and of a suite that chooses
    the checkpoint which is kept.

    Raises:
        UserError: a model, file or template that it names is not there.
    """
    where = recipe.place("model_name_or_path")
    model = model_hash(recipe.model_name_or_path, where, recipe.model_revision, recipe.path.parent)
    inputs = {"model": model} | rows_inputs(recipe)
    if recipe.eval_suite is not None and recipe.eval_suite.keep_best is not None:
        from apo_soup.runs.training_suite import training_suite_hash  # as below

        inputs["suite that chooses"] = training_suite_hash(recipe, recipe.eval_suite)
    return inputs


def rows_inputs(recipe: TrainingFile, without: Collection[int] = ()) -> dict[str, str]:
    """Content hashes by label of the rows and the template alone, less the sources of the numbers `without`; raises
    UserError where one of them is not there.
    """
    folder = recipe.path.parent
    inputs: dict[str, str] = {}
    for number, source in enumerate(recipe.dataset_mixture.datasets):
        if number in without:
            continue
        where = recipe.place(f"dataset_mixture.datasets.{number}.id")
        inputs[f"rows {source.written_id} #{number}"] = rows_hash(source.id, where, source.revision, folder)
    if recipe.dataset_mixture.decontaminate:
        from apo_soup.runs.suite_inputs import eval_rows_hash  # an eval file's keys are built for those who name one

        evals = eval_rows_hash(recipe)
        if evals is not None:
            inputs["evals to stay clear of"] = evals
    template = template_text(recipe.chat_template, recipe.place("chat_template"), folder)
    if template is not None:
        inputs["template"] = hash_value(template)
    return inputs
