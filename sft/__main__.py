"""`python -m sft --config FILE`: see sft/train.py."""

import argparse

from apo_soup.config.sft import SftFile
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import alone_on, report_state, stage_program
from apo_soup.runs.outputs import output_folders
from apo_soup.training.entry import training_stage


def run_sft(recipe: SftFile, options: argparse.Namespace) -> int:
    """Train the model unless its folder is up to date; returns the exit code."""
    with alone_on(recipe, output_folders(recipe), options.state):
        stage = training_stage(recipe)
        todo, code = report_state(recipe, [stage], options.state)
        if todo and not options.state:
            quiet_libraries()
            from apo_soup.training.run import leave
            from sft.train import train_model

            train_model(recipe, stage)
            leave()
        return code


if __name__ == "__main__":
    stage_program("sft", SftFile, "Mid-training and supervised fine-tuning of one model.", run_sft)
