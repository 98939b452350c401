"""The ids of the Hub that a recipe names, asked for all at once."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from apo_soup.models.adapter_base import way_from_hub

SECONDS_TO_ASK = 3.0
AT_ONCE = 16


@dataclass(frozen=True)
class HubId:
    """A model or dataset of the Hub, and `FILE:LINE: KEY` of what names it; `trained` is a model that a training begins
    with.
    """

    kind: str
    name: str
    revision: str | None
    place: str
    trained: bool = False


def _fault_of_files(model: HubId, files: set[str]) -> str | None:
    """What is wrong with the files of a model of the Hub; None where they are a model's, or an adapter's where one may
    stand.
    """
    if "config.json" in files:
        return None
    if "adapter_config.json" in files:
        told = f"expected a whole model, or the folder of an adapter, got {model.name}, which is an adapter of the Hub"
        return f"{told}; {way_from_hub(model.name)}" if model.trained else None
    if any(file.lower().endswith(".gguf") for file in files):
        return (
            f"expected a model with config.json, got {model.name}, whose GGUF files are for llama.cpp and cannot be "
            "loaded here; name the model that they were made of"
        )
    return f"expected a model with config.json, got {model.name}, which has none; name another"


@dataclass(frozen=True)
class HubAnswers:
    """What the Hub said: a sentence for each id that it does not have, and the names that it was not heard about."""

    problems: list[str]
    unseen: list[str]


def ask_hub(ids: Iterable[HubId]) -> HubAnswers:
    """Ask the Hub for models and datasets, each once, for three seconds together."""
    named = list(ids)
    answers: dict[tuple[str, str, str | None], Future[Any]] = {}
    if named and not constants.HF_HUB_OFFLINE:
        api, pool = HfApi(), ThreadPoolExecutor(AT_ONCE)
        for one in named:
            key = (one.kind, one.name, one.revision)
            if key not in answers:
                answers[key] = pool.submit(
                    api.repo_info, one.name, revision=one.revision, repo_type=one.kind, timeout=SECONDS_TO_ASK
                )
        wait(answers.values(), SECONDS_TO_ASK)
        pool.shutdown(wait=False, cancel_futures=True)
    problems, unseen = [], []
    for one in named:
        answer = answers.get((one.kind, one.name, one.revision))
        error = answer.exception() if answer is not None and answer.done() and not answer.cancelled() else None
        if answer is None or not answer.done() or answer.cancelled():
            unseen.append(one.name)
        elif isinstance(error, RevisionNotFoundError):
            told = f"expected a revision of {one.name} on the Hub, got {one.revision}, which it does not have"
            problems.append(f"{one.place}: {told}; correct it")
        elif isinstance(error, RepositoryNotFoundError):
            told = f"expected a {one.kind} of the Hub, or a path, got {one.name}, which the Hub does not have"
            problems.append(f"{one.place}: {told}, or not for you; correct it, or log in with hf auth login")
        elif error is not None:
            unseen.append(one.name)
        elif one.kind == "model":
            fault = _fault_of_files(one, {file.rfilename for file in answer.result().siblings or ()})
            problems += [f"{one.place}: {fault}"] if fault else []
    return HubAnswers(problems, list(dict.fromkeys(unseen)))
