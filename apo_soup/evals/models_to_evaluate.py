"""Which models a suite is run on: those of its file, one folder, or weighted averages made in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.endpoint import endpoint_address
from apo_soup.config.eval import EvalFile
from apo_soup.errors import UserError
from apo_soup.runs.members import member_order
from apo_soup.runs.own_names import name_mark
from apo_soup.runs.results import PIPELINE, pipeline_order

# What a sum of weights may be off by.
SUM_SLACK = 1e-6


@dataclass(frozen=True)
class Mix:
    """A name, model folders and their weights."""

    name: str
    parts: tuple[tuple[Path, float], ...]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model under the name that its results go by; a mix takes its tokenizer from `folder`, its first part."""

    name: str
    folder: Path
    mix: Mix | None = None


def parse_mix(text: str) -> Mix:
    """`NAME:FOLDER=WEIGHT,FOLDER=WEIGHT` as a Mix.

    Raises:
        UserError: it is written otherwise.
    """
    name, colon, rest = text.partition(":")
    parts = []
    for entry in rest.split(","):
        folder, equals, weight = entry.rpartition("=")
        try:
            parts.append((Path(folder), float(weight)))
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--mix: expected NAME:FOLDER=WEIGHT,FOLDER=WEIGHT, got {text}; correct it")
    if not name or not colon or "/" in name:
        raise UserError(f"--mix: expected a name without / before the first colon, got {text}; correct it")
    weights = [weight for _, weight in parts]
    if not math.isfinite(sum(weights)) or abs(sum(weights) - 1) > SUM_SLACK:
        told = f"expected weights that sum to 1, for another sum scales the model, got {sum(weights):g}"
        raise UserError(f"--mix: {told} in {text}; correct them")
    return Mix(name, tuple(parts))


def models_of_suite(suite: EvalFile, only: Sequence[str] = ()) -> dict[str, Path]:
    """Names and folders of the models of the file; a path that ends in /* stands for every model folder there.

    Raises:
        UserError: `only` has a name that is not among them.
    """
    models: dict[str, Path] = {}
    for name, path in (suite.models or {}).items():
        if path.endswith("/*"):
            folders = [f for f in Path(path[:-2]).glob("[!.]*") if (f / "config.json").is_file()]
            models |= {f"{name}/{f.name}": f for f in sorted(folders, key=lambda f: member_order(f.name))}
        else:
            models[name] = Path(path)
    missing = [name for name in only if name not in models]
    if missing:
        raise UserError(
            f"{suite.place('models')}: expected one of {', '.join(models)}, got {', '.join(missing)}; correct "
            "the name, or make that model first"
        )
    return {name: models[name] for name in only or models}


def last_model(suite: EvalFile) -> str:
    """The name of the furthest model of the pipeline that a suite names, or of its only other one; `merged` where it
    names no model but the base.

    Raises:
        UserError: as `models_of_suite` does, or its models are several of which none is of the pipeline.
    """
    trained = [name for name in models_of_suite(suite) if name != "base"]
    known = [name for name in trained if name.partition("/")[0] in PIPELINE]
    if not known and len(trained) > 1:
        raise UserError(
            f"{suite.place('models')}: expected a stage of the run among the models, got {', '.join(trained)}; "
            "say which one with --stage"
        )
    return max(known or trained, key=pipeline_order, default="merged")


def require_own_folders(suite: EvalFile, listed: dict[str, Path]) -> None:
    """Refuse a suite that names one folder twice.

    Raises:
        UserError: with both names.
    """
    first: dict[Path, str] = {}
    for name, path in listed.items():
        same = first.setdefault(path.resolve(), name)
        if same != name:
            raise UserError(
                f"{suite.place('models')}: expected a folder of its own for each model, got {path} for {same} and "
                f"{name}; leave one of them out"
            )


def models_to_evaluate(
    suite: EvalFile, folder: str | None, only: Sequence[str], mixes: Sequence[str]
) -> list[EvaluatedModel]:
    """What the command line asks for with `--model FOLDER`, `--only NAME` or `--mix MIX`, else all models of the file.

    Raises:
        UserError: two of these are given, a name is unknown, or there is no model at all.
    """
    given = [flag for flag, value in (("--model", folder), ("--mix", mixes), ("--only", only)) if value]
    if suite.endpoint is not None:
        if given:
            raise UserError(
                f"{given[0]}: expected no such flag with engine openai, which asks one served model, got one; leave "
                "it out"
            )
        served, address = suite.endpoint.model, endpoint_address(suite.endpoint).url
        # Two servers may have a model of one name.
        own = f"served/{served.strip('/').replace('/', '-')}@{name_mark(address)}"
        return [EvaluatedModel(own, Path(served))]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: expected one of them, got {len(given)}; leave the others out")
    if mixes:
        parsed = [parse_mix(text) for text in mixes]
        names = [mix.name for mix in parsed]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"--mix: expected a name of its own for each, got {', '.join(twice)} twice; rename one")
        return [EvaluatedModel(f"mix/{mix.name}", mix.parts[0][0], mix) for mix in parsed]
    listed = models_of_suite(suite, only)
    if folder:
        name_of_folder = {path.resolve(): name for name, path in listed.items()}
        path = Path(folder).resolve()
        # Folders of several runs have the same last parts.
        own = f"{path.parent.name}-{path.name}@{name_mark(str(path))}"
        return [EvaluatedModel(name_of_folder.get(path, own), path)]
    if not listed:
        raise UserError(f"{suite.place('models')}: expected at least one, got none; name them, or give --model")
    require_own_folders(suite, listed)
    return [EvaluatedModel(name, path) for name, path in listed.items()]
