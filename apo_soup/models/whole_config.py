"""A model's configuration with what its class in transformers makes of it.

A `config.json` may leave a key out, which is then the class's own value, or write it as an older release did. Two files
with equal weights and other words may be one model, and two with the same words and one left out may be two.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apo_soup.stored_json import read_json


def whole_config(folder: Path, where: str) -> dict[str, Any]:
    """A model's configuration as its class reads it; as its file has it where transformers has no class for it, or
    refuses the file, which is told when the merged folder is loaded.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    config: dict[str, Any] = read_json(folder / "config.json", where)
    if config.get("model_type") not in CONFIG_MAPPING:
        return config
    try:
        whole: dict[str, Any] = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    except (ValueError, TypeError, OSError, KeyError, AttributeError, StrictDataclassError):
        return config
    return whole


def compared_configs(
    first: Path, other: Path, where: str, counts: Callable[[str], bool]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of two models such that a key that only one of them names can be compared: as their files have
    them where those name the same keys with the same values, so that most merges need not import transformers.

    Args:
        counts: whether a key by its name is compared at all.

    Raises:
        UserError: a configuration cannot be read, or is of another form.
    """
    one, two = (read_json(folder / "config.json", where) for folder in (first, other))
    if all(
        one.get(key) == two.get(key) and (key in one) == (key in two) for key in filter(counts, one.keys() | two.keys())
    ):
        return one, two
    return whole_config(first, where), whole_config(other, where)
