"""`dataset_name` of TRL and `dataset_mixer` of alignment-handbook's first releases, read as a `dataset_mixture`."""

import re
from typing import Any

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written

# TRL's keys of one dataset, and those of a source that they are.
OF_ONE = {"dataset_config": "config", "dataset_train_split": "split", "dataset_streaming": "streaming"}
OF_MIXER = ("dataset_splits", "dataset_configs")
# Which of these keys stand beside a key that names rows; beside the other one, what is written in their place.
_BESIDE = {"dataset_name": (*OF_ONE,), "dataset_mixer": (*OF_MIXER, "dataset_streaming")}
_IN_PLACE = {
    "dataset_config": "dataset_configs",
    "dataset_train_split": "dataset_splits",
    "dataset_splits": "dataset_train_split",
    "dataset_configs": "dataset_config",
}
TEST_SPLIT = "dataset_test_split"
# The method's name as a word of its own, which it is not in `corporate`.
_ORPO = re.compile(r"(?<![a-z0-9])orpo(?![a-z0-9])", re.IGNORECASE)
EVALUATING = ("do_eval", "eval_strategy", "eval_steps", "eval_on_start", "load_best_model_at_end")


def map_dataset_keys(given: Given) -> list[str]:
    """Put the rows that older keys name into `dataset_mixture`; each key leaves a line in `given.notes`.

    Returns:
        A sentence for each key that cannot be read, or that stands beside a key of the other project.
    """
    values = given.values
    named = [key for key in ("dataset_name", "dataset_mixer") if values.get(key) is not None]
    if not named:
        return []
    sources, problem = _sources(given, named)
    problems = [problem] if problem else []
    for key in (*named, *OF_ONE, *OF_MIXER):
        if key not in values:
            continue
        if values[key] is not None and key in (named[0], *_BESIDE[named[0]]):
            if key in given.lines:
                given.lines.setdefault("dataset_mixture", given.lines[key])
            given.notes.append(f"{given.where(key)}: {key} is read into dataset_mixture")
        elif values[key] is not None and len(named) == 1:
            (other,) = (name for name in _BESIDE if name != named[0])
            told = f"expected it beside {other}, got it beside {named[0]}"
            problems.append(f"{given.place(key)}: {told}; write {_IN_PLACE[key]}, or leave it out")
        del values[key]
    # Where they cannot be read, what they would have given hides no other mistake.
    if values.get("dataset_mixture") is None:
        values["dataset_mixture"] = {"datasets": sources or [{"id": named[0]}]}
    _drop_evaluations(given)
    return problems


def _sources(given: Given, named: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The sources of the keys that name rows, or a sentence on what is wrong with them."""
    first = named[0]
    others = [*named[1:], *(["dataset_mixture"] if given.values.get("dataset_mixture") is not None else [])]
    if others:
        both = f"{first} and {others[0]}"
        return [], f"{given.place(first)}: expected one of {both}, which name the rows, got both; keep one"
    return _of_name(given) if first == "dataset_name" else _of_mixer(given)


def _of_name(given: Given) -> tuple[list[dict[str, Any]], str]:
    """The source of TRL's keys, or a sentence on what is wrong with them."""
    name = given.values["dataset_name"]
    if not isinstance(name, str):
        return [], f"{given.place('dataset_name')}: expected an id or a path, got {as_written(name)}; write one"
    more = {ours: given.values[theirs] for theirs, ours in OF_ONE.items() if given.values.get(theirs) is not None}
    return [{"id": name, **more}], ""


def _of_mixer(given: Given) -> tuple[list[dict[str, Any]], str]:
    """The sources of alignment-handbook's keys: every training split of every dataset, with its share."""
    mixer, place = given.values["dataset_mixer"], given.place("dataset_mixer")
    if not isinstance(mixer, dict) or not mixer:
        return [], f"{place}: expected a mapping of ids and their shares, got {as_written(mixer)}; write one"
    splits = given.values.get("dataset_splits") or ["train", "test"]
    configs = given.values.get("dataset_configs") or [None] * len(mixer)
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        told = f"expected a list of splits, got {as_written(splits)}; write one"
        return [], f"{given.place('dataset_splits')}: {told}"
    if not isinstance(configs, list) or len(configs) != len(mixer):
        told = f"expected one for each of the {len(mixer)} datasets, got {as_written(configs)}; correct it"
        return [], f"{given.place('dataset_configs')}: {told}"
    training = [split for split in splits if "test" not in split]
    more = {"streaming": given.values["dataset_streaming"]} if given.values.get("dataset_streaming") is not None else {}
    sources = [
        {"id": name, **({"config": config} if config else {}), "split": split, "weight": share, **more}
        for (name, share), config in zip(mixer.items(), configs, strict=True)
        for split in training
    ]
    if not sources:
        told = f"expected a split to train on, got {', '.join(splits)}; name one"
        return [], f"{given.place('dataset_splits')}: {told}"
    return sources, ""


def _drop_evaluations(given: Given) -> None:
    """Evaluations while training take rows that are held out of the mixture, which these keys have none of."""
    values = given.values
    way = "dataset_mixture.test_split_size holds rows out, and eval.yaml measures checkpoints"
    if TEST_SPLIT in values:
        given.notes.append(f"{given.where(TEST_SPLIT)}: {TEST_SPLIT} is not read; {way}")
        del values[TEST_SPLIT]
    for key in (*EVALUATING, *(["save_strategy"] if values.get("save_strategy") == "best" else [])):
        if values.get(key) not in (None, "no", False):
            given.notes.append(f"{given.where(key)}: {key} is dropped, since no rows are held out; {way}")
            del values[key]


def orpo_problems(given: Given) -> list[str]:
    """A sentence for a file of ORPO, which has the keys of preference training and is another method."""
    if given.values.get("loss_type") is not None:
        return []
    named = [key for key in ("output_dir", "hub_model_id") if _ORPO.search(str(given.values.get(key, "")))]
    if not named and given.path.resolve().parent.name.lower() != "orpo":
        return []
    place = given.place(named[0]) if named else str(given.path)
    told = (
        "expected a file of preference training against a reference model, got one of ORPO, another method, without a"
    )
    return [f"{place}: {told} reference; give loss_type, such as apo_zero, to train these pairs here"]
