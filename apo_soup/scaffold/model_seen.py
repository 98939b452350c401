"""What of a model decides how its recipe is written: its template, its tokens, its size."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.errors import first_line
from apo_soup.runs.sources import is_local, model_folder

OUR_TOKENS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class ModelSeen:
    """A model.

    Attributes:
        name: as it was given.
        written: as the recipe has it: a relative path from its folder, so that it holds from any.
        unseen: why its files could not be read; empty where they were.
        our_template: whether the rows are rendered with our template, since it has none that would do.
        knows_modes: whether the template that is taken has a think and a no-think mode.
        missing: control tokens of our template that its tokenizer lacks.
        parameters: how many it has, and `window` the longest text in tokens; None where that is not known.
    """

    name: str
    written: str
    unseen: str = ""
    our_template: bool = True
    knows_modes: bool = True
    missing: tuple[str, ...] = ()
    parameters: int | None = None
    window: int | None = None

    @classmethod
    def of(cls, name: str, thinks: bool, folder: Path) -> "ModelSeen":
        """Look at a model, by its folder or from the Hub.

        Args:
            thinks: whether the rows need a template that knows modes.
            folder: the recipe's.

        Raises:
            UserError: it is a path, and no whole model lies there.
        """
        model_folder(name, "--model")
        written = path_from(folder, name) if is_local(name) else name
        from transformers import AutoConfig, AutoTokenizer

        from apo_soup.models.parameters import built_parameters
        from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            config = AutoConfig.from_pretrained(name)
        except CONFIG_ERRORS as error:
            return cls(name, written, unseen=first_line(error))
        own = getattr(tokenizer, "chat_template", None)
        own = own if isinstance(own, str) else ""
        knows = "enable_thinking" in own
        ours = not own or (thinks and not knows)
        known = tokenizer.get_vocab()
        return cls(
            name,
            written,
            our_template=ours,
            knows_modes=ours or knows,
            missing=tuple(token for token in OUR_TOKENS if ours and token not in known),
            parameters=built_parameters(config),
            window=getattr(config.get_text_config(), "max_position_embeddings", None),
        )

    @property
    def new_token_keys(self) -> dict[str, Any]:
        """The keys of the first training, where our template is laid over the model's own tokens."""
        if not self.our_template:
            return {}
        added = {"add_special_tokens": [*self.missing], "resize_embeddings": True} if self.missing else {}
        return {"eos_token": OUR_TOKENS[1], **added}


def path_from(folder: Path, name: str) -> str:
    """A path as it is found from a folder, which may lie below a link; an absolute one, or one of a home, as it is.

    >>> path_from(Path("mine"), "rows/a.jsonl"), path_from(Path("mine"), "/rows/a.jsonl")
    ('../rows/a.jsonl', '/rows/a.jsonl')
    """
    if name.startswith("~") or os.path.isabs(name):
        return name
    parent, last = os.path.split(name.rstrip("/"))
    place = os.path.realpath(name) if last in ("", ".", "..") else os.path.join(os.path.realpath(parent), last)
    return Path(os.path.relpath(place, os.path.realpath(folder))).as_posix()
