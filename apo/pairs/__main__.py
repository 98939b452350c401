"""`python -m apo.pairs --config FILE`: see apo/pairs/make.py."""

import argparse

from apo.pairs.stage import asking_stage
from apo_soup.config.pairs import PairsFile
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import alone_on, report_state, stage_program
from apo_soup.runs.outputs import output_folders


def _work(recipe: PairsFile, options: argparse.Namespace) -> int:
    with alone_on(recipe, output_folders(recipe), options.state):
        stage = asking_stage(recipe)
        todo, code = report_state(recipe, [stage], options.state)
        if todo and not options.state:
            quiet_libraries()
            from apo.pairs.make import make_pairs

            make_pairs(recipe, stage)
        return code


if __name__ == "__main__":
    stage_program("apo.pairs", PairsFile, "Make preference pairs with a strong and a weak model.", _work)
