"""What only tokenizers, templates and first rows tell of files that are right by themselves.

What is not there yet, since a stage makes it, is passed over, and so are models of the Hub.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from apo_soup.config.asking import AskingFile
from apo_soup.config.eval import EvalFile, OwnTask
from apo_soup.config.judges import RewardJudge
from apo_soup.config.merge import MergeFile
from apo_soup.config.shared_rows import heads_problem, sharing_refused, unshared
from apo_soup.config.sides import LocalSide
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import AskedWindow, TrainingFile
from apo_soup.errors import UserError
from apo_soup.models.adapted_layers import require_trainable_bits, stores_layers
from apo_soup.plan.files_trained import files_trained
from apo_soup.plan.made import MadeHere
from apo_soup.plan.whole_rows import whole_rows_reason
from apo_soup.runs.makers import upstream
from apo_soup.runs.sources import is_local
from apo_soup.runs.suite_inputs import tasks_with_rows
from apo_soup.stored_json import read_json
from merge.foreseen import is_for_mergekit, merge_problems

# Prompts that are read for one that has a reference, and for one that the template takes.
PROMPTS_READ, PROMPTS_RENDERED = 20_000, 20


def tried_problems(recipes: Sequence[StageFile], folder: Path, alone: bool = False) -> list[str]:
    """A sentence for everything that a run of these files would refuse once it has tokenizers and rows.

    Args:
        recipes: files of a recipe that are right by themselves.
        folder: where they lie.
        alone: this process does nothing else, so that transformers may go without torch, whose import takes seconds
            and which tokenizers do not need.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    made, told = MadeHere(folder), list[str]()
    if alone and not any(map(needs_torch, recipes)):
        import_without_torch()

    # Merges last: they may need torch.
    for recipe in sorted(recipes, key=lambda recipe: isinstance(recipe, MergeFile)):
        for look in _looks(recipe, made):
            try:
                told.extend(look() or ())
            except UserError as error:
                told.extend(line.strip() for line in str(error).splitlines())
    return told


def _looks(recipe: StageFile, made: MadeHere) -> Iterator[Callable[[], Iterator[str] | None]]:
    """What is to be tried of a file: each call raises UserError, or gives sentences."""
    if isinstance(recipe, TrainingFile):
        for file in files_trained(recipe):
            yield partial(_try_training, file, made)
    elif isinstance(recipe, AskingFile):
        yield partial(_try_prompts, recipe, made)
        for name, side in {**recipe.sides(), "judge": recipe.judge}.items():
            if isinstance(side, LocalSide):
                yield partial(_try_side, recipe, name, side, made)
            elif isinstance(side, RewardJudge):
                yield partial(_try_judge, recipe, side)
    elif isinstance(recipe, EvalFile):
        yield partial(_try_suite, recipe, made)
    elif isinstance(recipe, MergeFile):
        yield partial(_try_merge, recipe, made)


def needs_torch(recipe: StageFile) -> bool:
    """Whether a file is read by what may import torch: mergekit, code of a model, or a model that is built.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    if isinstance(recipe, MergeFile):
        return is_for_mergekit(recipe)
    if isinstance(recipe, AskingFile):
        sides = [*recipe.sides().values(), recipe.judge]
        return any(isinstance(side, LocalSide | RewardJudge) and side.trust_remote_code for side in sides)
    if isinstance(recipe, TrainingFile) and any(strange_layers(file) for file in files_trained(recipe)):
        return True  # which only the built model can tell from those of another name
    return isinstance(recipe, TrainingFile | EvalFile) and recipe.trust_remote_code


def strange_layers(recipe: TrainingFile) -> str | None:
    """The model on disk whose weights hold no layer of a name that a recipe's adapter is to change; None for others."""
    with suppress(UserError):  # which is told where the model is looked at
        model = upstream(recipe, anew=True).model
        folder = Path(model).expanduser()
        if recipe.use_peft and is_local(model) and (folder / "config.json").is_file():
            return None if stores_layers(recipe, folder) else model
    return None


def import_without_torch() -> None:
    """Import transformers without torch for the rest of this process, unless one of them is imported already."""
    if "torch" in sys.modules or "transformers" in sys.modules:
        return
    hidden: dict[str, Any] = sys.modules  # None in the place of a module means that it cannot be imported
    hidden["torch"] = None
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that it is not there
    try:
        import_module("transformers")
    finally:
        del hidden["torch"]


def _try_training(recipe: TrainingFile, made: MadeHere) -> Iterator[str]:
    model = upstream(recipe, anew=True).model
    if not is_local(model) or not Path(model).expanduser().exists():
        return
    from apo_soup.data.first_rows import first_rows_problems
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    if recipe.asked_window != AskedWindow():
        from apo_soup.models.window import window_of

        window_of(recipe, model)
    if (Path(model).expanduser() / "config.json").is_file():
        where = recipe.place("model_name_or_path")
        settings = read_json(Path(model).expanduser() / "config.json", where).get("quantization_config")
        require_trainable_bits(recipe, model, settings)
    if strange_layers(recipe):
        from apo_soup.models.without_weights import require_named_layers

        require_named_layers(recipe, model)
    if recipe.sequence_parallel_size > 1:
        _try_sharing(recipe, model)
    tokenizer = recipe_tokenizer(recipe, anew=True)
    sources = recipe.dataset_mixture.datasets
    absent = {number for number, source in enumerate(sources) if made.makes(source.id) or not is_local(source.id)}
    yield from first_rows_problems(recipe, tokenizer, absent)


def _try_sharing(recipe: TrainingFile, model: str) -> None:
    """The heads of attention, which processes that share rows divide, and how far its layers see."""
    from apo_soup.models.window import config_of

    text = config_of(recipe, model).get_text_config()
    heads = heads_problem(text, recipe.sequence_parallel_size)
    if heads:
        raise sharing_refused(recipe, heads)
    reason = whole_rows_reason(recipe, text)
    if reason:
        raise sharing_refused(recipe, unshared(reason))


def _try_prompts(recipe: AskingFile, made: MadeHere) -> None:
    """The prompts' references, where a verifier is to judge by them."""
    if recipe.verifier is None or ":" in recipe.verifier or recipe.verifier == "math" or recipe.limit is not None:
        return
    if any(made.makes(source.id) or not is_local(source.id) for source in recipe.prompts):
        return
    from apo.pairs.make import check_prompts
    from apo.pairs.prompts import read_prompts
    from apo_soup.verify.answers import verifier

    judge = verifier(recipe.verifier, recipe.place("verifier"))
    few = recipe.model_copy(update={"limit": PROMPTS_READ})
    prompts = read_prompts(few, judge)
    if len(prompts.usable) < PROMPTS_READ:
        check_prompts(recipe, prompts, judge)


def _try_side(recipe: AskingFile, name: str, side: LocalSide, made: MadeHere) -> Iterator[str]:
    if made.makes(side.model) or not is_local(side.model):
        return
    from apo.pairs.engines.rendering import rendered_prompts, side_tokenizer
    from apo.pairs.prompts import read_prompts
    from apo_soup.data.rendering.trained_spans import Renderer

    renderer = Renderer(side_tokenizer(side, recipe.place(name)))
    if any(made.makes(source.id) or not is_local(source.id) for source in recipe.prompts):
        return
    prompts = read_prompts(recipe.model_copy(update={"limit": PROMPTS_RENDERED}), None).usable
    texts, refused = rendered_prompts(renderer, list(islice(prompts, PROMPTS_RENDERED)))
    if prompts and not texts:
        told = f"expected a template that takes a prompt among the first {len(prompts)}, got none"
        yield f"{recipe.place(name)}.model: {told}; the first, {prompts[0].source_row}: {refused[0].problem}"


def _try_judge(recipe: AskingFile, judge: RewardJudge) -> None:
    if not is_local(judge.model):
        return
    from apo.pairs.engines.rendering import side_tokenizer

    side_tokenizer(judge, recipe.place("judge"))


def _try_suite(suite: EvalFile, made: MadeHere) -> Iterator[str]:
    from apo_soup.evals.first_items import AskedModel, look_at_first_items
    from apo_soup.evals.models_to_evaluate import models_of_suite
    from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer

    asked = AskedModel()
    folders = [] if suite.endpoint else [f for f in models_of_suite(suite).values() if (f / "config.json").is_file()]
    for folder in dict.fromkeys(folders):
        where = f"{suite.place('models')}: {folder}"
        try:
            keys = TokenizerKeys(suite.chat_template, place=suite.place)
            asked.tokenizer = load_tokenizer(str(folder), where, keys, trust_remote_code=suite.trust_remote_code)
        except UserError as error:
            yield str(error)
            return
        own = read_json(folder / "config.json", where).get("max_position_embeddings")
        asked.window = min(own, asked.window or own) if isinstance(own, int) else asked.window
    for task, file in tasks_with_rows(suite):
        if isinstance(task, OwnTask) and Path(file).is_file() and not made.makes(file):
            try:
                look_at_first_items(suite, task, file, asked)
            except UserError as error:
                yield str(error)


def _try_merge(recipe: MergeFile, made: MadeHere) -> Iterator[str]:
    yield from merge_problems(recipe, made.makes)
