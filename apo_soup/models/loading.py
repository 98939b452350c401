"""Load a model for use as it is: its own code runs only where a file says so, and nobody is asked in the terminal."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from apo_soup.errors import UserError, first_line
from apo_soup.models.architecture import require_language_model
from apo_soup.models.quantised import keep_one_arithmetic


def load_causal_model(
    model: str | Path,
    where: str,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    loader: Any = None,
) -> Any:
    """A model folder or Hub id in the type `dtype`, by transformers or by another class's `from_pretrained`.

    Args:
        where: `FILE:LINE: KEY` of the model, for messages.
        loader: the class in AutoModelForCausalLM's place, such as peft's for an adapter with its base.

    Raises:
        UserError: the model comes with its own code, and may not run it; it is no language model; or its weights
            are not there, or the Hub does not give them.
    """
    taken: Any = AutoModelForCausalLM if loader is None else loader
    if loader is None and Path(model).is_dir():
        require_language_model(Path(model), where, trust_remote_code)
    try:
        # Without the argument transformers asks on standard input, and takes an answer that was meant for another.
        loaded = taken.from_pretrained(model, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code)
    except OSError as error:
        if error.errno is not None:  # the system's, of a file; what is missing of a model transformers tells in words
            raise
        raise UserError(
            f"{where}: expected a model that can be loaded, got {model}: {first_line(error)}; name another, or "
            "fetch it again"
        ) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"{where}: expected a model of transformers' own classes, got {model}, which comes with code of its own; "
            "read that code, and write trust_remote_code: true into the file if it may run"
        ) from error
    keep_one_arithmetic(loaded)  # an adapter was trained in it, and scores are compared across machines
    return loaded
