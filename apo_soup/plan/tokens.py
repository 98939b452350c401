"""What a recipe's stages do to the tokens of their models, before any of them has run.

Each training file begins with the tokens and the embeddings of the model that it names, or of the file that makes it.
A tokenizer that its model has no rows for, and a merge of models whose tokens differ, are told here: later they would
cost the training before them.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from tokenizers import AddedToken, Tokenizer

from apo_soup.config.merge import MergeFile
from apo_soup.config.places import resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.models.embeddings import embedding_rows, misfit, rows_for
from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer
from apo_soup.runs.makers import stage_folder
from apo_soup.stored_json import Count, Form, read_json


@dataclass(frozen=True)
class ModelTokens:
    """The tokenizer of a model, the rows of its embeddings and the tokens of the longest row that it is made for; None
    where its configuration does not say.
    """

    tokenizer: Tokenizer
    rows: int | None
    positions: int | None = None

    @cached_property
    def texts(self) -> dict[str, int]:
        """The ids of all tokens by their texts."""
        return self.tokenizer.get_vocab(with_added_tokens=True)

    @cached_property
    def ids(self) -> int:
        """The highest id and 1."""
        return max(self.texts.values(), default=-1) + 1


def token_problems(recipes: list[StageFile]) -> list[str]:
    """A sentence for each training file whose tokens do not fit its model or cannot be read, and for each merge of
    unlike tokens.
    """
    training = [recipe for recipe in recipes if isinstance(recipe, TrainingFile)]
    makers = {resolved(recipe.output_dir): recipe for recipe in training}
    known: dict[Path, ModelTokens | None] = {}
    problems: list[str] = []
    for recipe in training:
        _follow(recipe, makers, known, problems)
    made = {folder: known[recipe.path] for folder, recipe in makers.items()}
    for merge in recipes:
        if isinstance(merge, MergeFile):
            problems += _merge_problems(merge, made)
    return problems


def _follow(
    recipe: TrainingFile,
    makers: Mapping[Path, TrainingFile],
    known: dict[Path, ModelTokens | None],
    problems: list[str],
) -> ModelTokens | None:
    """The tokens of the model that a file makes; None where they are not known, or do not fit.

    Args:
        makers: the file that makes each folder.
        known: what was found before, by file.
        problems: gets a sentence where they do not fit.
    """
    if recipe.path in known:
        return known[recipe.path]
    known[recipe.path] = None  # for a file that begins with what it makes
    parent = makers.get(stage_folder(recipe.model_name_or_path))
    try:
        before = _follow(parent, makers, known, problems) if parent else read_tokens(recipe)
    except UserError as error:  # a damaged file
        problems.append(str(error))
        return None
    if before is None:
        return None
    after = replace(_with_new_tokens(before, recipe), positions=recipe.asked_window.positions or before.positions)
    if after.positions is not None and recipe.max_length > after.positions:
        told = f"{recipe.max_length:,} tokens are more than the {after.positions:,} that {recipe.model_name_or_path}"
        recipe.notes.append(f"{recipe.place('max_length')}: {told} is made for; extend.yaml gives it a longer window")
    problem = misfit(recipe, after.ids, after.rows)
    if problem:
        problems.append(problem)
        return None
    end = recipe.end_of_turn
    if end is not None and end not in after.texts:
        problems.append(
            f"{recipe.place('eos_token')}: expected a token of {recipe.model_name_or_path}, got {end!r}, which its "
            "tokenizer does not have; correct it, or add it with add_special_tokens"
        )
    known[recipe.path] = after
    return after


def _with_new_tokens(before: ModelTokens, recipe: TrainingFile) -> ModelTokens:
    tokenizer, rows = before.tokenizer, before.rows
    if recipe.new_tokens:
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        texts = before.texts
        tokenizer.add_tokens([AddedToken(t.text, normalized=False) for t in recipe.new_tokens if t.text not in texts])
    after = ModelTokens(tokenizer, rows)
    if rows is None or recipe.embedding_multiple is None:
        return after
    return ModelTokens(tokenizer, rows_for(after.ids, rows, recipe.embedding_multiple))


class ModelSettings(Form):
    """What is read of a model's config.json."""

    model_type: str | None = None
    vocab_size: Count | None = None
    max_position_embeddings: Count | None = None
    text_config: dict[str, Any] | None = None


def read_tokens(recipe: TrainingFile) -> ModelTokens | None:
    """The tokens of a training file's model, from its folder or the Hub's cache; None where they are not there.

    Raises:
        UserError: one of its files is damaged.
    """
    where = recipe.where("model_name_or_path")
    settings = _model_file(recipe, "config.json")
    tokenizer = stored_tokenizer(partial(_model_file, recipe), where) if settings else None
    if settings is None or tokenizer is None:
        return None
    read = read_json(settings, where, "copy the model again", ModelSettings)
    positions = (read.get("text_config") or read).get("max_position_embeddings")
    return ModelTokens(tokenizer, embedding_rows(read), positions if isinstance(positions, int) else None)


def _model_file(recipe: TrainingFile, name: str) -> Path | None:
    folder = Path(recipe.model_name_or_path).expanduser()
    if folder.is_dir():
        return file_in(folder)(name)
    try:
        cached = try_to_load_from_cache(recipe.model_name_or_path, name, revision=recipe.model_revision)
    except ValueError:  # no id of the Hub, so a folder that is not there yet
        return None
    return Path(cached) if isinstance(cached, str) else None


def _merge_problems(recipe: MergeFile, made: Mapping[Path, ModelTokens | None]) -> Iterator[str]:
    """A sentence where the stages that a merge averages have other tokens, or more rows, than one another; `made` has
    those that are known, by folder.
    """
    merge = recipe.merge
    if merge is None or merge.tokenizer or merge.tokenizer_source:
        return
    names = [entry.model for entry in merge.models or () if isinstance(entry.model, str)]
    run = Path(recipe.output_dir)
    stages = {
        name: made.get(resolved(run / ("apo" if name == "soup" or name.startswith("apo/") else name))) for name in names
    }
    found = [(name, tokens) for name, tokens in stages.items() if tokens]
    for (first, expected), (name, tokens) in itertools.pairwise(found):
        where = recipe.place("merge.models")
        new = sorted({text for text, _ in expected.texts.items() ^ tokens.texts.items()})
        if new:
            yield (
                f"{where}: expected models of the same tokens, got {first} and {name}, which differ in {len(new):,} "
                f"({', '.join(map(repr, new[:3]))}{', ...' if new[3:] else ''}); give both add_tokens, or say which "
                "tokens the result has with mergekit's key tokenizer_source"
            )
        elif expected.rows != tokens.rows:
            yield (
                f"{where}: expected models with embeddings of one size, got {first} with {expected.rows:,} rows and "
                f"{name} with {tokens.rows:,}; give both resize_embeddings, and the same resize_embeddings_multiple_of"
            )
