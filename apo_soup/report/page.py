"""One self-contained `report.html` of a run: no script, no request, light and dark, made to print.

The parts gather what the stages left on disk (manifests, trainer states, evaluation results); the templates below
`apo_soup/templates/report` lay it out. What a run does not have is named at the page's end.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from apo_soup.config.recipe_file import shared_keys
from apo_soup.errors import UserError, told_by_disk
from apo_soup.pages.render import rendered
from apo_soup.report.blocks import Figures, PageBlock, PageFigure, Section
from apo_soup.report.claims import Claim, makers_claims, own_claims
from apo_soup.report.configuration import argument_notes, settings_section
from apo_soup.report.cost import cost_blocks
from apo_soup.report.first_screen import first_screen
from apo_soup.report.gains import ends_of_run, gains_between
from apo_soup.report.lineage import lineage_section
from apo_soup.report.makers import makers_section
from apo_soup.report.picture import pipeline_picture
from apo_soup.report.rows import data_section
from apo_soup.report.run_files import RunFiles, read_run
from apo_soup.report.samples import samples_section
from apo_soup.report.scores import scores_section
from apo_soup.report.soup_and_merge import merge_figure, soup_figure
from apo_soup.report.strips import strips_section
from apo_soup.report.sweep import sweep_blocks
from apo_soup.report.training import training_section
from apo_soup.runs.durable import remove_unwritten, write_whole
from apo_soup.runs.lock import at_work
from apo_soup.runs.manifest import write_json
from apo_soup.runs.results import headline_metrics, score_cell
from apo_soup.runs.room import ANY_FILES, require_room

# Sections that are empty where a stage is not there, which is told by the stage's name.
_OF_STAGES = ("Lineage", "Stages", "Soup and merge", "Training", "Data", "Settings")


def read_reported(recipe: Path, folder: Path) -> RunFiles:
    """What a run left, for its report.

    Raises:
        UserError: the run's folder is not there; or results or a manifest cannot be read.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected the folder of a run, got none, since nothing of {recipe} has run yet; run "
            f"`apo-soup run {shlex.quote(str(recipe))}` first"
        )
    return read_run(folder)


def write_report(recipe: Path, run: RunFiles) -> Path:
    """Write `report.html`, `pipeline.svg` and `table.json` into the run folder; returns the page's path.

    Raises:
        UserError: what a stage left is of another form; another process writes the report; or the disk refuses a file.
    """
    text = report_page(recipe, run)
    page, picture, table = (run.folder / name for name in ("report.html", "pipeline.svg", "table.json"))
    tight = require_room(ANY_FILES, run.folder, "report")
    if tight:
        print(tight, file=sys.stderr)  # `--json` has stdout for itself
    with at_work(page), told_by_disk("report", run.folder):
        remove_unwritten(page, picture, table)
        write_whole(picture, pipeline_picture(run.checkpoints))
        write_json(table, _scores_by_stage(run))
        write_whole(page, text)
    return page


def report_page(recipe: Path, run: RunFiles) -> str:
    """The whole page as HTML.

    Raises:
        UserError: what a stage left is of another form.
    """
    asked = makers_claims(run.checkpoints) if asks_for_makers(recipe) else []
    sections = [
        lineage_section(run),
        scores_section(run),
        _soup_section(run),
        *([makers_section(run, asked)] if asked else []),
        strips_section(run),
        training_section(run),
        data_section(run),
        samples_section(run),
        _settings(run),
    ]
    return rendered(
        "report/page.html.jinja",
        first=first_screen(run, recipe.resolve().name, asked),
        notes=argument_notes(run),
        sections=[section for section in sections if section.blocks],
        not_run=_not_run(run, sections),
    )


def asks_for_makers(recipe: Path) -> bool:
    """Whether a recipe asks what SmolLM3's makers reported.

    Raises:
        UserError: its `recipe.yaml` is wrong.
    """
    shared = shared_keys(recipe)
    return shared is not None and shared.keys.claims == "smollm3"


def _soup_section(run: RunFiles) -> Section:
    curves, numbers = sweep_blocks(run)
    found: list[PageFigure] = [figure for figure in (soup_figure(run), merge_figure(run), *curves) if figure]
    blocks: list[PageBlock] = [Figures(found)] if found else []
    return Section("Soup and merge", [*blocks, *numbers])


def _settings(run: RunFiles) -> Section:
    section = settings_section(run)
    return Section(section.title, [*section.blocks, *cost_blocks(run)])


def _not_run(run: RunFiles, sections: list[Section]) -> list[str]:
    """The stages that are not there, and what no task of the evaluation asked."""
    made = {name.partition("/")[0] for name in run.manifests}
    made |= {name for name, folder in (("sweep", "sweep"), ("eval", "evals")) if (run.folder / folder).is_dir()}
    stages = [name for name in ("mid", "sft", "pairs", "apo", "soup", "merged", "sweep", "eval") if name not in made]
    asked = [section.title for section in sections if not section.blocks and section.title not in _OF_STAGES]
    return [*stages, *(asked if run.checkpoints else [])]


def verdicts_and_table(recipe: Path, run: RunFiles) -> str:
    """The verdicts (`claims`) and the scores by stage (`table`) of a run, as JSON.

    Raises:
        UserError: the recipe's `recipe.yaml` is wrong.
    """
    claims = [claim.as_json() for claim in _claims(recipe, run)]
    return json.dumps({"claims": claims, "table": _scores_by_stage(run)}, indent=2)


def _claims(recipe: Path, run: RunFiles) -> list[Claim]:
    if asks_for_makers(recipe):
        return makers_claims(run.checkpoints)
    ends = ends_of_run(run)
    return own_claims(gains_between(*ends, run.titles), *(end.name for end in ends)) if ends else []


def _scores_by_stage(run: RunFiles) -> dict[str, dict[str, Any]]:
    names = headline_metrics(run.checkpoints)
    return {c.name: {n: vars(score_cell(c, n)) for n in names} for c in run.checkpoints}
