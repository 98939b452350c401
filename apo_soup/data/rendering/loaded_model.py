"""A model that is asked: with its tokenizer, what writes its prompts, and the tokens that end its answers."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.data.rendering.message_form import ANSWER, PROBE, USER
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.models.generation import end_ids
from apo_soup.models.loading import load_causal_model
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """`ends` are the ids of tokens of which any ends an answer."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    ends: Set[int]

    @property
    def end_texts(self) -> list[str]:
        """The tokens that end an answer, as they stand in a text."""
        return [str(self.tokenizer.decode([end])) for end in sorted(self.ends)]


def load_model(
    model: str,
    where: str,
    keys: TokenizerKeys | None = None,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """A model folder or Hub id in evaluation mode, on the accelerator where there is one.

    Args:
        where: `FILE:LINE: KEY` of the model, for messages.
        keys: what a file lays over its tokenizer.

    Raises:
        UserError: the tokenizer cannot be loaded, or has no chat template that is valid Jinja; the model comes with
            code that may not run, or is no language model.
    """
    tokenizer = load_tokenizer(model, where, keys, revision, trust_remote_code)
    renderer = Renderer(tokenizer)
    loaded = load_causal_model(model, where, dtype, trust_remote_code, revision).eval()
    return LoadedModel(on_accelerator(loaded), tokenizer, renderer, answer_ends(renderer, loaded))


def on_accelerator(model: Any) -> Any:
    """The model, moved to the accelerator where there is one."""
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model


def answer_ends(renderer: Renderer, model: PreTrainedModel | None = None) -> Set[int]:
    """The tokens that end an answer: the tokenizer's, the template's, and those of a model's generation settings."""
    end = template_end(renderer)
    return frozenset(end_ids(renderer.tokenizer, model) | (set() if end is None else {end}))


def template_end(renderer: Renderer) -> int | None:
    """The special token that the chat template writes behind an answer, if it writes one. Of some published models it
    is neither the tokenizer's end nor among those of its generation settings; an answer would run on to its limit.
    """
    try:
        text, _ = renderer.render([USER, ANSWER], {})
    except RowError:  # a template that asks for more than a question; its prompts tell it
        return None
    tokenizer, behind = renderer.tokenizer, text.rpartition(PROBE)[2].lstrip()
    ids = tokenizer(behind, add_special_tokens=False).input_ids[:1]
    special = (number for number in ids if number in tokenizer.added_tokens_decoder)
    return next((number for number in special if tokenizer.added_tokens_decoder[number].special), None)
