"""The page's samples: the same questions answered by every stage in both modes, those that tell most first."""

from collections.abc import Mapping
from typing import Any

from apo_soup.report.blocks import AnswerCard, Question, Section
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.results import pipeline_order

_MODES = ("think", "no_think")
_QUESTIONS = 5
# Characters of an answer, and of a question, that the page holds.
_ANSWER, _QUESTION = 2000, 400

_Answers = Mapping[tuple[str, str], dict[str, Any]]


def samples_section(run: RunFiles) -> Section:
    """Five of the kept questions with the answers of every stage but the soup's members; the first is not folded."""
    asked: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for stage in run.checkpoints:
        if stage.name not in run.members or "soup" not in run.by_name:
            for sample in stage.results["samples"]:
                asked.setdefault((sample["task"], sample["question"]), {})[stage.name, sample["mode"]] = sample
    order = sorted(asked, key=lambda key: informative(asked[key]), reverse=True)[:_QUESTIONS]
    return Section("Samples", [_question(*key, asked[key], key == order[0]) for key in order])


def informative(answers: _Answers) -> tuple[int, int]:
    """How much the answers to a question tell: how evenly right and wrong are spread over the stages of a mode, and
    whether it was asked in both modes, which shows what the modes are for.
    """
    modes = {mode for _, mode in answers}
    spread = 0
    for mode in modes:
        verdicts = [sample["right"] for (_, asked_in), sample in answers.items() if asked_in == mode]
        spread = max(spread, min(verdicts.count(True), verdicts.count(False)))
    return (spread, len(modes))


def _question(task: str, text: str, answers: _Answers, shown: bool) -> Question:
    by_mode: dict[str, list[AnswerCard]] = {}
    for mode in _MODES:
        stages = sorted((stage for stage, asked_in in answers if asked_in == mode), key=pipeline_order)
        found = [(stage, answers[stage, mode]) for stage in stages]
        if found:
            by_mode[mode] = [
                AnswerCard(stage, sample["right"], _beginning_and_end(sample["answer"] or "(nothing)"))
                for stage, sample in found
            ]
    return Question(task, text if len(text) < _QUESTION else f"... {text[-_QUESTION:]}", by_mode, shown)


def _beginning_and_end(text: str) -> str:
    """A long answer's beginning and end, where its reasoning starts and its answer stands."""
    if len(text) <= _ANSWER:
        return text
    return f"{text[: _ANSWER // 2]}\n[... {len(text) - _ANSWER:,} characters ...]\n{text[-_ANSWER // 2 :]}"
