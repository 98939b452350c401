"""`python -m apo_soup.toy --config recipes/tiny/data.yaml`: write the small world's rows."""

import argparse
from pathlib import Path

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.runs.entry import report_state, stage_program
from apo_soup.runs.inputs import code_hash, semantic
from apo_soup.runs.stage import Stage
from apo_soup.toy.build import MAKERS, build


def work(recipe: Recipe, options: argparse.Namespace) -> int:
    counts = recipe.need("counts")
    for name in counts:
        if name not in MAKERS:
            raise UserError(f"{recipe.where(f'counts.{name}')}: no rows are called {name}; known: {', '.join(MAKERS)}")
    stage = Stage("data", Path(recipe.need("output_dir")), semantic(recipe.values), {"code": code_hash("apo_soup/toy")})
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        folder = stage.begin() / "rows"
        folder.mkdir(exist_ok=True)
        written = build(folder, recipe.values.get("seed", 0), counts)
        stage.finish(folder, {"rows": written})
        print(f"data: {sum(written.values())} rows in {len(written)} files in {stage.folder}")
    return code


if __name__ == "__main__":
    stage_program("apo_soup.toy", "data", "Generate the rows of the embedded recipe.", work)
