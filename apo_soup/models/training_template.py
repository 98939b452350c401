"""TRL's training template for a tokenizer's own template: the same text with generation marks, and with reasoning that
the original strips from old answers.

TRL stores the templates of models as they are published, and beside many of them one to train with. A tokenizer's
template is known again when it is the published one, character by character, or the one to train with, as a stage that
was trained with it saves it.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

TRAINING = "_training.jinja"


@cache
def training_template(text: str) -> tuple[str, str] | None:
    """Name and text of TRL's training template for the chat template `text`; None where TRL has none."""
    package = find_spec("trl")
    for place in (package.submodule_search_locations or []) if package else []:
        for path in sorted(Path(place, "chat_templates").glob(f"*{TRAINING}")):
            name = path.name.removesuffix(TRAINING)
            published, training = path.with_name(f"{name}.jinja"), path.read_text(encoding="utf-8")
            if text == training or (published.is_file() and published.read_text(encoding="utf-8") == text):
                return name, training
    return None
