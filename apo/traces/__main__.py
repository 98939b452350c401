"""`python -m apo.traces --config FILE`: see apo/traces/make.py."""

import argparse

from apo.pairs.stage import asking_stage
from apo_soup.config.traces import TracesFile
from apo_soup.models.libraries import quiet_libraries, spare_collector
from apo_soup.runs.entry import make_if_stale, stage_program
from apo_soup.runs.stage import Stage


def _work(recipe: TracesFile, options: argparse.Namespace) -> int:
    return make_if_stale(recipe, options.state, asking_stage, _make)


def _make(recipe: TracesFile, stage: Stage) -> None:
    quiet_libraries()
    from apo.traces.make import make_traces

    spare_collector()
    make_traces(recipe, stage)


if __name__ == "__main__":
    stage_program("apo.traces", TracesFile, "Make reasoning rows for mid and sft with a strong model.", _work)
