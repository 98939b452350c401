"""The text of a recipe's chat template, which decides every token and is therefore an input of a stage."""

from pathlib import Path
from typing import overload

from apo_soup.config.places import places_looked_at
from apo_soup.errors import UserError
from apo_soup.resources import chat_template as shipped_chat_template

# The value of the key `chat_template` for TRL's training template of the tokenizer's own. Its text is known where the
# tokenizer is; prepared rows are hashed by it.
TRL_TEMPLATE = "trl"


@overload
def template_text(value: None, where: str, recipe_folder: Path | None = None) -> None: ...
@overload
def template_text(value: str, where: str, recipe_folder: Path | None = None) -> str: ...
def template_text(value: str | None, where: str, recipe_folder: Path | None = None) -> str | None:
    """The text of a recipe's `chat_template`: ours, inline Jinja, or a .jinja file; None is the tokenizer's own, and
    `trl` stands for itself.

    `where` is `FILE:LINE: KEY`, for the sentence about a value that is none.

    Raises:
        UserError: the value is none of these.
    """
    if value is None:
        return None
    if value == "apo-soup":
        return shipped_chat_template()
    if "{" in value or value == TRL_TEMPLATE:
        return value
    if Path(value).is_file():
        return Path(value).read_text(encoding="utf-8")
    raise UserError(
        f"{where}: expected apo-soup, trl, Jinja text, or a .jinja file, got {value!r}; correct the path "
        f"({places_looked_at(value, recipe_folder)}), or leave the key out for the tokenizer's own template"
    )
