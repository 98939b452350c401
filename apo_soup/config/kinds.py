"""Which kind of stage a recipe file configures."""

from pathlib import Path

STAGE_OF_FILE = {"data": "data", "pairs": "pairs", "traces": "traces", "merge": "merge", "eval": "eval"}
PREFIXES = (
    ("mid", "sft"), ("sft", "sft"), ("apo", "apo"), ("merge", "merge"), ("pairs", "pairs"), ("traces", "traces"),
)  # fmt: skip


def stage_of_file(file: Path) -> str | None:
    """Which kind of stage a recipe file configures, by its name; None for files no stage reads."""
    stem = file.stem
    if stem in STAGE_OF_FILE:
        return STAGE_OF_FILE[stem]
    for prefix, stage in PREFIXES:
        if stem.startswith(prefix):
            return stage
    return None
