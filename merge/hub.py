"""Models of the Hub as folders, fetched before a merge, so that they are checked and completed as local ones are."""

from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import UserError, first_line
from apo_soup.runs.sources import hub_commit
from merge.mergekit_names import with_models

MODEL_PATTERNS = ["README.md", "*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py"]


def with_snapshots(config: MergekitKeys, where: str) -> MergekitKeys:
    """A mergekit configuration in which every model of the Hub is a folder of its files, fetched now.

    Raises:
        UserError: the Hub does not have a model, or cannot be reached.
    """
    return with_models(config, lambda model: hub_snapshot(model, where))


def hub_snapshot(model: str, where: str) -> str:
    """A model's folder, or `base+adapter` as two, at the commit that the manifest names; a path stays as it is.

    Raises:
        UserError: the Hub does not have it, or cannot be reached.
    """
    if Path(model).exists():
        return model
    if "+" in model:
        return "+".join(hub_snapshot(part, where) for part in model.split("+"))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    commit = hub_commit("model", name, revision or None)
    try:
        return snapshot_download(name, revision=commit, allow_patterns=MODEL_PATTERNS)
    except (HTTPError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"{where}: expected a model of the Hub, got {model}, which cannot be fetched: {first_line(error)}; correct "
            "the id, or go online"
        ) from error
