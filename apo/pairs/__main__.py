"""`python -m apo.pairs --config FILE`: see apo/pairs/make.py."""

import argparse

from apo.pairs.stage import asking_stage
from apo_soup.config.pairs import PairsFile
from apo_soup.models.libraries import quiet_libraries, spare_collector
from apo_soup.runs.entry import make_if_stale, stage_program
from apo_soup.runs.stage import Stage


def _work(recipe: PairsFile, options: argparse.Namespace) -> int:
    return make_if_stale(recipe, options.state, asking_stage, _make)


def _make(recipe: PairsFile, stage: Stage) -> None:
    quiet_libraries()
    from apo.pairs.make import make_pairs

    spare_collector()
    make_pairs(recipe, stage)


if __name__ == "__main__":
    stage_program("apo.pairs", PairsFile, "Make preference pairs with a strong and a weak model.", _work)
