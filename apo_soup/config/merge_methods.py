"""mergekit's merge methods and the keys of its schema: what a merge file can be held to without importing mergekit.

A test compares the tables with the installed release.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apo_soup.config.in_words import as_written, said_again
from apo_soup.config.keys import is_finite
from apo_soup.config.nearest import nearest
from apo_soup.config.stage_file import Fault

# Parameters that people leave in whatever the method is, for they concern memory alone.
COMMON_PARAMETERS = frozenset({"int8_mask"})
# Parameters of which each model has its own value, wherever a method has them.
OF_MODELS = frozenset({"density", "gamma", "scale", "weight"})
# A text that is a number.
NUMBER_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
# Where a model's own parameters stand.
BELOW_A_MODEL = re.compile(r"(.*\.)?(models|sources)\.\d+\.parameters")


@dataclass(frozen=True)
class MergeMethod:
    """A method's parameters, and whether it starts from a base model; the parameter that it cannot do without; the
    fewest and the most models that it takes, the base among them; the parameters that a model may have for itself.
    """

    parameters: frozenset[str]
    needs_base: bool = True
    required: str | None = None
    fewest: int = 1
    most: int | None = None
    of_models: frozenset[str] = frozenset()


def _method(
    parameters: str = "",
    needs_base: bool = True,
    required: str | None = None,
    fewest: int = 1,
    most: int | None = None,
    of_models: frozenset[str] = OF_MODELS,
) -> MergeMethod:
    names = frozenset(parameters.split())
    return MergeMethod(names, needs_base, required, fewest, most, names & of_models)


_TASK = "density int8_mask lambda normalize rescale weight"
METHODS = {
    "arcee_fusion": _method(fewest=2, most=2),
    "breadcrumbs": _method(f"{_TASK} gamma", required="weight"),
    "breadcrumbs_ties": _method(f"{_TASK} gamma", required="weight"),
    "dare_linear": _method(_TASK, required="weight"),
    "dare_ties": _method(_TASK, required="weight"),
    "della": _method(f"{_TASK} epsilon", required="weight", of_models=OF_MODELS | {"epsilon"}),
    "della_linear": _method(f"{_TASK} epsilon", required="weight", of_models=OF_MODELS | {"epsilon"}),
    "karcher": _method("max_iter tol", needs_base=False),
    "linear": _method("normalize weight", needs_base=False, required="weight"),
    "model_stock": _method("filter_wise", fewest=3),
    "multislerp": _method("eps normalize_weights weight", needs_base=False, required="weight"),
    "nearswap": _method("t", required="t", fewest=2, most=2),
    "nuslerp": _method("nuslerp_flatten nuslerp_row_wise weight", needs_base=False, required="weight"),
    "passthrough": _method("scale", needs_base=False, most=1),
    "ram": _method("epsilon"),
    "ramplus_tl": _method("alpha epsilon r"),
    "sce": _method("int8_mask select_topk"),
    "slerp": _method("t", required="t", fewest=2, most=2),
    "task_arithmetic": _method(_TASK, required="weight"),
    "ties": _method(_TASK, required="weight"),
}
MERGE_KEYS = (
    "base_model", "chat_template", "dtype", "merge_method", "models", "modules", "out_dtype", "parameters", "slices",
    "tokenizer", "tokenizer_source",
)  # fmt: skip
SLICE_KEYS = ("base_model", "parameters", "residual_weight", "sources")
SLICE_SOURCE_KEYS = ("layer_range", "model", "parameters")
MODEL_ENTRY_KEYS = ("model", "parameters")
MODULE_KEYS = ("models", "parameters", "slices")
TOKENIZER_KEYS = ("pad_to_multiple_of", "source", "tokens")


def merge_faults(given: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with a merge in mergekit's schema, as far as its names and numbers go.

    Args:
        given: the keys of the file, with the method.
    """
    yield from _unknown_keys(given)
    name = given.get("merge_method")
    method = METHODS.get(str(name))
    if method is None:
        way = nearest(name, METHODS) or f"take one of {', '.join(METHODS)}"
        yield Fault("merge_method", f"expected a method of mergekit's, got {said_again(name)}; {way}")
        return
    whole = not given.get("slices") and not given.get("modules")
    if method.needs_base and whole and not given.get("base_model"):
        told = f"expected the model that {name} starts from, got none; add base_model"
        yield Fault("base_model", told, ("merge_method",))
    if whole and not given.get("models"):
        yield Fault("models", "expected models to merge, or slices, got none; list two or more")
    elif whole:
        yield from _whole_faults(str(name), method, given)
    ways = [key for key in ("models", "slices", "modules") if given.get(key)]
    if len(ways) > 1:
        yield Fault(ways[-1], f"expected one of models, slices and modules, got {' and '.join(ways)}; keep one of them")
    known = COMMON_PARAMETERS.union(*(each.parameters for each in METHODS.values()))
    for place, parameters in parameter_tables(given):
        for parameter, value in parameters.items():
            if parameter not in known:
                way = _home(parameter, value) or nearest(parameter, sorted(known)) or "remove it"
                own = ", ".join(sorted(method.parameters)) or "none"
                told = f"expected those of {name} ({own}), got {said_again(parameter)}"
                yield Fault(place, f"{told}, which no method of mergekit's has; {way}")
            elif not _is_setting(value):
                told = "expected a number, a list of numbers over the layers, or mappings with value, got "
                yield Fault(f"{place}.{parameter}", f"{told}{as_written(value)}; write one")
            elif parameter == "density" and not all(0 <= number <= 1 for number in _numbers(value)):
                told = f"expected shares of a model's changes, from 0 to 1, got {as_written(value)}"
                yield Fault(f"{place}.{parameter}", f"{told}; correct it")
            elif BELOW_A_MODEL.fullmatch(place) and parameter in method.parameters - method.of_models:
                told = f"expected {parameter} once for all models, as {name} takes it, got it below one of them, where "
                yield Fault(f"{place}.{parameter}", f"{told}nothing reads it; move it below parameters of the merge")


def _whole_faults(name: str, method: MergeMethod, given: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with a merge of whole models: their number, and a parameter that is not there."""
    models, base = given["models"], given.get("base_model")
    entries = [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []
    names = [entry.get("model") for entry in entries]
    count = len(entries) + (base is not None and base not in names)
    bounds = f"{method.fewest}" if method.fewest == method.most else f"{method.fewest} or more"
    if (method.most is not None and method.most < count) or count < method.fewest:
        bounds = f"{method.most}" if method.most is not None else bounds
        told = f"expected {bounds} for {name}, the base model among them, got {count}"
        yield Fault("models", f"{told}; change the list, or the method", ("merge_method", "base_model"))
    shared = given.get("parameters")
    if method.required is None or (isinstance(shared, dict) and shared.get(method.required) is not None):
        return
    if method.required not in method.of_models:
        told = f"expected {method.required}, which {name} needs, got none; write it below parameters of the merge"
        yield Fault("parameters", told, ("merge_method",))
        return
    # A linear merge counts its base among its models.
    own = [*enumerate(entries)]
    for number, entry in own:
        parameters = entry.get("parameters")
        lacks = not isinstance(parameters, dict) or parameters.get(method.required) is None
        if lacks and (name == "linear" or entry.get("model") != base):
            told = f"expected a {method.required} for every model, got none for {as_written(entry.get('model'))}"
            yield Fault(f"models.{number}", f"{told}; write it below its parameters", ("merge_method", "parameters"))
    if name == "linear" and base is not None and base not in names:
        told = f"expected a model of the list, since linear has no base of its own, got {as_written(base)}"
        yield Fault("base_model", f"{told}; leave it out, or list the model with its weight", ("merge_method",))


def unused_parameters(given: dict[str, Any]) -> list[str]:
    """The parameters of a merge that its method lacks and another has, by name: mergekit passes over them, and people
    leave them in when they change the method.
    """
    used = METHODS[given["merge_method"]].parameters | COMMON_PARAMETERS
    return sorted({name for _, parameters in parameter_tables(given) for name in parameters} - used)


def unused_by_base(given: dict[str, Any]) -> list[str]:
    """The parameters that a merge gives its base model, by name, and its method has for the others alone: what a model
    differs from has no weight of its own.
    """
    method, base = METHODS[given["merge_method"]], given.get("base_model")
    if base is None or given["merge_method"] in ("linear", "passthrough"):
        return []
    entries = [entry for entry in given.get("models") or [] if entry.get("model") == base]
    return sorted({name for entry in entries for name in entry.get("parameters") or {}} & method.of_models)


def filters(given: dict[str, Any]) -> list[str]:
    """The filters of a merge's parameters, each once: parts of tensors' names that a value is for."""
    found = (value for _, parameters in parameter_tables(given) for value in parameters.values())
    settings = (setting for value in found for setting in (value if isinstance(value, list) else [value]))
    names = (setting.get("filter") for setting in settings if isinstance(setting, dict))
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name != "*"))


def parameter_tables(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping below a key `parameters`, wherever it stands, with its dotted name."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        inner = f"{place}.{name}" if place else str(name)
        if name == "parameters" and isinstance(value, dict):
            yield inner, value
        else:
            yield from parameter_tables(value, inner)


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of a parameter: its own, those of a gradient, and those by tensor."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers(each)
    else:
        yield from _numbers(value["value"]) if isinstance(value, dict) else [value]


def _is_setting(value: Any) -> bool:
    """Whether mergekit reads a value as a parameter: a number or flag, a gradient over layers, or such by tensor."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_is_setting(each) for each in value)
    if isinstance(value, dict):
        return "value" in value and _is_setting(value["value"])
    return isinstance(value, bool) or is_finite(value)


def _unknown_keys(given: dict[str, Any]) -> Iterator[Fault]:
    """Keys that mergekit's schema has no field for: it would drop them in silence."""
    yield from _unknown("", given, MERGE_KEYS)
    yield from _unknown_in_models("models", given.get("models"))
    yield from _unknown("tokenizer", given.get("tokenizer"), TOKENIZER_KEYS)
    yield from _unknown_in_slices("slices", given.get("slices"))
    modules = given.get("modules")
    for name, module in modules.items() if isinstance(modules, dict) else ():
        yield from _unknown(f"modules.{name}", module, MODULE_KEYS)
        if isinstance(module, dict):
            yield from _unknown_in_models(f"modules.{name}.models", module.get("models"))
            yield from _unknown_in_slices(f"modules.{name}.slices", module.get("slices"))


def _unknown_in_models(place: str, models: Any) -> Iterator[Fault]:
    for number, entry in enumerate(models if isinstance(models, list) else ()):
        yield from _unknown(f"{place}.{number}", entry, MODEL_ENTRY_KEYS)


def _unknown_in_slices(place: str, slices: Any) -> Iterator[Fault]:
    for number, part in enumerate(slices if isinstance(slices, list) else ()):
        yield from _unknown(f"{place}.{number}", part, SLICE_KEYS)
        sources = part.get("sources") if isinstance(part, dict) else None
        for index, source in enumerate(sources if isinstance(sources, list) else ()):
            yield from _unknown(f"{place}.{number}.sources.{index}", source, SLICE_SOURCE_KEYS)


def _unknown(place: str, node: Any, known: tuple[str, ...]) -> Iterator[Fault]:
    for name, value in node.items() if isinstance(node, dict) else ():
        if name not in known:
            way = _way(name, value, known) or nearest(name, known) or "remove it"
            told = f"expected a key of mergekit's ({', '.join(known)}), got {said_again(name)}; {way}"
            yield Fault(f"{place}.{name}" if place else str(name), told)


def _way(name: Any, value: Any, known: tuple[str, ...]) -> str:
    """What to do about a key that stands where mergekit does not look for it; no text where it is none of those."""
    if name == "name" and known == MERGE_KEYS:
        return "it names one of several merges in a file for mergekit-multi, and this is the only one: remove it"
    if name == "revision" and "model" in known:
        return f"write it behind the model's name: OWNER/NAME@{value}"
    if name == "layer_range" and known == MODEL_ENTRY_KEYS:
        return "layers are chosen below slices; for all layers remove it"
    of_methods = frozenset[str]().union(*(method.parameters for method in METHODS.values()))
    return "write it below parameters there" if name in of_methods and "parameters" in known else ""


def _home(parameter: Any, value: Any) -> str:
    """Where a setting belongs that is no parameter; no text where it is none."""
    if parameter == "random_seed":
        return f"write options: {{random_seed: {as_written(value)}}} beside merge"
    if parameter == "parameters":
        return "write what stands below it in its place"
    return f"write {parameter} beside parameters" if parameter in MERGE_KEYS else ""


def with_numbers(node: Any) -> Any:
    """A merge in mergekit's schema whose parameters are numbers where they are written as texts of numbers: YAML reads
    1e-5 as a text, and mergekit takes it.
    """
    if isinstance(node, dict):
        return {k: _as_number(v) if k == "parameters" else with_numbers(v) for k, v in node.items()}
    return [with_numbers(value) for value in node] if isinstance(node, list) else node


def _as_number(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v if k == "filter" else _as_number(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_number(each) for each in value]
    return float(value) if isinstance(value, str) and NUMBER_TEXT.fullmatch(value.strip()) else value
