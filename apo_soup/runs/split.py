"""Manifests and marks of trainings whose file said how the global batch came about, beside files that say the batch.

`per_device_train_batch_size: 2`, 8 micro-batches and 4 processes are `global_batch_size: 64`: a folder that was made of
the one is up to date for the other.
"""

from typing import Any

from apo_soup.config.batch import SPLIT_KEYS
from apo_soup.config.stage_file import StageFile

_BATCH = "global_batch_size"


def with_split_of(config: dict[str, Any], record: dict[str, Any], kind: type[StageFile]) -> dict[str, Any]:
    """A stage's configuration with the global batch told as the record tells it, where that comes to the same."""
    if _BATCH not in config or _product(record, kind) != config[_BATCH]:
        return config
    own = {key: value for key, value in config.items() if key != _BATCH}
    return {key: record["config"][key] for key in SPLIT_KEYS if key in record["config"]} | own


def with_product(
    recorded: dict[str, Any], record: dict[str, Any], config: dict[str, Any], kind: type[StageFile]
) -> dict[str, Any]:
    """The record's configuration with the product of what it says of the global batch, where the stage's has that.

    Args:
        recorded: the record's configuration, or what is left of it.
        config: the stage's.
    """
    product = _product(record, kind)
    if product is None or _BATCH not in config:
        return recorded
    left = {key: value for key, value in recorded.items() if key not in SPLIT_KEYS or key in config}
    return left | {_BATCH: product}


def _product(record: dict[str, Any], kind: type[StageFile]) -> int | None:
    """The global batch of a record that does not name it; None where it does, or where that is not known."""
    config, processes = record["config"], record.get("processes")
    if _BATCH in config or _BATCH not in kind.model_fields or not isinstance(processes, int):
        return None
    on_device, steps = (config.get(key, kind.model_fields[key].default) for key in SPLIT_KEYS)
    return on_device * steps * processes if isinstance(on_device, int) and isinstance(steps, int) else None
