"""`python -m apo_soup.toy --config recipes/tiny/data.yaml`: write the small world's rows."""

import argparse
from pathlib import Path

from apo_soup.config.data import DataFile
from apo_soup.progress import tell
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.entry import make_if_stale, stage_program
from apo_soup.runs.stage import Stage
from apo_soup.toy.build import write_row_files


def generate_rows(recipe: DataFile, options: argparse.Namespace) -> int:
    """Write the row files that a data file counts, where they are not up to date; returns the exit code.

    Raises:
        UserError: another process is at work there, or the disk refuses a file.
    """
    return make_if_stale(recipe, options.state, _data_stage, _write_rows)


def _data_stage(recipe: DataFile) -> Stage:
    code = {"code": code_hash(write_row_files.__module__)}
    arguments = deciding_arguments(recipe)
    return Stage("data", Path(recipe.output_dir), recipe.deciding_values(), code, arguments=arguments)


def _write_rows(recipe: DataFile, stage: Stage) -> None:
    stage.begin()
    folder = stage.result_folder()
    row_counts = write_row_files(folder, recipe.seed, recipe.counts)
    stage.finish(folder, {"rows": row_counts})
    tell(f"data: {sum(row_counts.values())} rows in {len(row_counts)} files in {stage.folder}")


if __name__ == "__main__":
    stage_program("apo_soup.toy", DataFile, "Generate the rows of the embedded recipe.", generate_rows)
