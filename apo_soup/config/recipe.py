"""Old names, while the rooms move to the typed files. Gone when they have."""

from typing import Any

from apo_soup.config.command_line import arguments
from apo_soup.config.load import load
from apo_soup.config.stage_file import StageFile as Recipe
from apo_soup.config.yaml_lines import read_yaml


def hub_keys(source: dict[str, Any]) -> list[str]:
    return [k for k in ("config", "split", "revision", "streaming") if source.get(k) not in (None, "train", False)]


__all__ = ["Recipe", "arguments", "hub_keys", "load", "read_yaml"]
