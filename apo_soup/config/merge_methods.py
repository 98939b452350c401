"""mergekit's merge methods and the keys of its schema: what a merge file can be held to without importing mergekit.

A test compares the tables with the installed release.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apo_soup.config.in_words import as_written, said_again
from apo_soup.config.keys import is_finite
from apo_soup.config.nearest import nearest
from apo_soup.config.stage_file import Fault

# Parameters that mergekit reads for every method.
COMMON_PARAMETERS = frozenset({"scale", "int8_mask"})


@dataclass(frozen=True)
class MergeMethod:
    """A method's parameters, and whether it starts from a base model."""

    parameters: frozenset[str]
    needs_base: bool = True


def _method(parameters: str = "", needs_base: bool = True) -> MergeMethod:
    return MergeMethod(frozenset(parameters.split()), needs_base)


_TASK = "density int8_mask lambda normalize rescale weight"
METHODS = {
    "arcee_fusion": _method(),
    "breadcrumbs": _method(f"{_TASK} gamma"),
    "breadcrumbs_ties": _method(f"{_TASK} gamma"),
    "dare_linear": _method(_TASK),
    "dare_ties": _method(_TASK),
    "della": _method(f"{_TASK} epsilon"),
    "della_linear": _method(f"{_TASK} epsilon"),
    "karcher": _method("max_iter tol", needs_base=False),
    "linear": _method("normalize weight", needs_base=False),
    "model_stock": _method("filter_wise"),
    "multislerp": _method("eps normalize_weights weight", needs_base=False),
    "nearswap": _method("t"),
    "nuslerp": _method("nuslerp_flatten nuslerp_row_wise weight", needs_base=False),
    "passthrough": _method("scale", needs_base=False),
    "ram": _method("epsilon"),
    "ramplus_tl": _method("alpha epsilon r"),
    "sce": _method("int8_mask select_topk"),
    "slerp": _method("t"),
    "task_arithmetic": _method(_TASK),
    "ties": _method(_TASK),
}
MERGE_KEYS = (
    "base_model", "chat_template", "dtype", "merge_method", "models", "modules", "out_dtype", "parameters", "slices",
    "tokenizer", "tokenizer_source",
)  # fmt: skip
SLICE_KEYS = ("base_model", "parameters", "residual_weight", "sources")
SLICE_SOURCE_KEYS = ("layer_range", "model", "parameters")
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
    known = COMMON_PARAMETERS.union(*(each.parameters for each in METHODS.values()))
    for place, parameters in parameter_tables(given):
        for parameter, value in parameters.items():
            if parameter not in known:
                way = nearest(parameter, sorted(known)) or "remove it"
                own = ", ".join(sorted(method.parameters)) or "none"
                told = f"expected those of {name} ({own}), got {said_again(parameter)}"
                yield Fault(place, f"{told}, which no method of mergekit's has; {way}")
            elif not _is_setting(value):
                told = "expected a number, a list of numbers over the layers, or mappings with value, got "
                yield Fault(f"{place}.{parameter}", f"{told}{as_written(value)}; write one")


def unused_parameters(given: dict[str, Any]) -> list[str]:
    """The parameters of a merge that its method lacks and another has, by name: mergekit passes over them, and people
    leave them in when they change the method.
    """
    used = METHODS[given["merge_method"]].parameters | COMMON_PARAMETERS
    return sorted({name for _, parameters in parameter_tables(given) for name in parameters} - used)


def parameter_tables(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping below a key `parameters`, wherever it stands, with its dotted name."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        inner = f"{place}.{name}" if place else str(name)
        if name == "parameters" and isinstance(value, dict):
            yield inner, value
        else:
            yield from parameter_tables(value, inner)


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
    yield from _unknown("tokenizer", given.get("tokenizer"), TOKENIZER_KEYS)
    yield from _unknown_in_slices("slices", given.get("slices"))
    modules = given.get("modules")
    for name, module in modules.items() if isinstance(modules, dict) else ():
        yield from _unknown(f"modules.{name}", module, MODULE_KEYS)
        if isinstance(module, dict):
            yield from _unknown_in_slices(f"modules.{name}.slices", module.get("slices"))


def _unknown_in_slices(place: str, slices: Any) -> Iterator[Fault]:
    for number, part in enumerate(slices if isinstance(slices, list) else ()):
        yield from _unknown(f"{place}.{number}", part, SLICE_KEYS)
        sources = part.get("sources") if isinstance(part, dict) else None
        for index, source in enumerate(sources if isinstance(sources, list) else ()):
            yield from _unknown(f"{place}.{number}.sources.{index}", source, SLICE_SOURCE_KEYS)


def _unknown(place: str, node: Any, known: tuple[str, ...]) -> Iterator[Fault]:
    for name in node if isinstance(node, dict) else ():
        if name not in known:
            way = nearest(name, known) or "remove it"
            told = f"expected a key of mergekit's ({', '.join(known)}), got {said_again(name)}; {way}"
            yield Fault(f"{place}.{name}" if place else str(name), told)
