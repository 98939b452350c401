"""The licence of a model and its languages, as its own card names them. No network is asked: a merge of local models
waits for none.
"""

import contextlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from apo_soup.errors import first_line
from apo_soup.progress import say
from apo_soup.runs.lineage import short_model_name
from apo_soup.runs.markdown import plain_markdown
from apo_soup.runs.sources import HUB_ID, is_local


def licence_of(model: str) -> str | None:
    """The licence that a model's own card names, from its folder or the cache of the Hub's files; None elsewhere, and
    with a line where the card cannot be read.

    Stages that load a model from the Hub put its card into the cache (`cache_card`).
    """
    licence = card_head(model).get("license")
    return licence if isinstance(licence, str) else None


def languages_of(model: str) -> list[str]:
    """The languages that a model's own card names; none where it names none, or is not here."""
    named = card_head(model).get("language")
    return [str(one) for one in (named if isinstance(named, list) else [named]) if one]


@cache
def card_head(model: str) -> dict[str, Any]:
    """The metadata of a model's own card; nothing where there is no card, and with a line where it cannot be read."""
    if Path(model).is_dir():
        card: Path | None = Path(model) / "README.md"
    elif HUB_ID.fullmatch(model):
        name, _, revision = model.partition("@")
        card = cached_card(name, revision)
    else:
        return {}
    try:
        text = card.read_text(encoding="utf-8") if card and card.is_file() else ""
        block = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        metadata = yaml.safe_load(block[1]) if block else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        say(f"note: {card} cannot be read ({first_line(error)}), so the licence of {model} is not known")
        return {}
    return metadata if isinstance(metadata, dict) else {}


def cached_card(name: str, revision: str) -> Path | None:
    """The card of a model of the Hub in the local cache: that of a revision, or the newest there. Models that were
    fetched by their commit have no branch's name in the cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    file = try_to_load_from_cache(name, "README.md", revision=revision or None)
    if isinstance(file, str):
        return Path(file)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots"
    cards = sorted(folder.glob("*/README.md"), key=lambda card: card.parent.stat().st_mtime)
    return cards[-1] if cards else None


def cache_card(model: str, revision: str | None) -> None:
    """Fetch the card of a model of the Hub into the local cache, where `licence_of` finds it; a local one has its own.

    Without a network, or where the model has no card, there is nothing to cache.
    """
    if is_local(model):
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError

    with contextlib.suppress(HTTPError, OSError):
        hf_hub_download(model, "README.md", revision=revision)


def licence_sentence(licence: str | None, roots: list[str]) -> str:
    """What is known of the licence: that of the models at the end of the line, one by one."""
    parents = [
        f"{plain_markdown(short_model_name(root))}: {plain_markdown(licence_of(root) or 'not told by its card')}"
        for root in roots
    ]
    if not parents:
        return "The models that this one comes from are not known here."
    own = (
        f"`{plain_markdown(licence)}`, that of the parents"
        if licence and licence != "other"
        else "See those of the parents"
    )
    return f"{own} ({'; '.join(parents)}). The data may add terms of its own."
