"""`python -m sft --config FILE`: see sft/train.py."""

import argparse

from apo_soup.config.library_values import computes_with_bitsandbytes
from apo_soup.config.sft import SftFile
from apo_soup.models.libraries import keep_freed_memory, quiet_libraries, spare_collector, spare_compiler
from apo_soup.runs.entry import make_if_stale, stage_program
from apo_soup.runs.stage import Stage
from apo_soup.training.entry import require_batch, training_stage


def run_sft(recipe: SftFile, options: argparse.Namespace) -> int:
    """Train the model unless its folder is up to date; returns the exit code.

    Raises:
        UserError: as the training does, or another process is at work there.
    """
    return make_if_stale(recipe, options.state, training_stage, _train)


def _train(recipe: SftFile, stage: Stage) -> None:
    require_batch(recipe, stage.name)
    quiet_libraries()
    if not computes_with_bitsandbytes(recipe):
        spare_compiler()
    from apo_soup.training.run import leave
    from sft.train import train_model

    spare_collector()
    keep_freed_memory()
    train_model(recipe, stage)
    leave()


if __name__ == "__main__":
    stage_program("sft", SftFile, "Mid-training and supervised fine-tuning of one model.", run_sft)
