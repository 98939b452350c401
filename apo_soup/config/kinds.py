"""Which kind of stage a recipe file configures."""

from pathlib import Path

# The names of stage files, and the kind of each.
STAGE_OF_FILE = {
    "data": "data", "extend": "sft", "mid": "sft", "sft": "sft", "traces": "traces", "pairs": "pairs", "apo": "apo",
    "merge": "merge", "eval": "eval", "sweep": "sweep",
}  # fmt: skip
# Of these a folder may hold several: `sft_long.yaml` is another file of the stage sft.
SEVERAL = ("extend", "mid", "sft", "traces", "pairs", "apo", "merge", "sweep")


def stage_of_file(file: Path) -> str | None:
    """Which kind of stage a recipe file configures, by its name; None for files no stage reads.

    >>> stage_of_file(Path("sft_long.yaml")), stage_of_file(Path("sfft.yaml")), stage_of_file(Path("eval.yaml"))
    ('sft', None, 'eval')
    """
    name = stage_name(file)
    return STAGE_OF_FILE.get(name) if name == file.stem or name in SEVERAL else None


def kind_of_stage(name: str) -> str | None:
    """The kind of file whose keys a stage of a name has as its configuration; None for what a merge file makes, whose
    configuration is mergekit's.

    >>> kind_of_stage("evals/sft"), kind_of_stage("apo/1-at-50"), kind_of_stage("pairs"), kind_of_stage("soup")
    ('eval', 'apo', 'pairs', None)
    """
    return {**STAGE_OF_FILE, "evals": "eval", "settings": "sweep"}.get(name.partition("/")[0])


def stage_name(file: Path) -> str:
    """The name of a stage file before a `_` or `-`, such as `sft` of `sft_long.yaml`."""
    return file.stem.partition("_")[0].partition("-")[0]
