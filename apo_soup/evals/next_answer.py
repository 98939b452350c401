"""What a model is asked for the next answer of a conversation, in the terminal and on the page."""

from typing import Any

from apo_soup.data.rendering.loaded_model import LoadedModel
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError

GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def next_answer(
    asked: LoadedModel,
    name: str,
    messages: list[dict[str, str]],
    think: bool,
    most: int,
    temperature: float | None = None,
) -> tuple[str, dict[str, Any]]:
    """The prompt's text, and what `generate` is told, the prompt's ids `[1, S]` among it.

    Args:
        name: the model's, for messages.
        most: tokens of the answer; fewer where the model's context has room for fewer.
        temperature: 0 takes the likeliest token; without one the model's own settings hold.

    Raises:
        UserError: the template or the model's context cannot take the conversation.
    """
    model, tokenizer = asked.model, asked.tokenizer
    try:
        text = asked.renderer.prompt(messages, {"enable_thinking": think})
    except RowError as error:
        raise UserError(f"{name}: {error}") from error
    prompt = tokenizer(text, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    length = prompt["input_ids"].shape[1]
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and length >= room:
        raise UserError(
            f"{name}: expected a conversation of fewer than {room:,} tokens, the model's context, got {length:,}; "
            "begin a new one"
        )
    settings: dict[str, Any] = {
        **prompt.to(model.device),
        "max_new_tokens": most if room is None else min(most, room - length),
        "eos_token_id": sorted(asked.ends),
        "pad_token_id": tokenizer.pad_token_id,
    }
    if temperature == 0:
        settings |= GREEDY
    elif temperature is not None:
        settings |= {"do_sample": True, "temperature": temperature}
    return text, settings
