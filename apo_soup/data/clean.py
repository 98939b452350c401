"""Take out rows that are there twice, nearly twice, or that an evaluation will ask about.

`Cleaner` looks at one row alone and runs wherever rows are encoded; `Duplicates` remembers rows and runs in one place,
in the rows' order, so the first of several is the one that stays. All of it is off unless a recipe asks for it.
"""

import hashlib
import json
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.config.recipe import Recipe, load
from apo_soup.data.conversation import Conversation, Pair, Text
from apo_soup.data.rows import Row, Source, read
from apo_soup.data.writer import Spool
from apo_soup.errors import UserError
from apo_soup.runs.suite_inputs import question_field, tasks_with_rows

# Scripts that write without spaces count a character as a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+")
# Characters inside a word that nobody sees: soft hyphen, zero-width space and joiners, byte order mark.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
SHINGLE = 5
PERMUTATIONS = 128
SCHEME = "affine32"
# How far below the threshold MinHash looks for candidates: five standard errors of its estimate at 0.8.
MARGIN = 0.18
COVERED = 8
PROMPT_COLUMNS = ("messages", "prompt", "question", "instruction", "problem", "text")

Item = Conversation | Text | Pair


@dataclass(frozen=True)
class Fingerprint:
    """What a row is recognised by: a digest of its words and, where near duplicates are asked for and there are words,
    the hashes of its shingles and their MinHash values.
    """

    digest: bytes
    shingles: np.ndarray | None = None
    minhash: np.ndarray | None = None


@dataclass(frozen=True)
class Cleaner:
    """Which removals a recipe asks for.

    `duplicates` is None, `exact` or `near`; `evals` holds the n-grams of evaluation prompts.
    """

    duplicates: str | None = None
    evals: "EvalPrompts | None" = None

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """What `Duplicates` needs of a row, or None when it is not asked for."""
        if self.duplicates is None:
            return None
        digest = hashlib.sha256(json.dumps([item.mode, said(item)], sort_keys=True, default=str).encode()).digest()[:16]
        found = words(" ".join(texts_of(item))) if self.duplicates == "near" else []
        if not found:
            return Fingerprint(digest)
        runs = [s.encode() for s in shingles([item.mode, *found])]
        sketch = self._empty.copy()
        sketch.update_batch(runs)
        hashes = np.unique(np.array([zlib.crc32(run) for run in runs], dtype=np.uint32).view(np.int32))
        return Fingerprint(digest, hashes, sketch.hashvalues)

    @cached_property
    def _empty(self) -> Any:
        from datasketch import MinHash

        return MinHash(PERMUTATIONS, scheme=SCHEME)

    def contaminated(self, item: Item) -> str | None:
        """Which evaluation's prompt a row shares words with, in a sentence, or None."""
        return self.evals.match(texts_of(item)) if self.evals else None


class Duplicates:
    """Rows seen so far. Memory grows with the rows: 16 bytes each for exact ones, some 2 KB each for near ones.

    Two rows are near when the Jaccard similarity of their 5-word shingles reaches the threshold. MinHash finds those
    that may be, well below the threshold, and the shingles themselves, kept in a file in `folder`, decide.
    """

    def __init__(self, near: bool, threshold: float, folder: Path):
        self.digests: dict[bytes, str] = {}
        self.threshold = threshold
        self.near = None
        if near:
            from datasketch import MinHashLSH

            self.near = MinHashLSH(threshold=threshold - MARGIN, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
            self.places: list[str] = []
            self.file = folder / "shingles.bin"
            self.shingles = Spool(self.file, 1)

    def seen(self, mark: Fingerprint, place: str) -> str | None:
        """Why this row is a duplicate of an earlier one, or None, and then it is remembered."""
        first = self.digests.get(mark.digest)
        if first:
            return f"the same as {first}"
        if self.near is not None and mark.minhash is not None:
            from datasketch import MinHash

            sketch = MinHash(hashvalues=mark.minhash, scheme=SCHEME)
            candidates = sorted(self.near.query(sketch))
            if candidates:
                self.shingles.flush()
            for other in candidates:
                similarity = jaccard(mark.shingles, self.shingles.read(other)[0])
                if similarity >= self.threshold:
                    return f"nearly the same as {self.places[other]} (similarity {similarity:.2f})"
            self.near.insert(self.shingles.append([mark.shingles]), sketch)
            self.places.append(place)
        self.digests[mark.digest] = place
        return None

    def close(self) -> None:
        """Remove the file of shingles."""
        if self.near is not None:
            self.shingles.close()
            self.file.unlink()


def jaccard(one: np.ndarray, two: np.ndarray) -> float:
    """Shared share of two sets of hashes, each an array of different values."""
    both = len(np.intersect1d(one, two, assume_unique=True))
    return both / (len(one) + len(two) - both)


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
            found = words(text)
            self.names.append(name)
            parts = set(grams(found, COVERED))
            self.counts.append(len(parts))
            for gram in grams(found, ngram):
                self.long.setdefault(gram, number)
            for gram in parts:
                self.parts[gram].append(number)
            if found and not parts:
                self.short.setdefault(" ".join(found), number)

    def match(self, texts: list[str]) -> str | None:
        """Which prompt the texts of a row share words with, in a sentence, or None."""
        shared: dict[int, set[str]] = defaultdict(set)
        for text in texts:
            found = words(text)
            whole = " ".join(found)
            if whole in self.short:
                return f"a turn is the whole prompt of {self.names[self.short[whole]]}: {whole!r}"
            for gram in grams(found, self.ngram):
                if gram in self.long:
                    return f"shares {self.ngram} words with {self.names[self.long[gram]]}: {gram!r}"
            for gram in grams(found, COVERED):
                for number in self.parts.get(gram, ()):
                    shared[number].add(gram)
        for number, grams_shared in shared.items():
            if 2 * len(grams_shared) >= self.counts[number]:
                share = f"{len(grams_shared)} of {self.counts[number]}"
                return f"shares {share} {COVERED}-grams with {self.names[number]}: {sorted(grams_shared)[0]!r}"
        return None


def shingles(found: list[str]) -> set[str]:
    """Every run of five words; all of them as one where there are fewer."""
    return {" ".join(found[i : i + SHINGLE]) for i in range(max(1, len(found) - SHINGLE + 1))}


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, however their characters are composed."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return WORD.findall(text.lower())


def grams(found: list[str], length: int) -> Iterator[str]:
    """Every run of `length` words, as one string."""
    for start in range(len(found) - length + 1):
        yield " ".join(found[start : start + length])


def spoken(item: Item) -> list[Any]:
    """A row's turns, or its text."""
    if isinstance(item, Text):
        return [item.text]
    return item.messages if isinstance(item, Conversation) else [*item.prompt, *item.chosen, *item.rejected]


def said(item: Item) -> list[Any]:
    """What a row's turns say: role, content, reasoning and calls, and nothing else that a message may carry."""
    if isinstance(item, Text):
        return [item.text]
    keys = ("role", "content", "reasoning_content")
    return [[*(m.get(k) for k in keys), [c["function"] for c in m.get("tool_calls") or []]] for m in spoken(item)]


def texts_of(item: Item) -> list[str]:
    """The words of every turn of a row, its reasoning and calls among them."""
    if isinstance(item, Text):
        return [item.text]
    texts = []
    for message in spoken(item):
        calls = strings([c["function"] for c in message.get("tool_calls") or []])
        texts.append(" ".join([message.get("reasoning_content") or "", message.get("content") or "", *calls]))
    # Template arguments such as custom_instructions are text that the model reads.
    return texts + [value for value in item.kwargs.values() if isinstance(value, str)]


def strings(value: Any) -> list[str]:
    """All text and numbers inside a value, as they are and not as JSON writes them."""
    if isinstance(value, (str, int, float)):
        return [str(value)]
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (str(k), *strings(v))]
    return [s for v in value for s in strings(v)] if isinstance(value, list) else []


@dataclass(frozen=True)
class EvalSource:
    """Where prompts of an evaluation are: rows, and the column that holds the prompt (found when None)."""

    source: Source
    column: str | None
    where: str


def eval_sources(recipe: Recipe) -> list[EvalSource]:
    """What `dataset_mixture.decontaminate` names: suite files (`eval.yaml`), data files, or Hub ids with a column."""
    sources = []
    for number, entry in enumerate(recipe.values["dataset_mixture"].get("decontaminate") or []):
        where = recipe.where(f"dataset_mixture.decontaminate.{number}")
        if isinstance(entry, str) and Path(entry).suffix in (".yaml", ".yml"):
            suite = load(entry, "eval")
            reading = tasks_with_rows(suite)
            named = {task.name for task, _ in reading}
            others = [task.name for task in suite.tasks if task.name not in named]
            if others:
                recipe.notes.append(
                    f"{where}: the items of {', '.join(others)} stand in no file, so no row is held against them"
                )
            for task, data in reading:
                sources.append(EvalSource(Source(data), question_field(task), f"{where} ({entry})"))
            continue
        fields = {"id": entry} if isinstance(entry, str) else dict(entry)
        column = fields.pop("column", None)
        sources.append(EvalSource(Source.from_entry(fields), column, where))
    return sources


def eval_prompts(sources: list[EvalSource], ngram: int) -> EvalPrompts | None:
    """The prompts of all sources; None without sources.

    Raises:
        UserError: a source that cannot be read, or that has no row with a prompt.
    """
    prompts = []
    for entry in sources:
        before = len(prompts)
        for row in read(entry.source, entry.where):
            if row.content is None:
                raise UserError(f"{row.place}: {row.problem}; a prompt that cannot be read cannot be kept out")
            asked = _asked(row, entry.column)
            if not asked:
                known = entry.column or ", ".join(PROMPT_COLUMNS)
                raise UserError(
                    f"{entry.where}: {row.place} has no prompt to stay clear of; looked for {known}. Name the column"
                )
            prompts += [(f"{entry.source.name} ({row.place})", text) for text in asked]
        if len(prompts) == before:
            raise UserError(f"{entry.where}: {entry.source.name} holds no row")
    return EvalPrompts(prompts, ngram) if sources else None


def _asked(row: Row, column: str | None) -> list[str]:
    content = row.content or {}
    name = next((c for c in ([column] if column else PROMPT_COLUMNS) if content.get(c)), None)
    value = content.get(name)
    if name == "instruction" and isinstance(content.get("input"), str):
        value = f"{value}\n\n{content['input']}"
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        asked = [m.get("content") for m in value if isinstance(m, dict) and m.get("role") == "user"]
        return [text for text in asked if isinstance(text, str) and text]
    return []
