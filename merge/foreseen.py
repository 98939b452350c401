"""What a merge would refuse, as far as files and headers of the models tell that are there already.

Torch is imported where there are some, and mergekit where it reads more than an average of whole models.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from apo_soup.config.apo import ApoFile
from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.config.merge import MergeFile
from apo_soup.config.mergekit import MergekitKeys, MergekitOptions
from apo_soup.errors import UserError
from apo_soup.runs.sources import model_folder
from apo_soup.stored_json import read_json
from merge.average import LINEAR_KEYS
from merge.given_weights import check_weights
from merge.members import listed_member
from merge.mergekit_names import named_models
from merge.mergekit_schema import parsed_configuration
from merge.plan import mix_config, refuse_doubles, soup_config


def merge_problems(recipe: MergeFile, makes: Callable[[str], bool]) -> Iterator[str]:
    """A sentence for the first thing that is wrong with the soup, and with the merge, of a file.

    Args:
        makes: whether a stage of the recipe will make the model of a name, which is not there yet.
    """
    asked = {"soup": recipe.soup, "merge": recipe.merge}
    for name in (name for name, keys in asked.items() if keys is not None):
        try:
            _look(recipe, name, makes)
        except UserError as error:
            yield str(error)


def _look(recipe: MergeFile, name: str, makes: Callable[[str], bool]) -> None:
    where = recipe.place(name)
    if name == "soup":
        members = recipe.soup.members if recipe.soup else "all"
        _require_one_beginning(recipe, members)
        if not isinstance(members, list):
            return  # what apo makes
        refuse_doubles([listed_member(recipe, member).resolve() for member in members], recipe, "soup.members")
        try:
            config = soup_config(recipe, ask=False)
        except UserError:
            if any(makes(str(listed_member(recipe, member))) for member in members):
                return
            raise
    else:
        config = mix_config(recipe)
        if is_for_mergekit(recipe):
            parsed_configuration(config, recipe.options or MergekitOptions(), where)
        check_weights(config, where)
    models = {model: recipe.place(key) for model, key in named_models(config).items()}
    there = {model: Path(model) for model in models if Path(model).exists()}
    for model in there:
        if name == "merge" and not makes(model):
            model_folder(model, models[model])
    folders = [folder for folder in there.values() if (folder / "config.json").is_file()]
    if not folders:
        return
    _look_at_models(config, folders, len(folders) == len(models), where)
    if len(folders) == len(models):
        _look_at_context(recipe, folders[0], name)


def _look_at_models(config: MergekitKeys, folders: list[Path], are_all: bool, where: str) -> None:
    """Refuse models that are there and do not fit; `are_all` says whether the merge has no others."""
    from merge.alike import check_alike
    from merge.checks import check_models
    from merge.own_heads import by_head

    heads = by_head(folders, where)
    if are_all and len(heads) == 1:
        check_models(config, folders, where)
    elif config.slices is None:
        for of_head in heads:
            check_alike(of_head, where, config.names_tokens)


def _require_one_beginning(recipe: MergeFile, members: str | list[str]) -> None:
    """Refuse a soup of members that `apo.yaml` beside the file trains from several models.

    Raises:
        UserError: it does.
    """
    file = recipe.path.parent / "apo.yaml"
    trained = dict[str, ApoFile]()
    with suppress(UserError):  # which is told of that file itself
        trained = {str(m.member): m for m in member_recipes(load(file, "apo"))} if file.is_file() else {}
    listed = [name.partition("-")[0] for name in members] if isinstance(members, list) else list(trained)
    begins = {n: (trained[n].model_name_or_path, trained[n].model_revision) for n in listed if n in trained}
    first = next(iter(begins), "")
    for name, begin in begins.items():
        if begin != begins[first]:
            told = f"got member {name}, which begins with {begin[0]}, and {first} with {begins[first][0]}"
            raise UserError(
                f"{recipe.place('soup.members')}: expected members trained from one model, {told}; begin all with one, "
                "or list those of one"
            )


def is_for_mergekit(recipe: MergeFile) -> bool:
    """Whether a file asks for more than a linear average of whole models, which mergekit reads, with torch and with
    transformers' models.
    """
    config, options = recipe.merge, recipe.options
    linear = config is None or (config.merge_method == "linear" and config.model_fields_set <= LINEAR_KEYS)
    return not linear or bool(options and options.model_fields_set)


def _look_at_context(recipe: MergeFile, first: Path, name: str) -> None:
    if name == "merge" and recipe.long_context:
        from merge.complete import yarn_config

        yarn_config(
            read_json(first / "config.json", recipe.place(name)), recipe.long_context, recipe.place("long_context")
        )
