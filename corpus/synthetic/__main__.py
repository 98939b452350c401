"""`python -m corpus.synthetic --config recipes/tiny/data.yaml`: write the small world's rows."""

from pathlib import Path

from pipeline.errors import UserError, run_main
from pipeline.inputs import code_hash, semantic
from pipeline.program import STATE_FLAG, report_state
from pipeline.recipe import arguments, load
from pipeline.stage import Stage


def main() -> int:
    options, overrides = arguments("corpus.synthetic", "Generate the rows of the embedded recipe.", STATE_FLAG)
    recipe = load(options.config, "data", overrides)
    from corpus.synthetic.build import MAKERS, build

    counts = recipe.need("counts")
    for name in counts:
        if name not in MAKERS:
            raise UserError(f"{recipe.where(f'counts.{name}')}: no rows are called {name}; known: {', '.join(MAKERS)}")
    stage = Stage(
        "data", Path(recipe.need("output_dir")), semantic(recipe.values), {"code": code_hash("corpus/synthetic")}
    )
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        folder = stage.begin() / "rows"
        folder.mkdir(exist_ok=True)
        written = build(folder, recipe.values.get("seed", 0), counts)
        stage.finish(folder, {"rows": written})
        print(f"data: {sum(written.values())} rows in {len(written)} files in {stage.folder}")
    return code


run_main(main)
