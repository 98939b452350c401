"""One self-contained `report.html` of a run: no script, no request, light and dark, made to print.

Every part reads what the stages left on disk (manifests, trainer states, evaluation results) and says "not run" where
a stage left nothing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, told_by_disk
from apo_soup.report.claims import run_claims
from apo_soup.report.configuration import arguments_lines, configuration_section, versions_section
from apo_soup.report.cost import cost_section
from apo_soup.report.html import esc, html_page, html_section
from apo_soup.report.languages import languages_section
from apo_soup.report.lineage import lineage_section
from apo_soup.report.picture import pipeline_picture
from apo_soup.report.recall import position_loss_section, recall_by_depth_section, recall_by_length_section
from apo_soup.report.rows import data_section, pairs_section
from apo_soup.report.samples import samples_section
from apo_soup.report.scores import claims_section, findings_section, scores_section
from apo_soup.report.sweep import sweep_section
from apo_soup.report.training import members_section, training_section
from apo_soup.report.turns import turns_section
from apo_soup.runs.durable import remove_unwritten, write_whole
from apo_soup.runs.lock import at_work
from apo_soup.runs.manifest import write_json
from apo_soup.runs.results import EvaluatedCheckpoint, evaluated_checkpoints, headline_metrics, score_cell
from apo_soup.runs.room import ANY_FILES, require_room


def write_report(recipe: Path, run: Path) -> Path:
    """Write `report.html`, `pipeline.svg` and `table.json` into the run folder; returns the page's path.

    Raises:
        UserError: the run's folder is not there; another process writes its report; or the disk refuses a file.
    """
    if not run.is_dir():
        raise UserError(
            f"{run}: expected the folder of a run, got none, since nothing of {recipe} has run yet; run "
            f"`apo-soup run {recipe}` first"
        )
    checkpoints = evaluated_checkpoints(run)
    parts = [
        f"<h1>{esc(run.name)}</h1><p>Base to merged, one page. Recipe <code>{esc(recipe)}</code>.</p>",
        arguments_lines(run),
        html_section("Lineage", lineage_section(run, checkpoints)),
        html_section("What the makers of SmolLM3 reported, asked of this run", findings_section(checkpoints)),
        html_section("The verdicts that programs get", claims_section(checkpoints)),
        html_section("What each checkpoint can do", scores_section(checkpoints)),
        html_section("Right answers by language and mode", languages_section(checkpoints)),
        html_section("The mode over turns", turns_section(checkpoints)),
        html_section("Recall by context length", recall_by_length_section(checkpoints)),
        html_section("Recall by length and depth", recall_by_depth_section(checkpoints)),
        html_section("Loss by position in a long context", position_loss_section(checkpoints)),
        html_section("Training", training_section(run)),
        html_section("Preference members", members_section(run)),
        html_section("The merge weight", sweep_section(run)),
        html_section("Data", data_section(run)),
        html_section("Preference pairs made by the pipeline", pairs_section(run)),
        html_section("What each stage cost", cost_section(run)),
        html_section("The same questions, every stage, both modes", samples_section(checkpoints)),
        html_section("Configuration", configuration_section(run)),
        html_section("Versions", versions_section(run)),
    ]
    scores = _scores_by_stage(checkpoints)
    page, picture, table = (run / name for name in ("report.html", "pipeline.svg", "table.json"))
    tight = require_room(ANY_FILES, run, "report")
    if tight:
        print(tight, file=sys.stderr)  # `--json` has stdout for itself
    with at_work(page), told_by_disk("report", run):
        remove_unwritten(page, picture, table)
        write_whole(picture, pipeline_picture(checkpoints))
        write_json(table, scores)
        write_whole(page, html_page(f"apo-soup: {run.name}", "".join(parts)))
    return page


def verdicts_and_table(run: Path) -> str:
    """The verdicts (`claims`) and the scores by stage (`table`) of a run, as JSON.

    Raises:
        UserError: results cannot be read, are cut, empty or none.
    """
    checkpoints = evaluated_checkpoints(run)
    claims = [claim.as_json() for claim in run_claims(checkpoints)]
    return json.dumps({"claims": claims, "table": _scores_by_stage(checkpoints)}, indent=2)


def _scores_by_stage(checkpoints: list[EvaluatedCheckpoint]) -> dict[str, dict[str, Any]]:
    names = headline_metrics(checkpoints)
    return {c.name: {n: vars(score_cell(c, n)) for n in names} for c in checkpoints}
