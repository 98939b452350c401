"""`python -m apo.traces --config FILE`: see apo/traces/make.py."""

import argparse

from apo.pairs.stage import asking_stage
from apo_soup.config.traces import TracesFile
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.entry import alone_on, report_state, stage_program
from apo_soup.runs.outputs import output_folders


def _work(recipe: TracesFile, options: argparse.Namespace) -> int:
    with alone_on(recipe, output_folders(recipe), options.state):
        stage = asking_stage(recipe)
        todo, code = report_state(recipe, [stage], options.state)
        if todo and not options.state:
            quiet_libraries()
            from apo.traces.make import make_traces

            make_traces(recipe, stage)
        return code


if __name__ == "__main__":
    stage_program("apo.traces", TracesFile, "Make reasoning rows for mid and sft with a strong model.", _work)
