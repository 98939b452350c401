"""Shares by where items stand: in a context, in a conversation, in a language. Small maps, and numbers below."""

import re
from collections.abc import Callable
from typing import get_args

from apo_soup.config.eval import Language
from apo_soup.pages.charts import Line, line_chart
from apo_soup.report.blocks import (
    Figures,
    Folded,
    PageFigure,
    PageTable,
    Section,
    Strip,
    TableCell,
    cells,
    interval_text,
)
from apo_soup.report.reported import length_order
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.results import EvaluatedCheckpoint, score_cell
from apo_soup.statistics import Score, mean_score, proportion_score

LANGUAGES: tuple[str, ...] = get_args(Language)
# `problems/think/walk-fr`: the task, the mode and the language.
_GROUP = re.compile(rf"(.+)/(think|no_think)/.+-({'|'.join(LANGUAGES)})")

# A column's title, and there by place (a depth, a turn, a language) the score of a checkpoint.
_Columns = dict[str, dict[str, Score]]


def strips_section(run: RunFiles) -> Section:
    """Recall by length and depth, loss by position, the mode over turns, right answers by language."""
    figures: list[PageFigure] = []
    tables: list[PageTable] = []
    for title, columns_of, order, note in (
        (
            "Recall by context length",
            recall_columns,
            None,
            "Strips: by depth, from the beginning of the context to its end.",
        ),
        ("Mode kept over turns", turn_columns, None, "Strips: turn by turn, behind the model's own answers."),
        ("Right answers by language", language_columns, LANGUAGES, f"Strips: {', '.join(LANGUAGES)}."),
    ):
        figure, table = _strips(run, columns_of, title, note, order)
        figures += [figure] if figure else []
        tables += [table] if table else []
    figures += position_loss_figures(run)
    if not figures:
        return Section("Recall, turns and languages")
    numbers = [Folded("In numbers: recall by depth, modes by turn, answers by language", tables)] if tables else []
    return Section("Recall, turns and languages", [Figures(figures), *numbers])


def _strips(
    run: RunFiles,
    columns_of: Callable[[EvaluatedCheckpoint], _Columns],
    title: str,
    note: str,
    order: tuple[str, ...] | None,
) -> tuple[PageFigure | None, PageTable | None]:
    found = {stage.name: columns_of(stage) for stage in run.checkpoints}
    found = {name: columns for name, columns in found.items() if columns}
    names = list(dict.fromkeys(column for columns in found.values() for column in columns))
    if not names:
        return None, None
    rows = [
        [TableCell(stage), *(_strip_cell(columns.get(n, {}), order) for n in names)] for stage, columns in found.items()
    ]
    figure = PageFigure(title, PageTable(cells("", *names), rows), note)
    numbers: list[list[TableCell]] = []
    places = list(dict.fromkeys(p for columns in found.values() for scores in columns.values() for p in scores if p))
    for stage, columns in found.items():
        for name, scores in columns.items():
            numbers.append([TableCell(stage), TableCell(name), *(_number(scores.get(place)) for place in places)])
    table = PageTable(cells(title, "", *places), numbers, "Below each share its 95 % interval.")
    return figure, table if places else None


def _strip_cell(scores: dict[str, Score], order: tuple[str, ...] | None) -> TableCell:
    """The score of the whole, which is that of no place, over the places' strip."""
    whole = scores.get("")
    text = "" if whole is None or whole.value is None else f"{whole.value:.2f}"
    places = [place for place in order or scores if place in scores or order]
    parts = [(s.value if (s := scores.get(p)) else None, _told(p, scores.get(p))) for p in places if p]
    return TableCell(text, strip=Strip(parts) if parts and scores else None)


def _told(place: str, score: Score | None) -> str:
    return place if score is None or score.value is None else f"{place}: {score.value:.2f}"


def _number(score: Score | None) -> TableCell:
    if score is None or score.value is None:
        return TableCell("")
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (score.low, score.high))
    return TableCell(f"{score.value:.2f}", interval_text(low, high))


def _stored(stage: EvaluatedCheckpoint, metric: str) -> Score:
    cell = score_cell(stage, metric)
    return Score(cell.value, cell.low, cell.high, stage.results["metrics"].get(metric, {}).get("n", 0))


def _metrics_by_task(stage: EvaluatedCheckpoint, kind: str) -> dict[str, list[str]]:
    return {name: task["metrics"] for name, task in stage.results["tasks"].items() if task["kind"] == kind}


def recall_columns(stage: EvaluatedCheckpoint) -> _Columns:
    """Recall by length in tokens, and there by depth; the task stands before it where there are several."""
    columns: _Columns = {}
    tasks = _metrics_by_task(stage, "recall")
    for task, metrics in tasks.items():
        for metric in sorted(metrics, key=lambda name: length_order(name.partition("@")[0])):
            length, _, depth = metric.rsplit("/", 1)[-1].partition("@")
            title = length if len(tasks) == 1 else f"{task} {length}"
            place = f"{float(depth):.0%}" if re.fullmatch(r"\d*\.?\d+", depth) else depth
            columns.setdefault(title, {})[place] = _stored(stage, metric)
    return columns


def turn_columns(stage: EvaluatedCheckpoint) -> _Columns:
    """The share of conversations that keep the mode by kind of conversation, and there by turn."""
    columns: _Columns = {}
    tasks = _metrics_by_task(stage, "turns")
    for task, metrics in tasks.items():
        for metric in metrics:
            label, marked, turn = metric.rpartition("/turn_")
            whole = metric.removesuffix("/kept") if metric.endswith("/kept") else None
            if whole is None and not (marked and turn.isdigit()):
                continue
            title = (whole or label).removeprefix(f"{task}/" if len(tasks) == 1 else "")
            place = "" if whole else f"turn {turn}"
            columns.setdefault(title.replace("/", " ").replace("_", " "), {})[place] = _stored(stage, metric)
    return columns


def language_columns(stage: EvaluatedCheckpoint) -> _Columns:
    """The share of right answers by task and mode, and there by language; intervals are over the questions."""
    columns: _Columns = {}
    answers = answers_by_language(stage)
    tasks = {task for task, _ in answers}
    for (task, mode), by_language in answers.items():
        title = mode if len(tasks) == 1 else f"{task} {mode}"
        scores = {language: _share(items) for language, items in by_language.items()}
        everything = [item for items in by_language.values() for item in items]
        columns[title.replace("_", " ")] = {"": _share(everything), **scores}
    return columns


def answers_by_language(stage: EvaluatedCheckpoint) -> dict[tuple[str, str], dict[str, list[float]]]:
    """The items' shares of right answers by task and mode, and there by language."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, score in stage.results["metrics"].items():
        match = _GROUP.fullmatch(name)
        task, mode, language = match.groups() if match else ("", "", "")
        if score.get("items") and stage.results["tasks"].get(task, {}).get("kind") == "answer":
            found.setdefault((task, mode), {}).setdefault(language, []).extend(score["items"])
    return found


def _share(items: list[float]) -> Score:
    whole = set(items) <= {0.0, 1.0}  # a share's interval has a width at its ends too
    return proportion_score([bool(item) for item in items]) if whole else mean_score(items)


def position_loss_figures(run: RunFiles) -> list[PageFigure]:
    """Mean loss of the tokens up to each position of a window, in nats a token: a chart a task, a line a stage."""
    figures = []
    tasks = dict.fromkeys(name for stage in run.checkpoints for name in _metrics_by_task(stage, "context_loss"))
    for task in tasks:
        lines = []
        for stage in run.checkpoints:
            scores = {
                int(last): _stored(stage, metric)
                for metric in _metrics_by_task(stage, "context_loss").get(task, [])
                if (last := metric.rsplit("/", 1)[-1]).isdigit()
            }
            points = sorted((float(end), score.value) for end, score in scores.items() if score.value is not None)
            if points:
                lines.append(Line(stage.name, points))
        if lines:
            title = "Loss by position" if len(tasks) == 1 else f"Loss by position: {task}"
            figures.append(PageFigure(title, line_chart(lines, "position"), "Nats a token, up to each position."))
    return figures
