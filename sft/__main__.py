"""`python -m sft --config FILE`: see sft/train.py."""

import argparse

from apo_soup.config.recipe import Recipe
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import report_state, stage_program
from apo_soup.training.entry import training_stage


def work(recipe: Recipe, options: argparse.Namespace) -> int:
    stage = training_stage(recipe)
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        quiet_libraries()
        from apo_soup.training.trainer import leave
        from sft.train import train

        train(recipe, stage)
        leave()
    return code


if __name__ == "__main__":
    stage_program("sft", "sft", "Mid-training and supervised fine-tuning of one model.", work)
