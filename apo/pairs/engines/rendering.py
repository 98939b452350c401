"""Prompts as text for a model in this process: both sides render them with the model's own chat template."""

from transformers import PreTrainedTokenizerBase

from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo_soup.config.judges import RewardJudge
from apo_soup.config.sides import LocalSide
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer


def side_template(side: LocalSide | RewardJudge, where: str) -> TokenizerKeys:
    """What a side, or a judge, lays over the tokenizer of its model; `where` is its `FILE:LINE: KEY`."""
    return TokenizerKeys(side.chat_template, place=lambda key: f"{where}.{key}")


def side_tokenizer(side: LocalSide | RewardJudge, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a side's model, or a judge's, with the recipe's template on it where one is given.

    Raises:
        UserError: it cannot be loaded, or a template or an end-of-turn token is missing; `where` is the side's
            `FILE:LINE: KEY`.
    """
    keys = side_template(side, where)
    return load_tokenizer(side.model, f"{where}.model", keys, side.revision, side.trust_remote_code)


def rendered_prompts(renderer: Renderer, prompts: list[Prompt]) -> tuple[dict[str, str], list[Answer]]:
    """The texts that the model completes by prompt id, and an answer with a problem for each prompt that the template
    refuses.
    """
    texts: dict[str, str] = {}
    refused = []
    for prompt in prompts:
        try:
            texts[prompt.id] = renderer.prompt(prompt.messages, prompt.kwargs)
        except RowError as error:
            refused.append(Answer(prompt.id, [], problem=str(error)))
    return texts, refused
