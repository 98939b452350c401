"""The opening of every stage program: check the configuration, say what was mapped, ask whether there is work."""

import os
import warnings
from pathlib import Path

from pipeline.inputs import semantic, training_inputs
from pipeline.recipe import Recipe
from pipeline.stage import Stage

STALE = 3
STATE_FLAG = (
    "--state",
    {"action": "store_true", "help": "only say whether the stage is up to date (exit 0) or not (3)"},
)


def is_main() -> bool:
    """Whether this process is the one that speaks and writes; true without a launcher."""
    return os.environ.get("RANK", "0") == "0"


def training_stage(recipe: Recipe) -> Stage:
    """The output folder of a training file with its fingerprint; raises UserError for missing inputs."""
    folder = Path(recipe.need("output_dir"))
    name = folder.name if recipe.member is None else f"apo/{recipe.member}"
    config = {k: v for k, v in semantic(recipe.values).items() if k not in ("members", "checkpoints")}
    return Stage(name, folder, config, training_inputs(recipe))


def report_state(stages: list[Stage], only_state: bool, again: dict[str, str] | None = None) -> tuple[list[Stage], int]:
    """Say for each stage whether it is up to date; return those that are not, and the exit code of `--state`.

    `again` gives reasons, by name, for stages to run although their own folder is current.
    """
    todo = []
    say = print if is_main() else lambda text: None
    for stage in stages:
        reason = stage.stale() or (again or {}).get(stage.name)
        if reason is None:
            say(f"{stage.name}: up to date, skipped ({stage.folder} was made from the same configuration and inputs)")
        else:
            todo.append(stage)
            say(f"{stage.name}: {'stale' if only_state else 'running'}, because {reason}")
    return todo, STALE if todo and only_state else 0


def quiet_libraries() -> None:
    """Leave the terminal to the stage: no library progress bars, and no notes on what their next release renames."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
