"""What is asked of an export, and what its files are called."""

import re
from dataclasses import dataclass
from pathlib import Path

# The types of a file, by llama.cpp's names: from 16 bits of a weight to under 5.
GGUF_TYPES = ("f16", "q8_0", "q4_k_m")


@dataclass(frozen=True)
class ExportRequest:
    """What is to be made of which model.

    Attributes:
        model: the model's folder.
        kind: one of `GGUF_TYPES`.
        ollama: whether a Modelfile is written beside it.
        template: a chat template in place of the model's own, as a recipe gives it.
        trust_remote_code: whether code that comes with the model may run.
    """

    model: str
    kind: str
    ollama: bool = False
    template: str | None = None
    trust_remote_code: bool = False


def model_name(model: Path) -> str:
    """The name of a model in its file and for Ollama: that of its run and its own, without what neither takes.

    >>> model_name(Path("runs/mine/merged")), model_name(Path("models/SmolLM2 135M"))
    ('mine-merged', 'models-SmolLM2-135M')
    """
    parts = [re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in model.parts[-2:]]
    return "-".join(part for part in parts if part) or "model"
