"""What the files of a recipe name, opened: models, rows, templates, suites, verifiers. What a stage of the recipe makes
counts as there; ids of the Hub are asked for together.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError

from apo.pairs.engines.engine import require_engine
from apo.pairs.language import answer_languages
from apo.pairs.prompts import prompt_of
from apo_soup.config.asking import AskingFile
from apo_soup.config.eval import AnswerTask, EvalFile, HarnessTask
from apo_soup.config.judges import RewardJudge
from apo_soup.config.kinds import stage_name
from apo_soup.config.merge import MergeFile
from apo_soup.config.mixture import EvalPromptsKeys, is_suite
from apo_soup.config.pairs import PairsFile
from apo_soup.config.places import places_looked_at, resolved
from apo_soup.config.sides import LocalSide, VllmSide
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.training import TrainingFile
from apo_soup.data.conversations.conversation import parse_supervised
from apo_soup.data.conversations.formats import canonical, format_of_row, formats_of
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.rendering.template import ChatTemplate
from apo_soup.data.sources.mixture import named_format, recognised_format
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError, first_line
from apo_soup.evals.installed import require_packages, require_served_tokenizer, require_vllm
from apo_soup.evals.models_to_evaluate import models_of_suite, require_own_folders
from apo_soup.models.architecture import require_language_model, require_reward_model
from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer
from apo_soup.plan.files_trained import files_trained
from apo_soup.plan.hub_ids import HubId, ask_hub
from apo_soup.plan.made import MadeHere
from apo_soup.plan.named_scores import look_at_choice, require_score, require_tasks, trainings_with_names
from apo_soup.runs.chat_template import TRL_TEMPLATE, template_text
from apo_soup.runs.sources import is_local, model_folder, row_files
from apo_soup.runs.suite_inputs import named_suite, tasks_with_rows
from apo_soup.runs.training_suite import training_suite
from apo_soup.verify.answers import verifier
from merge.members import absent_member, listed_member
from merge.mergekit_names import STAGE_NAMES, named_models, resolved_model, with_names_as_text

# Rows of a source that are looked at: one of them must be usable.
FIRST_ROWS = 20
# Tokenizers that transformers reads, or converts, where there is no tokenizer.json.
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def named_problems(recipes: Sequence[StageFile], folder: Path) -> list[str]:
    """A sentence for everything that the files of a recipe's folder name and that is not there, or is something else.
    What the Hub was not heard about is noted with the first file.

    Args:
        recipes: the files that are right by themselves.
        folder: where they lie; files that are wrong make their folders too.

    Raises:
        UserError: a member of an apo or merge file is wrong.
    """
    looks = Looks(MadeHere(folder))
    for recipe in recipes:
        if isinstance(recipe, TrainingFile):
            for file in files_trained(recipe):
                _look_at_training(file, looks)
        elif isinstance(recipe, AskingFile):
            _look_at_asking(recipe, looks)
        elif isinstance(recipe, EvalFile):
            _look_at_suite(recipe, looks)
        elif isinstance(recipe, MergeFile):
            _look_at_merge(recipe, looks)
        elif isinstance(recipe, SweepFile):
            _look_at_sweep(recipe, looks)
    asked = ask_hub(looks.on_hub)
    if asked.unseen:
        names = ", ".join(asked.unseen[:3]) + (f" and {len(asked.unseen) - 3} more" if asked.unseen[3:] else "")
        recipes[0].notes.append(f"{folder}: the Hub was not heard about {names}; whether they are there was not seen")
    return list(dict.fromkeys(looks.problems + asked.problems))


class Looks:
    """What was found wrong so far, and the ids of the Hub that were named."""

    def __init__(self, made: MadeHere):
        self.made = made
        self.problems: list[str] = []
        self.on_hub: list[HubId] = []

    def at(self, look: Callable[..., Any], *what: Any) -> None:
        """Call a function that raises UserError where something is wrong, and go on."""
        try:
            look(*what)
        except UserError as error:
            self.problems += [line.strip() for line in str(error).splitlines()]

    def note(self, recipe: StageFile, look: Callable[..., Any], *what: Any) -> None:
        """The same of what may be otherwise where the file is run: a note of it."""
        try:
            look(*what)
        except UserError as error:
            recipe.notes.append(str(error))

    def at_model(
        self,
        name: str,
        place: str,
        folder: Path,
        revision: str | None = None,
        require: "Kind | None" = None,
        trained: bool = False,
    ) -> None:
        """Look at a model that no stage makes: it must be whole, have a tokenizer, and be of the kind that `require`
        asks for; `trained` says that a training begins with it.
        """
        if self.made.makes(name):
            return
        if self.made.lacks_stage(name):
            self.problems.append(self.made.missing(name, place))
        elif is_local(name):
            self.at(_local_model, name, place, folder, require)
        else:
            self.on_hub.append(HubId("model", name, revision, place, trained))

    def at_rows(self, source: Source, place: str, folder: Path, parser: "Parser | None" = None) -> None:
        """Look at the first rows of a source that no stage makes; with a parser, one of them must be usable."""
        if self.made.makes(source.id):
            return
        try:
            local = row_files(source.id, place, folder) is not None
        except UserError as error:
            self.problems.append(str(error))
            return
        if local:
            self.at(_local_rows, source, place, parser)
        else:
            self.on_hub.append(HubId("dataset", source.id, source.revision, place))


def _look_at_training(recipe: TrainingFile, looks: Looks) -> None:
    folder = recipe.path.parent
    place, kind = recipe.place("model_name_or_path"), partial(require_language_model, trusted=recipe.trust_remote_code)
    looks.at_model(recipe.model_name_or_path, place, folder, recipe.model_revision, kind, trained=True)
    if resolved(recipe.model_name_or_path) == resolved(recipe.output_dir):
        told = f"expected a model folder to begin with, got {recipe.model_name_or_path}, which this file makes"
        looks.problems.append(f"{place}: {told}; name another")
    looks.at(_template, recipe.chat_template, recipe.place("chat_template"), folder)
    for number, clear_of in enumerate(recipe.dataset_mixture.decontaminate or []):
        place = recipe.place(f"dataset_mixture.decontaminate.{number}")
        if is_suite(clear_of):
            looks.at(named_suite, recipe, number)
        elif isinstance(clear_of, EvalPromptsKeys):
            rows = Source(clear_of.id, clear_of.config, clear_of.split, clear_of.revision)
            looks.at_rows(rows, f"{place}.id", folder)
        else:
            looks.at_rows(Source(clear_of), place, folder)
    for number, entry in enumerate(recipe.dataset_mixture.datasets):
        key = f"dataset_mixture.datasets.{number}"
        source = Source.from_entry(entry, recipe.place(key))
        if source.format:
            looks.at(named_format, source.format, formats_of(recipe.kind == "apo"), recipe.place(f"{key}.format"))
        looks.at_rows(source, recipe.place(f"{key}.id"), folder, _parser(source, recipe, key))
    if recipe.eval_suite is not None:
        looks.at(_scoring_suite, recipe, looks)
    for key, name, whose in (
        ("deepspeed", recipe.deepspeed, "DeepSpeed's"),
        ("accelerator_config", recipe.accelerator_config, "accelerate's"),
        ("fsdp_config", recipe.fsdp_config, "FSDP's"),
    ):
        if isinstance(name, str) and not name.lstrip().startswith("{"):
            looks.at(_json_file, name, recipe.place(key), whose)


def _scoring_suite(recipe: TrainingFile, looks: Looks) -> None:
    """Refuse a suite that cannot score a model while it trains, rows of it that are not there, and those that a later
    stage makes.
    """
    assert recipe.eval_suite is not None
    suite = training_suite(recipe, recipe.eval_suite)
    folder = suite.path.parent
    for task, data in tasks_with_rows(suite):
        place = suite.place(f"{task.dotted}.data")
        if looks.made.makes(data):
            if recipe.kind == "sft" and looks.made.made_from_sft(data):
                told = (
                    f"expected tasks whose rows are there when {stage_name(recipe.path)} trains, got {task.name}, whose"
                )
                raise UserError(
                    f"{recipe.place('eval_suite.tasks')}: {told} rows the stage pairs makes behind it; name another"
                )
        else:
            looks.at_rows(Source(data), place, folder)


def _look_at_asking(recipe: AskingFile, looks: Looks) -> None:
    folder = recipe.path.parent
    weak = recipe.weak if isinstance(recipe, PairsFile) else None
    for name, side in (("strong", recipe.strong), ("weak", weak), ("judge", recipe.judge)):
        if isinstance(side, LocalSide | RewardJudge):
            text = partial(require_language_model, trusted=side.trust_remote_code)
            kind = require_reward_model if isinstance(side, RewardJudge) else text
            looks.at_model(side.model, recipe.place(f"{name}.model"), folder, side.revision, kind)
            looks.at(_template, side.chat_template, recipe.place(f"{name}.chat_template"), folder)
    for name, asked in {**recipe.sides(), "judge": recipe.judge}.items():
        if isinstance(asked, VllmSide):  # which is installed in an environment of its own
            looks.note(recipe, require_engine, asked, recipe.place(name))
        elif asked is not None:
            looks.at(require_engine, asked, recipe.place(name))
    if recipe.verifier is not None:
        looks.at(verifier, recipe.verifier, recipe.place("verifier"))
    looks.at(answer_languages, recipe)
    arguments = {**(recipe.chat_template_kwargs or {}), "enable_thinking": recipe.mode == "think"}
    for number, entry in enumerate(recipe.prompts):
        place = recipe.place("prompts" if len(recipe.prompts) == 1 else f"prompts.{number}")
        looks.at_rows(
            Source.from_entry(entry), place, folder, lambda _: lambda row: prompt_of(row, arguments, recipe.reference)
        )


def _look_at_suite(suite: EvalFile, looks: Looks) -> None:
    folder = suite.path.parent
    looks.at(_template, suite.chat_template, suite.place("chat_template"), folder)
    files = {id(task): file for task, file in tasks_with_rows(suite)}
    for number, task in enumerate(suite.tasks):
        key = f"tasks.{number}"
        if isinstance(task, AnswerTask) and task.verifier:
            looks.at(verifier, task.verifier, suite.place(f"{key}.verifier"))
        if isinstance(task, HarnessTask) and task.include and not Path(task.include).is_dir():
            told = f"expected a folder of lm-evaluation-harness tasks, got {task.include}; correct the path"
            looked = places_looked_at(task.include, folder)
            looks.problems.append(f"{suite.place(f'{key}.include')}: {told} ({looked})")
        if id(task) in files:
            looks.at_rows(Source(files[id(task)]), suite.place(f"{key}.data"), folder)
    looks.note(suite, require_vllm, suite)
    looks.at(require_packages, suite)
    looks.at(require_served_tokenizer, suite)
    if suite.endpoint is None:
        looks.at(require_own_folders, suite, models_of_suite(suite))
    if suite.gives("models") and not suite.models:
        told = "expected at least one model, got none; name them, or leave the key out"
        looks.problems.append(f"{suite.place('models')}: {told}")
    for name, model in models_of_suite(suite).items():
        kind = partial(require_language_model, trusted=suite.trust_remote_code)
        looks.at_model(str(model), suite.place(f"models.{name.partition('/')[0]}"), folder, None, kind)


def _look_at_merge(recipe: MergeFile, looks: Looks) -> None:
    if recipe.merge is not None:
        looks.at(_merged_models, recipe, looks)
    if recipe.soup is not None:
        members = recipe.soup.members if isinstance(recipe.soup.members, list) else ["1"]
        for name in members:
            looks.at(_soup_member, recipe, name, looks.made)
    if recipe.sweep is not None:
        look_at_choice(recipe, recipe.sweep, "sweep.", looks.at)
    if recipe.soup is not None and recipe.soup.members == "greedy":
        suite = ("soup.eval", recipe.soup.eval)
        if recipe.soup.metric:
            looks.at(require_score, recipe, suite, "soup.metric", recipe.soup.metric)
        else:
            looks.at(require_tasks, recipe, *suite, [])


def _look_at_sweep(file: SweepFile, looks: Looks) -> None:
    look_at_choice(file, file, "", looks.at)
    if file.against is not None:
        looks.at_model(file.against, file.place("against"), file.path.parent)
    looks.at(_look_at_points, file, looks)


def _look_at_points(file: SweepFile, looks: Looks) -> None:
    for training in trainings_with_names(file):
        _look_at_training(training, looks)


def _soup_member(recipe: MergeFile, name: str, made: MadeHere) -> None:
    """Refuse a member that no folder is, and no stage makes."""
    member = listed_member(recipe, name)
    if not member.is_dir() and not made.makes(member):
        of_run = made.lacks_stage(member)
        raise UserError(made.missing(str(member), recipe.place("soup")) if of_run else absent_member(recipe, member))


def _merged_models(recipe: MergeFile, looks: Looks) -> None:
    assert recipe.merge is not None
    for model, key in named_models(with_names_as_text(recipe.merge, recipe.place("merge"))).items():
        resolved = resolved_model(model, recipe, key)
        if model in STAGE_NAMES or model.startswith("apo/"):
            for part in resolved.split("+") if "+" in model else [resolved]:
                looks.at_model(part, recipe.place(key), recipe.path.parent)


def _template(value: str | None, place: str, folder: Path) -> None:
    """Refuse a chat template that is not there, or is no Jinja."""
    text = template_text(value, place, folder)
    if text is None or text == TRL_TEMPLATE:
        return
    try:
        ChatTemplate(text)
    except TemplateSyntaxError as error:
        told = f"expected Jinja text, got what it cannot read ({first_line(error)}, line {error.lineno} of it)"
        raise UserError(f"{place}: {told}; correct the template") from error


def _json_file(name: str, place: str, whose: str) -> None:
    try:
        read = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = f"expected a JSON file of {whose}, got {name} ({type(error).__name__}); correct the path"
        raise UserError(f"{place}: {told} ({places_looked_at(name, None)})") from error
    if not isinstance(read, dict):
        raise UserError(f"{place}: expected a JSON file of {whose} keys, got another in {name}; correct it")


# Refuses a folder, named at a place, that holds no model of a kind.
Kind = Callable[[Path, str], None]


def _local_model(name: str, place: str, recipe_folder: Path, require: Kind | None) -> None:
    """Refuse a folder that is no whole model, has no tokenizer, or is of another kind."""
    folder = model_folder(name, place, recipe_folder)
    if folder is None or (folder / "adapter_config.json").is_file():
        return
    if require is not None:
        require(folder, place)
    other = any((folder / file).is_file() for file in OTHER_TOKENIZERS)
    if not other and stored_tokenizer(file_in(folder), place) is None:
        told = f"expected a model folder with a tokenizer, got {name} without tokenizer.json that can be read"
        raise UserError(f"{place}: {told}; copy the tokenizer's files into it")


# What reads a row of a source, once its first rows have told their format.
Parser = Callable[[list[SourceRow]], Callable[[SourceRow], Any]]


def _parser(source: Source, recipe: TrainingFile, key: str) -> Parser:
    pairs = recipe.kind == "apo"
    formats, arguments = formats_of(pairs), {**(recipe.chat_template_kwargs or {}), **dict(source.chat_template_kwargs)}
    parse = parse_pair if pairs else parse_supervised

    def of_rows(rows: list[SourceRow]) -> Callable[[SourceRow], Any]:
        if source.format:
            usual = named_format(source.format, formats, recipe.place(f"{key}.format"))
        else:
            usual = recognised_format(source, rows, formats, recipe.place(f"{key}.id"))

        def of_row(row: SourceRow) -> Any:
            return parse(canonical(row.fields, format_of_row(row.fields, usual, source.format is not None)), arguments)

        return of_row

    return of_rows


def _local_rows(source: Source, place: str, parser: Parser | None) -> None:
    """Refuse files of which the first rows hold none that can be used."""
    rows = list(islice(read_rows(source, place), FIRST_ROWS))
    if not rows:
        raise UserError(f"{place}: expected at least one row, got none in {source.name}; write its rows first")
    if all(row.content is None for row in rows):
        raise UserError(f"{rows[0].place}: {rows[0].problem}")
    if parser is None:
        return
    read, reasons = parser(rows), []
    for row in rows:
        try:
            read(row)
            return
        except RowError as error:
            reasons.append(f"{row.place}: {error}")
    told = f"expected a row that can be used among the first {len(rows)} of {source.name}, got none"
    raise UserError(f"{place}: {told}; the first: {reasons[0]}")
