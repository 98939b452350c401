"""Prompts as text for a model in this process: both sides render them with the model's own chat template."""

from transformers import PreTrainedTokenizerBase

from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo_soup.config.sides import LocalSide
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer


def side_tokenizer(side: LocalSide, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a side's model, with the recipe's template on it where one is given.

    Raises:
        UserError: it cannot be loaded, or a template or an end-of-turn token is missing; `where` is the side's
            `FILE:LINE: KEY`.
    """
    return load_tokenizer(
        side.model,
        f"{where}.model",
        TokenizerKeys(side.chat_template, place=lambda key: f"{where}.{key}"),
        side.revision,
        side.trust_remote_code,
    )


def rendered_prompts(tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt]) -> tuple[dict[str, str], list[Answer]]:
    """The texts that the model completes by prompt id, and an answer with a problem for each prompt that the template
    refuses.

    Raises:
        UserError: the chat template is not valid Jinja.
    """
    renderer = Renderer(tokenizer)
    texts: dict[str, str] = {}
    refused = []
    for prompt in prompts:
        try:
            texts[prompt.id] = renderer.prompt(prompt.messages, prompt.kwargs)
        except RowError as error:
            refused.append(Answer(prompt.id, [], problem=str(error)))
    return texts, refused
