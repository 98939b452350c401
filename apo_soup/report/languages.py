"""The page's right answers by language and mode, where the groups of a task's items end in a language."""

import re
from typing import get_args

from apo_soup.config.eval import Language
from apo_soup.report.html import esc, html_table
from apo_soup.runs.results import EvaluatedCheckpoint
from apo_soup.statistics import Score, mean_score, proportion_score

LANGUAGES: tuple[str, ...] = get_args(Language)
# `problems/think/walk-fr`: the task, the mode and the language.
_GROUP = re.compile(rf"(.+)/(think|no_think)/.+-({'|'.join(LANGUAGES)})")


def answers_by_language(stage: EvaluatedCheckpoint) -> dict[tuple[str, str], dict[str, list[float]]]:
    """The items' shares of right answers by task and mode, and there by language."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, score in stage.results["metrics"].items():
        match = _GROUP.fullmatch(name)
        if match and score.get("items"):
            task, mode, language = match.groups()
            found.setdefault((task, mode), {}).setdefault(language, []).extend(score["items"])
    return found


def languages_section(stages: list[EvaluatedCheckpoint]) -> str:
    """A row a checkpoint and mode, a column a language, with intervals over the questions."""
    rows: list[list[str]] = []
    for stage in stages:
        for (task, mode), by_language in answers_by_language(stage).items():
            cells = [_share(by_language.get(language, [])) for language in LANGUAGES]
            rows.append([f"<b>{esc(stage.name)}</b>", esc(f"{task} {mode}".replace("_", " ")), *cells])
    if not rows:
        return ""
    note = "<p>The share of right answers by the language of the question; below it the 95 % interval.</p>"
    return html_table(["stage", "questions", *LANGUAGES], rows) + note


def _share(items: list[float]) -> str:
    whole = set(items) <= {0.0, 1.0}  # a share's interval has a width at its ends too
    score: Score = proportion_score([bool(item) for item in items]) if whole else mean_score(items)
    if score.value is None:
        return ""
    if score.low is None or score.high is None:
        return f"{score.value:.2f}"
    return f"{score.value:.2f}<small>{max(0.0, score.low):.2f} to {min(1.0, score.high):.2f}</small>"
