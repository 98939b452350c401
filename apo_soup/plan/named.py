"""What the files of a recipe name, opened: models, rows, templates, suites, verifiers. What a stage of the recipe makes
counts as there; an id of the Hub is not asked for.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from apo.pairs.prompts import prompt_of
from apo_soup.config.asking import AskingFile
from apo_soup.config.eval import AnswerTask, EvalFile, HarnessTask
from apo_soup.config.judges import RewardJudge
from apo_soup.config.load import load
from apo_soup.config.merge import MergeFile
from apo_soup.config.mixture import EvalPromptsKeys, SourceKeys, is_suite
from apo_soup.config.places import places_looked_at, run_folder_of
from apo_soup.config.sides import LocalSide
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.data.conversations.conversation import parse_supervised
from apo_soup.data.conversations.formats import canonical, format_of_row, formats_of
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.sources.mixture import named_format, recognised_format
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import models_of_suite
from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer
from apo_soup.plan.made import MadeHere
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.sources import model_folder, row_files
from apo_soup.runs.suite_inputs import named_suite, tasks_with_rows
from apo_soup.verify.answers import verifier
from merge.mergekit_names import STAGE_NAMES, named_models, resolved_model, with_names_as_text

# Rows of a source that are looked at: one of them must be usable.
FIRST_ROWS = 20


def named_problems(recipes: Sequence[StageFile], folder: Path) -> list[str]:
    """A sentence for everything that the files of a recipe's folder name and that is not there, or is something else.

    Args:
        recipes: the files that are right by themselves.
        folder: where they lie; files that are wrong make their folders too.
    """
    made = MadeHere(folder)
    problems: list[str] = []
    for recipe in recipes:
        for look in _looks(recipe, made):
            try:
                look()
            except UserError as error:
                problems += [line.strip() for line in str(error).splitlines()]
    return list(dict.fromkeys(problems))


def _looks(recipe: StageFile, made: MadeHere) -> Iterator[Callable[[], Any]]:
    """What is to be looked at for a file; each raises UserError where it finds something wrong."""
    if isinstance(recipe, TrainingFile):
        yield from _training_looks(recipe, made)
    elif isinstance(recipe, AskingFile):
        yield from _asking_looks(recipe, made)
    elif isinstance(recipe, EvalFile):
        yield from _suite_looks(recipe, made)
    elif isinstance(recipe, MergeFile):
        yield from _merge_looks(recipe, made)


def _training_looks(recipe: TrainingFile, made: MadeHere) -> Iterator[Callable[[], Any]]:
    place = recipe.place("model_name_or_path")
    yield lambda: _look_at_model(recipe.model_name_or_path, place, recipe, made)
    yield lambda: template_text(recipe.chat_template, recipe.place("chat_template"), recipe.path.parent)
    for number, clear_of in enumerate(recipe.dataset_mixture.decontaminate or []):
        yield lambda number=number, clear_of=clear_of: _look_at_evaluation(clear_of, recipe, number)  # type: ignore[misc]
    for number, entry in enumerate(recipe.dataset_mixture.datasets):
        key = f"dataset_mixture.datasets.{number}"
        source = Source.from_entry(entry, recipe.place(key))
        yield lambda entry=entry, source=source, key=key: _look_at_rows(  # type: ignore[misc]
            entry, source, recipe, f"{key}.id", made, _parser(source, recipe, key)
        )
    deepspeed = recipe.model_dump(include={"deepspeed"}).get("deepspeed")
    if isinstance(deepspeed, str) and not deepspeed.lstrip().startswith("{"):
        yield lambda: _look_at_json(deepspeed, recipe.place("deepspeed"))


def _look_at_evaluation(entry: str | EvalPromptsKeys, recipe: TrainingFile, number: int) -> None:
    """Refuse evaluations to stay clear of that are not there."""
    if is_suite(entry):
        named_suite(recipe, number)
        return
    name = entry.id if isinstance(entry, EvalPromptsKeys) else entry
    row_files(name, recipe.place(f"dataset_mixture.decontaminate.{number}"), recipe.path.parent)


def _look_at_json(name: str, place: str) -> None:
    try:
        read = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = f"expected a JSON file of DeepSpeed's, got {name} ({type(error).__name__}); correct the path"
        raise UserError(f"{place}: {told} ({places_looked_at(name, None)})") from error
    if not isinstance(read, dict):
        raise UserError(f"{place}: expected a JSON file of DeepSpeed's keys, got another in {name}; correct it")


def _asking_looks(recipe: AskingFile, made: MadeHere) -> Iterator[Callable[[], Any]]:
    sides = {name: getattr(recipe, name) for name in ("strong", "weak") if hasattr(recipe, name)}
    named: dict[str, Any] = {**sides, "judge": recipe.judge}
    for name, side in named.items():
        if isinstance(side, LocalSide | RewardJudge):
            place = recipe.place(f"{name}.model")
            yield lambda side=side, place=place: _look_at_model(side.model, place, recipe, made)  # type: ignore[misc]
            at = recipe.place(f"{name}.chat_template")
            yield lambda side=side, at=at: template_text(side.chat_template, at, recipe.path.parent)  # type: ignore[misc]
    if recipe.verifier is not None:
        name, place = recipe.verifier, recipe.place("verifier")
        yield lambda: verifier(name, place)
    arguments = {**(recipe.chat_template_kwargs or {}), "enable_thinking": recipe.mode == "think"}
    for number, entry in enumerate(recipe.prompts):
        source = Source.from_entry(entry)
        key = "prompts" if len(recipe.prompts) == 1 else f"prompts.{number}"
        yield lambda entry=entry, source=source, key=key: _look_at_rows(  # type: ignore[misc]
            entry, source, recipe, key, made, lambda rows: lambda row: prompt_of(row, arguments, recipe.reference)
        )


def _suite_looks(suite: EvalFile, made: MadeHere) -> Iterator[Callable[[], Any]]:
    yield lambda: template_text(suite.chat_template, suite.place("chat_template"), suite.path.parent)
    for number, task in enumerate(suite.tasks):
        at = f"tasks.{number}"
        if isinstance(task, AnswerTask) and task.verifier:
            yield lambda task=task, at=at: verifier(task.verifier, suite.place(f"{at}.verifier"))  # type: ignore[misc]
        if isinstance(task, HarnessTask) and task.include and not Path(task.include).is_dir():
            told = f"expected a folder of lm-evaluation-harness tasks, got {task.include}; correct the path"
            yield _raised(
                f"{suite.place(f'{at}.include')}: {told} ({places_looked_at(task.include, suite.path.parent)})"
            )
    with_rows = {id(task): file for task, file in tasks_with_rows(suite)}
    for number, task in enumerate(suite.tasks):
        file = with_rows.get(id(task))
        if file is not None and not made.makes(file):
            place = suite.place(f"tasks.{number}.data")
            yield lambda file=file, place=place: _first_rows(Source(file), place, suite.path.parent)  # type: ignore[misc]
    if suite.gives("models") and not suite.models:
        yield _raised(
            f"{suite.place('models')}: expected at least one model, got none; name them, or leave the key out"
        )
    for name, model in models_of_suite(suite).items():
        place = suite.place(f"models.{name.partition('/')[0]}")
        yield lambda model=model, place=place: _look_at_model(str(model), place, suite, made)  # type: ignore[misc]


def _merge_looks(recipe: MergeFile, made: MadeHere) -> Iterator[Callable[[], Any]]:
    run, folder = run_folder_of(recipe), recipe.path.parent
    if recipe.merge is not None:
        config = with_names_as_text(recipe.merge, recipe.place("merge"))
        for model, key in named_models(config).items():
            yield lambda model=model, key=key: _look_at_merged(model, key, recipe, made)  # type: ignore[misc]
    if recipe.soup is not None:
        members = recipe.soup.members if isinstance(recipe.soup.members, list) else ["1"]
        for name in members:
            if "/" not in name and not (run / "apo" / name).is_dir() and not made.makes(run / "apo" / name):
                yield _raised(made.missing(str(run / "apo" / name), recipe.place("soup")))
    asks = {"sweep": recipe.sweep, "soup": recipe.soup if recipe.soup and recipe.soup.members == "greedy" else None}
    for key, asking in asks.items():
        if asking is not None:
            suite = Path(asking.eval) if asking.eval else folder / "eval.yaml"
            tasks = recipe.sweep.tasks if recipe.sweep and key == "sweep" else []
            yield lambda suite=suite, key=key, tasks=tasks: _look_at_suite(suite, recipe, key, tasks)  # type: ignore[misc]


def _look_at_merged(model: str, key: str, recipe: MergeFile, made: MadeHere) -> None:
    resolved = resolved_model(model, recipe, key)
    if model in STAGE_NAMES or model.startswith("apo/"):
        _look_at_model(resolved, recipe.place(key), recipe, made)


def _look_at_suite(file: Path, recipe: MergeFile, key: str, tasks: Sequence[str]) -> None:
    if not file.is_file():
        place = recipe.place(f"{key}.eval" if key == "sweep" else "soup.members")
        raise UserError(f"{place}: expected an eval file, got {file}, which is not there; add it, or leave {key} out")
    known = [task.name for task in load(file, "eval").tasks]
    for task in tasks:
        if task not in known:
            told = f"expected tasks of {file} ({', '.join(known)}), got {task}; correct the name"
            raise UserError(f"{recipe.place('sweep.tasks')}: {told}")


def _raised(sentence: str) -> Callable[[], Any]:
    def look() -> None:
        raise UserError(sentence)

    return look


def _look_at_model(name: str, place: str, recipe: StageFile, made: MadeHere) -> None:
    """Refuse a local model that no stage makes and that is not whole, or has no tokenizer."""
    if made.makes(name):
        return
    if made.lacks_stage(name):
        raise UserError(made.missing(name, place))
    folder = model_folder(name, place, recipe.path.parent)
    if folder is None or (folder / "adapter_config.json").is_file():
        return
    slow = any((folder / file).is_file() for file in ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"))
    if not slow and stored_tokenizer(file_in(folder), place) is None:
        told = f"expected a model folder with a tokenizer, got {name} without tokenizer.json that can be read"
        raise UserError(f"{place}: {told}; copy the tokenizer's files into it")


Parser = Callable[[list[SourceRow]], Callable[[SourceRow], Any]]


def _parser(source: Source, recipe: TrainingFile, key: str) -> Parser:
    """What reads a row of a source, once its first rows have told their format."""
    pairs = recipe.kind == "apo"
    formats, arguments = formats_of(pairs), recipe.chat_template_kwargs or {}

    def of_rows(rows: list[SourceRow]) -> Callable[[SourceRow], Any]:
        if source.format:
            chosen = named_format(source.format, formats, recipe.place(f"{key}.format"))
        else:
            chosen = recognised_format(source, rows, formats, recipe.place(f"{key}.id"))
        parse = parse_pair if pairs else parse_supervised

        def of_row(row: SourceRow) -> Any:
            row_format = format_of_row(row.fields, chosen, source.format is not None)
            return parse(canonical(row.fields, row_format), {**arguments, **dict(source.chat_template_kwargs)})

        return of_row

    return of_rows


def _look_at_rows(
    entry: SourceKeys, source: Source, recipe: StageFile, key: str, made: MadeHere, parser: Parser
) -> None:
    """Refuse local rows that are not there, or of which the first ones hold none that can be used."""
    place = recipe.place(key)
    if made.makes(entry.id) or row_files(entry.id, place, recipe.path.parent) is None:
        return
    rows = _first_rows(source, place, recipe.path.parent)
    read, reasons = parser(rows), []
    for row in rows:
        try:
            read(row)
            return
        except RowError as error:
            reasons.append(f"{row.place}: {error}")
    told = f"expected a row that can be used among the first {len(rows)} of {source.name}, got none"
    raise UserError(f"{place}: {told}; the first: {reasons[0]}")


def _first_rows(source: Source, place: str, folder: Path) -> list[SourceRow]:
    """The first rows of a source's files, or of no more than one of the Hub.

    Raises:
        UserError: the files are not there, or hold no row.
    """
    if row_files(source.id, place, folder) is None:
        return []
    rows = list(islice(read_rows(source, place), FIRST_ROWS))
    if not rows:
        raise UserError(f"{place}: expected at least one row, got none in {source.name}; write its rows first")
    if all(row.content is None for row in rows):
        raise UserError(f"{rows[0].place}: {rows[0].problem}")
    return rows
