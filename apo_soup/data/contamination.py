"""Rows that an evaluation will ask about."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from apo_soup.config.mixture import EvalPromptsKeys, is_suite
from apo_soup.config.training import TrainingFile
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.words import ngrams, words
from apo_soup.errors import UserError
from apo_soup.runs.suite_inputs import named_suite, question_field, tasks_with_rows

COVERED = 8
PROMPT_COLUMNS = ("messages", "prompt", "question", "instruction", "problem", "text")


class EvalPrompts:
    """The n-grams of evaluation prompts.

    A row is contaminated when it shares `ngram` words in a row with a prompt, or half of a prompt's 8-grams. A prompt
    of fewer than 8 words is only found where a turn of the row is that prompt and nothing else.
    """

    def __init__(self, prompts: list[tuple[str, str]], ngram: int):
        self.ngram = ngram
        self.names: list[str] = []
        self.long: dict[str, int] = {}
        self.short: dict[str, int] = {}
        self.parts: defaultdict[str, list[int]] = defaultdict(list)
        self.counts: list[int] = []
        for number, (name, text) in enumerate(prompts):
            prompt_words = words(text)
            self.names.append(name)
            parts = set(ngrams(prompt_words, COVERED))
            self.counts.append(len(parts))
            for gram in ngrams(prompt_words, ngram):
                self.long.setdefault(gram, number)
            for gram in parts:
                self.parts[gram].append(number)
            if prompt_words and not parts:
                self.short.setdefault(" ".join(prompt_words), number)

    def match(self, texts: list[str]) -> str | None:
        """Which prompt the texts of a row share words with, in a sentence, or None."""
        shared: dict[int, set[str]] = defaultdict(set)
        for text in texts:
            text_words = words(text)
            whole = " ".join(text_words)
            if whole in self.short:
                return f"a turn is the whole prompt of {self.names[self.short[whole]]}: {whole!r}"
            for gram in ngrams(text_words, self.ngram):
                if gram in self.long:
                    return f"shares {self.ngram} words with {self.names[self.long[gram]]}: {gram!r}"
            for gram in ngrams(text_words, COVERED):
                for number in self.parts.get(gram, ()):
                    shared[number].add(gram)
        for number, grams in shared.items():
            if 2 * len(grams) >= self.counts[number]:
                share = f"{len(grams)} of {self.counts[number]}"
                return f"shares {share} {COVERED}-grams with {self.names[number]}: {sorted(grams)[0]!r}"
        return None


@dataclass(frozen=True)
class EvalSource:
    """Where prompts of an evaluation are: rows, and the column that has the prompt (recognised when None)."""

    source: Source
    column: str | None
    where: str


def eval_sources(recipe: TrainingFile) -> list[EvalSource]:
    """What `dataset_mixture.decontaminate` names: suite files (`eval.yaml`), data files, or Hub ids with a column.

    Tasks of a suite that read no file cannot be compared with rows; a note of the recipe names them.

    Raises:
        UserError: a suite is not there, or is wrong.
    """
    sources = []
    for number, entry in enumerate(recipe.dataset_mixture.decontaminate or []):
        where = recipe.place(f"dataset_mixture.decontaminate.{number}")
        if isinstance(entry, EvalPromptsKeys):
            source = Source(entry.id, entry.config, entry.split, entry.revision, written_id=entry.written_id)
            sources.append(EvalSource(source, entry.column, where))
        elif is_suite(entry):
            suite = named_suite(recipe, number)
            reading = tasks_with_rows(suite)
            names = {task.name for task, _ in reading}
            others = [task.name for task in suite.tasks if task.name not in names]
            if others:
                recipe.notes.append(
                    f"{where}: the items of {', '.join(others)} are in no file, so no row is compared with them"
                )
            sources += [EvalSource(Source(data), question_field(task), f"{where} ({entry})") for task, data in reading]
        else:
            sources.append(EvalSource(Source(entry), None, where))
    return sources


def eval_prompts(sources: list[EvalSource], ngram: int) -> EvalPrompts | None:
    """The prompts of all sources; None without sources.

    Raises:
        UserError: a source that cannot be read, or that has no row with a prompt.
    """
    prompts: list[tuple[str, str]] = []
    for entry in sources:
        before = len(prompts)
        for row in read_rows(entry.source, entry.where):
            if row.content is None:
                raise UserError(f"{row.place}: {row.problem}, or its prompt stays in the training data")
            texts = _prompt_texts(row, entry.column)
            if not texts:
                expected = entry.column or " or ".join(PROMPT_COLUMNS)
                raise UserError(
                    f"{entry.where}: {row.place}: expected a prompt in {expected}, got none; name the column"
                )
            prompts += [(f"{entry.source.name} ({row.place})", text) for text in texts]
        if len(prompts) == before:
            raise UserError(
                f"{entry.where}: {entry.source.name}: expected at least one row, got none; write its rows first"
            )
    return EvalPrompts(prompts, ngram) if sources else None


def _prompt_texts(row: SourceRow, column: str | None) -> list[str]:
    """The prompt of an evaluation's row, or those of all its user turns."""
    content = row.content or {}
    name = next((c for c in ([column] if column else PROMPT_COLUMNS) if content.get(c)), None)
    value: Any = content.get(name) if name else None
    if name == "instruction" and isinstance(content.get("input"), str):
        value = f"{value}\n\n{content['input']}"
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        turns = [m.get("content") for m in value if isinstance(m, dict) and m.get("role") == "user"]
        return [text for text in turns if isinstance(text, str) and text]
    return []
