"""Tasks of kind `livecodebench`: the model writes programs, LiveCodeBench's own program runs and judges them.

Answers are written as its custom evaluation takes them: a list of `{question_id, code_list}`. This process runs none.
"""

import json
import sys
import tempfile
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from apo_soup.config.eval_programs import LiveCodeBenchTask
from apo_soup.data.sources.read import read_all_rows
from apo_soup.data.sources.rows import described
from apo_soup.errors import UserError, first_line
from apo_soup.evals.answers import answers_to_prompts
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult
from apo_soup.evals.outside import livecodebench_scorer
from apo_soup.evals.outside.programs import run_outside
from apo_soup.evals.repeats import mean_over_repeats, share_metrics
from apo_soup.progress import warn
from apo_soup.runs.manifest import write_json
from apo_soup.runs.own_names import own_file_name
from apo_soup.statistics import mean_score
from apo_soup.verify.modes import answer_part

HUB_DATA = "livecodebench/code_generation_lite"
SCORER = Path(livecodebench_scorer.__file__)
COLUMNS = (
    "question_title", "question_content", "platform", "question_id", "contest_id", "contest_date", "starter_code",
    "difficulty", "public_test_cases", "private_test_cases", "metadata",
)  # fmt: skip
# What its graders ask chat models, word for word (LiveCodeBench, MIT licence); other words would be another test.
SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows. Ensure that when the python program runs, it reads the "
    "inputs, runs the algorithm and writes output to STDOUT."
)
Answers = list[dict[str, Any]]


def livecodebench_task(checkpoint: Checkpoint, task: LiveCodeBenchTask, rows: list[ItemRow]) -> TaskResult:
    """The share of problems whose tests an answer passes, by mode and difficulty; where nothing may run or no program
    is there, the share of answers with code, and the answers in a file.

    Raises:
        RowError: a column is missing.
        UserError: LiveCodeBench's program fails.
    """
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    notes: list[str] = []
    files: dict[str, Any] = {}
    for mode in task.modes:
        prompts = [
            checkpoint.renderer.prompt(problem_messages(row), {"enable_thinking": mode == "think"}) for row in rows
        ]
        drawn = answers_to_prompts(checkpoint, task, prompts)
        code = [[code_block(answer_part(c.text)) for c in own] for own in drawn]
        answers = custom_outputs(rows, code)
        name = f"{task.name}/{mode}"
        graded: list[list[bool]] | None = None
        if task.program and task.unsafe_code:
            graded = graded_answers(task, rows, answers, checkpoint.place(task, "program"))
            metrics |= share_metrics(name, graded, task.repeats, task.pass_at, headline=True)
            for level, hits in outcomes_by_difficulty(rows, graded).items():
                metrics[f"{name}/{level}"] = mean_over_repeats(hits)
        file = f"livecodebench/{own_file_name(task.name)}_{mode}.json"
        files[file] = answers
        if graded is None:
            notes.append(unscored_sentence(task, file))
        metrics[f"{name}/code"] = mean_over_repeats([[bool(c) for c in own] for own in code])
        lengths = [sum(c.length for c in own) / len(own) for own in drawn]
        metrics[f"{name}/tokens"] = Metric(mean_score(lengths), lengths, better=None)
        for number, row in enumerate(rows[: checkpoint.samples]):
            right = graded[number][0] if graded else None
            samples.append(AnswerSample(mode, str(row["question_content"]), drawn[number][0].text, right))
    for note in notes:
        warn(note)
    return TaskResult(metrics, samples, notes, files)


def livecodebench_rows(task: LiveCodeBenchTask, where: str) -> list[ItemRow]:
    """The problems of a file, or of a release of the Hub, whose contests lie in the task's window; the first `limit`.

    Raises:
        UserError: they cannot be read, or none lies in the window.
    """
    files = [str(task.data)] if task.data else hub_files(str(task.release), where)
    rows = [ItemRow(row.fields, row.place) for file in files for row in read_all_rows(file, where)]
    first = datetime.fromisoformat(task.start_date) if task.start_date else datetime.min
    last = datetime.fromisoformat(task.end_date) if task.end_date else datetime.max
    inside = [row for row in rows if first <= contest_day(row) <= last]
    if not inside:
        raise UserError(
            f"{where}: expected problems of contests between {task.start_date or 'the first'} and "
            f"{task.end_date or 'the last'}, got none of {len(rows)}; correct the window"
        )
    return inside[: task.limit]


def contest_day(row: ItemRow) -> datetime:
    """The day of a problem's contest; raises RowError where it is none."""
    try:
        return datetime.fromisoformat(str(row["contest_date"])).replace(tzinfo=None)
    except ValueError as error:
        told = f"field contest_date: expected a day such as 2024-08-01, got {described(row['contest_date'])}"
        raise row.refusal(f"{told}; correct the row") from error


def hub_files(release: str, where: str) -> list[str]:
    """The files of a release, which has those of the ones before it.

    Raises:
        UserError: the Hub gives none.
    """
    from huggingface_hub import hf_hub_download

    names = [f"test{'' if number == 1 else number}.jsonl" for number in range(1, int(release.rpartition("v")[2]) + 1)]
    try:
        return [hf_hub_download(HUB_DATA, name, repo_type="dataset") for name in names]
    except Exception as error:  # the Hub's library raises many kinds
        raise UserError(
            f"{where}: expected {', '.join(names)} of {HUB_DATA}, got none that can be reached: {first_line(error)}; "
            "give data, a folder with these files"
        ) from error


def problem_messages(row: ItemRow) -> list[dict[str, str]]:
    """A problem as its graders put it to chat models."""
    starter = row["starter_code"]
    asked = f"### Question:\n{row['question_content']}\n\n### Format: "
    asked += (
        f"{WITH_STARTER}\n```python\n{starter}\n```"
        if starter
        else f"{WITHOUT_STARTER}\n```python\n# YOUR CODE HERE\n```"
    )
    asked += "\n\n### Answer: (use the provided format with backticks)\n\n"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def code_block(answer: str) -> str:
    r"""The last block of code in an answer, as LiveCodeBench takes it: the lines between the last two fences.

    >>> code_block("so:\n```python\nprint(1)\n```\ndone"), code_block("print(1)")
    ('print(1)', '')
    """
    lines = answer.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def custom_outputs(rows: list[ItemRow], code: list[list[str]]) -> Answers:
    """Answers as the custom evaluation takes them, sorted as it sorts its problems."""
    answers = [{"question_id": str(row["question_id"]), "code_list": own} for row, own in zip(rows, code, strict=True)]
    return sorted(answers, key=lambda answer: str(answer["question_id"]))


def graded_answers(task: LiveCodeBenchTask, rows: list[ItemRow], answers: Answers, where: str) -> list[list[bool]]:
    """Which answers to each row pass its tests, as LiveCodeBench's program says.

    Raises:
        UserError: it fails, or does not judge every answer.
    """
    program = Path(str(task.program)).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        problems, file = Path(scratch) / "problems.jsonl", Path(scratch) / "answers.json"
        lines = [json.dumps({column: row[column] for column in COLUMNS}) for row in rows]
        problems.write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json(file, answers)
        python = Path(task.python or sys.executable).absolute()
        words: list[str | Path] = [python, SCORER, problems, "--custom_output_file", file]
        words += ["--num_process_evaluate", str(task.processes), "--timeout", str(task.timeout)]
        run_outside(words, program, where, "LiveCodeBench's program")
        found = Path(scratch) / "answers_codegeneration_output_eval_all.json"
        verdicts = json.loads(found.read_text(encoding="utf-8")) if found.is_file() else []
    graded = {str(one["question_id"]): [bool(hit) for hit in one["graded_list"]] for one in verdicts}
    ids = [str(row["question_id"]) for row in rows]
    if any(len(graded.get(name, ())) != task.repeats for name in ids):
        raise UserError(
            f"{where}: expected {task.repeats} verdicts for each of {len(ids)} problems, got others; is that the "
            "repository of LiveCodeBench?"
        )
    return [graded[name] for name in ids]


def unscored_sentence(task: LiveCodeBenchTask, file: str) -> str:
    """Why a task has no score, and what would give one."""
    return (
        f"{task.name}: not scored: its answers are in {file} beside results.json; LiveCodeBench's program would run "
        "them: clone its repository, and give program: FOLDER and unsafe_code: true in a sandbox"
    )


def outcomes_by_difficulty(rows: list[ItemRow], graded: list[list[bool]]) -> dict[str, list[list[bool]]]:
    """Verdicts by the problems' difficulty, names in order."""
    levels: dict[str, list[list[bool]]] = defaultdict(list)
    for row, own in zip(rows, graded, strict=True):
        levels[str(row["difficulty"])].append(own)
    return dict(sorted(levels.items()))
