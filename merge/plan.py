"""What a merge file asks for: the soup, the mix of soup and mid, or both in one pass, each with its stage folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.merge import BESIDE_MERGE, MergeFile, SoupKeys
from apo_soup.config.mergekit import MergekitKeys, MergekitModel, MergekitParameters
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.lineage import model_label
from apo_soup.runs.sources import model_hash
from apo_soup.runs.stage import Stage
from merge.average import LinearAverage, one_pass_average, plain_linear
from merge.members import adapter_base, soup_members
from merge.mergekit_names import named_models, resolved_model, with_models, with_names_as_text


@dataclass(frozen=True)
class MergePlan:
    """One folder to make: its stage, mergekit's configuration with every model resolved, and `FILE:LINE: KEY` of what
    asks for it.

    `linear` is set where one pass averages other models than `config` names.
    """

    stage: Stage
    config: MergekitKeys
    where: str
    linear: LinearAverage | None = None


def merge_plan(recipe: MergeFile, name: str, ask: bool = True) -> MergePlan:
    """The plan of `soup` or `merged`; `ask` as `soup_members` takes it.

    Raises:
        UserError: members or models are missing, or `one_pass` is asked of a merge that is not linear.
    """
    if name == "soup":
        where, config = recipe.place("soup"), soup_config(recipe, ask)
        return MergePlan(_merge_stage(recipe, name, config, where), config, where)
    where, config = recipe.place("merge"), mix_config(recipe)
    if recipe.one_pass:
        return _one_pass_plan(recipe, name, config, where, ask)
    return MergePlan(_merge_stage(recipe, name, config, where), config, where)


def _one_pass_plan(recipe: MergeFile, name: str, config: MergekitKeys, where: str, ask: bool) -> MergePlan:
    """The members of the soup put straight into the mix: 0.9 / N of each of N members and 0.1 of mid."""
    if recipe.options and recipe.options.model_fields_set:
        raise UserError(
            f"{recipe.place('options')}: expected none with one_pass: true, which runs without mergekit, got "
            "some; leave out one of the two"
        )
    soup = (Path(recipe.output_dir) / "soup").resolve()
    inner = plain_linear(soup_config(recipe, ask))
    outer = plain_linear(config, absent=str(soup))
    if inner is None or outer is None or soup not in outer.folders:
        raise UserError(
            f"{recipe.place('one_pass')}: expected a linear soup of whole local models and a linear merge "
            "that takes soup in, got another merge; leave one_pass out"
        )
    linear = one_pass_average(outer, soup, inner)
    models = [weighted_model(str(f), w) for f, w in zip(linear.folders, linear.weights, strict=True)]
    config = config.model_copy(update={"models": models})
    return MergePlan(_merge_stage(recipe, name, config, where), config, where, linear)


def weighted_model(name: str, weight: float) -> MergekitModel:
    """A model with its weight, as mergekit takes it."""
    return MergekitModel(model=name, parameters=MergekitParameters(weight=weight))


def soup_config(recipe: MergeFile, ask: bool) -> MergekitKeys:
    """mergekit's configuration of an equal-weight linear average (Wortsman et al. 2022), summed in float64.

    Raises:
        UserError: members are missing, or adapters of different bases.
    """
    members, where = soup_members(recipe, ask), recipe.place("soup")
    bases = {folder: adapter_base(folder, where) for folder in members}
    adapted = {base for base in bases.values() if base}
    if len(adapted) > 1:
        raise UserError(
            f"{where}.members: expected adapters of one base, got bases {' and '.join(sorted(adapted)[:2])}; "
            "list members of one base"
        )
    refuse_doubles([f.resolve() for f in members], recipe, "soup.members")
    if (Path(recipe.output_dir) / "soup").resolve() in [f.resolve() for f in members]:
        raise UserError(f"{where}.members: expected models that are there before the soup, got the soup; leave it out")
    names = [f"{bases[f]}+{f.resolve()}" if bases[f] else str(f.resolve()) for f in members]
    return MergekitKeys(
        merge_method="linear",
        dtype="float64",
        out_dtype=(recipe.soup or SoupKeys()).dtype,
        models=[weighted_model(name, 1.0) for name in names],
        parameters=MergekitParameters(normalize=True),
    )


def mix_config(recipe: MergeFile) -> MergekitKeys:
    """mergekit's configuration under `merge:`, with stage names and local paths made absolute.

    Raises:
        UserError: it is not there, or names a model that is none.
    """
    if recipe.merge is None:
        raise UserError(f"{recipe.place('merge')}: expected a mapping of mergekit's schema, got nothing; add it")
    given = with_names_as_text(recipe.merge, recipe.place("merge"))
    names = named_models(given)
    resolved = {model: resolved_model(model, recipe, name) for model, name in names.items()}
    made = str((Path(recipe.output_dir) / "merged").resolve())
    for model, name in names.items():
        if resolved[model] == made:
            raise UserError(
                f"{recipe.place(name)}: expected a model that is there before the merge, got {model}, which the merge "
                "makes; name soup, or copy the folder and name the copy"
            )
    config = with_models(given, resolved.__getitem__)
    refuse_doubles([entry.model for entry in config.models or []], recipe, "merge.models")
    for number, part in enumerate(config.slices or []):
        sources = part.get("sources") if isinstance(part, dict) else None
        models = [source.get("model") for source in sources or [] if isinstance(source, dict)]
        refuse_doubles(models, recipe, f"merge.slices.{number}.sources")
    return config


def refuse_doubles(models: list[Any], recipe: MergeFile, key: str) -> None:
    """Refuse a model that is averaged with itself; raises UserError naming its second place."""
    for number, model in enumerate(models):
        if model in models[:number]:
            raise UserError(
                f"{recipe.place(f'{key}.{number}')}: expected every model once, got {model} again; name it once, with "
                "the sum of its weights"
            )


def _merge_stage(recipe: MergeFile, name: str, config: MergekitKeys, where: str) -> Stage:
    """The output folder of a merge, its inputs the models by their content and in their order."""
    run = Path(recipe.output_dir)
    inputs: dict[str, str] = {}
    numbers: dict[str, str] = {}
    reads: list[tuple[str, Path]] = []
    for number, (model, key) in enumerate(named_models(config).items()):
        place = f"{where}.members" if name == "soup" else recipe.place(key)
        parts = [model] if Path(model).exists() else model.split("+")
        hashes = [model_hash(*_revised(part, place)) for part in parts]
        inputs[f"model {number} {model_label(model, run)}"] = hashes[0] if len(hashes) == 1 else hash_value(hashes)
        numbers[model] = f"model {number}"
        reads += ((place, Path(part)) for part in parts)
    # By number, so that a run folder that was moved is still up to date.
    numbered = with_models(config, numbers.__getitem__).given_values()
    if name == "merged":
        numbered |= recipe.beside_merge()
    own = ("soup",) if name == "soup" else ("merge", *BESIDE_MERGE, *(("soup", "one_pass") if recipe.one_pass else ()))
    return Stage(name, run / name, numbered, inputs, arguments=folder_arguments(recipe, own), reads=reads)


def same_models(inputs: Mapping[str, str]) -> Iterator[str]:
    """A line for models of a merge, or members of a soup, that are one and the same by their content.

    Args:
        inputs: hashes by label, as a merge's stage has them.
    """
    by_hash: dict[str, list[str]] = {}
    for label, digest in inputs.items():
        by_hash.setdefault(digest, []).append(label.split(" ", 2)[-1])
    for names in by_hash.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} are copies of one model, which counts {len(names)} times"


def folder_arguments(recipe: MergeFile, keys: Sequence[str]) -> list[str]:
    """The words of the command line that decide the one folder of a merge file that these keys ask for."""
    return deciding_arguments(recipe, lambda name: name.partition(".")[0] in keys)


def _revised(model: str, where: str) -> tuple[str, str, str | None]:
    """A model's id or folder, where it is named, and the revision behind its @."""
    name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    return name, where, revision or None
