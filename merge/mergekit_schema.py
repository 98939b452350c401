"""mergekit's own reading of a merge file, and what it would pass over in silence."""

from typing import TYPE_CHECKING, Any

from apo_soup.config.mergekit import MergekitKeys, MergekitOptions
from apo_soup.config.nearest import nearest
from apo_soup.errors import UserError, first_line
from apo_soup.private import mergekit_template_names

if TYPE_CHECKING:
    from mergekit.config import MergeConfiguration


def check_options(options: MergekitOptions, where: str) -> None:
    """Refuse options for a GPU on a machine without one; `where` is `FILE:LINE: KEY` of the options.

    Raises:
        UserError: naming the option.
    """
    import torch

    on_gpu = options.asks_for_gpu()
    if on_gpu and not torch.cuda.is_available():
        raise UserError(f"{where}.{on_gpu}: expected a GPU, got none that torch finds; remove it to merge on the CPU")


def parsed_configuration(config: MergekitKeys, options: MergekitOptions, where: str) -> "MergeConfiguration":
    """mergekit's own object for a merge file, once the options that go with it have been read too.

    Raises:
        UserError: a key or parameter that mergekit does not know, or a file that it refuses.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.options import MergeOptions
    from pydantic import ValidationError

    given, given_options = config.given_values(), options.given_values()
    try:
        read = MergeConfiguration.model_validate(given)
        read_options = MergeOptions.model_validate(given_options)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise UserError(
            f"{where}.{key}: expected what mergekit's schema has, got a value it refuses ({wrong['msg']}); correct it"
        ) from error
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: expected mergekit's schema, got what it refuses ({first_line(error)}); correct it"
        ) from error
    _refuse_unread(given, read, where)
    _refuse_unread(given_options, read_options, f"{where.rpartition(': ')[0]}: options")
    _check_template(config.chat_template, where)
    return read


def _refuse_unread(given: Any, read: Any, where: str) -> None:
    """Raise UserError for a key of a mergekit file that its schema has no field for; pydantic would drop it."""
    if isinstance(given, list) and isinstance(read, (list, tuple)):
        for number, (one, other) in enumerate(zip(given, read, strict=False)):
            _refuse_unread(one, other, f"{where}.{number}")
    elif isinstance(given, dict):
        known = getattr(type(read), "model_fields", None)
        for key, value in given.items():
            if known is not None and key not in known:
                way = nearest(key, known) or "remove it"
                raise UserError(
                    f"{where}.{key}: expected a key of mergekit's ({', '.join(sorted(known))}), got {key}; {way}"
                )
            inner = read.get(key) if isinstance(read, dict) else getattr(read, key, None)
            _refuse_unread(value, inner, f"{where}.{key}")


def _check_template(template: str | None, where: str) -> None:
    """Refuse a chat_template that mergekit does not know: it would drop the tokenizer and go on."""
    if template is None or template == "auto" or "{" in template:
        return
    known = mergekit_template_names()
    if template not in known:
        raise UserError(
            f"{where}.chat_template: expected Jinja text or one of auto, {', '.join(known)}, got {template}; "
            "name one of these"
        )
