"""The tokenizer that a training file asks for: its template, its new tokens, and whose it is before a model is made."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

from apo_soup.config.training import TrainingFile
from apo_soup.models.adapter_base import require_no_hub_adapter
from apo_soup.models.architecture import require_language_model
from apo_soup.models.earlier_adapter import base_model, earlier_adapter
from apo_soup.models.embeddings import check_fits, embedding_rows, rows_for
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer
from apo_soup.runs.makers import Upstream, upstream
from apo_soup.runs.sources import model_folder

# What transformers raises over a configuration that is not there, or that it does not know or cannot read.
CONFIG_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, StrictDataclassError)


def recipe_tokenizer(
    recipe: TrainingFile, say: Callable[[str], None] | None = None, anew: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer that a training file asks for, with the template that will train.

    Where its model is not made yet, that is what the files upstream of it will save with it: the tokenizer at their
    beginning, with the template, the new tokens, the end of turn and the padding that each of them lays over it. It
    goes through the same saving and loading as there, which mark an end of turn as special and change the line ends of
    a template.

    Args:
        say: told in a sentence whose tokenizer and template are taken, where the model is not there.
        anew: as `upstream` takes it.

    Raises:
        UserError: as `load_tokenizer` and `upstream` do, the model has no embeddings for all of its tokens, or it is an
            adapter of the Hub.
    """
    require_no_hub_adapter(recipe)
    way = upstream(recipe, anew)
    first = (recipe, *way.files)[-1]
    weights = Path(way.model if way.files else base_model(recipe)).expanduser()
    if weights.is_dir():
        require_language_model(weights, first.place("model_name_or_path"), first.trust_remote_code)
    if way.model == recipe.model_name_or_path:
        tokenizer = _with_template_of(recipe, _of_base(recipe))
        check_fits(recipe, token_ids(tokenizer), model_rows(recipe))
        return tokenizer
    model_folder(way.model, first.place("model_name_or_path"), recipe.path.parent)
    if say:
        say(_origin(recipe, way))
    files, rows = way.model, model_rows(first, way.model)
    with TemporaryDirectory() as folder:
        for number, above in enumerate(reversed(way.files)):
            saved = Path(folder) / str(number)
            tokenizer = _with_template_of(above, files)
            tokenizer.save_pretrained(saved)
            _copy_config(files, above.model_revision, saved)
            files, rows = str(saved), _rows_made(above, token_ids(tokenizer), rows)
        tokenizer = _with_template_of(recipe, files)
        check_fits(recipe, token_ids(tokenizer), rows)
        return tokenizer


def _of_base(recipe: TrainingFile) -> str | None:
    """The base of an adapter that was saved without a tokenizer, whose own it takes; None for any other model."""
    adapter = earlier_adapter(recipe)
    return base_model(recipe) if adapter and not (adapter / "tokenizer_config.json").is_file() else None


def _rows_made(recipe: TrainingFile, ids: int, rows: int | None) -> int | None:
    """The rows of the embeddings of the model that a file will make of one with `rows`; None where they are not known.

    Raises:
        UserError: the tokenizer is larger, and the file resizes nothing.
    """
    check_fits(recipe, ids, rows)
    multiple = recipe.embedding_multiple
    return rows if rows is None or multiple is None else rows_for(ids, rows, multiple)


def _with_template_of(recipe: TrainingFile, files: str | None) -> PreTrainedTokenizerBase:
    return load_tokenizer(
        recipe.model_name_or_path,
        recipe.place("model_name_or_path"),
        TokenizerKeys(recipe.chat_template, recipe.end_of_turn, recipe, recipe.path.parent, recipe.place),
        recipe.model_revision,
        recipe.trust_remote_code,
        files,
    )


def token_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many ids a tokenizer needs rows for: its highest one, holes below it included, and 1."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def new_token_ids(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids, ascending, of tokens that the recipe's model does not know: its own tokenizer lacks them, or its
    embeddings have no row for them.

    Raises:
        UserError: an adapter does not say what its base is.
    """
    own = AutoTokenizer.from_pretrained(
        recipe.model_name_or_path, revision=recipe.model_revision, trust_remote_code=recipe.trust_remote_code
    ).get_vocab()
    rows = model_rows(recipe)
    vocabulary = tokenizer.get_vocab().items()
    return sorted(i for text, i in vocabulary if own.get(text) != i or (rows is not None and i >= rows))


def model_rows(recipe: TrainingFile, model: str | None = None) -> int | None:
    """The rows of the embeddings of a training file's model, or of `model` in its place, by its configuration; None
    where that does not say, or cannot be loaded: what loads the weights will tell.

    Raises:
        UserError: an adapter does not say what its base is.
    """
    try:
        config = AutoConfig.from_pretrained(
            model or base_model(recipe),
            revision=recipe.model_revision,
            trust_remote_code=recipe.trust_remote_code,
        )
    except CONFIG_ERRORS:
        return None
    return embedding_rows(config.to_dict())


def _copy_config(model: str, revision: str, folder: Path) -> None:
    """Put a model's configuration beside its tokenizer, whose class transformers may choose by it."""
    with contextlib.suppress(OSError):  # without one, the tokenizer's own file says its class
        local = Path(model).expanduser()
        found = cached_file(local if local.exists() else model, "config.json", revision=revision)
        if found:
            shutil.copyfile(found, folder / "config.json")


def _origin(recipe: TrainingFile, way: Upstream) -> str:
    """Whose tokenizer and template stand for those of a model that is not there yet, in a sentence."""
    giver = next((file for file in (recipe, *way.files) if file.chat_template is not None), None)
    template = f"chat template of {giver.where('chat_template')}" if giver else "its own chat template"
    return f"{recipe.model_name_or_path} is not there yet; taken are the tokenizer of {way.model} and {template}"
