"""Arguments of the command line that a stage was made with beside its file, and the line that tells of them.

They are of the one command that was given them. So a later stage does not make the folder anew without them, which may
have taken days, and does not build on it unseen either.
"""

import json
import re
import shlex
from collections.abc import Callable, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from apo_soup.config.cosmetic import is_cosmetic, without_cosmetic
from apo_soup.config.renamed import RENAMED, RENAMED_IN_EVAL
from apo_soup.config.stage_file import StageFile
from apo_soup.config.yaml_lines import read_value
from apo_soup.hashing import json_text
from apo_soup.runs.secrets import groups_without_secrets, word_groups

# Before a key of a soup member, which is one of the file's own.
OF_MEMBER = re.compile(r"^members\.\d+\.")


def deciding_arguments(recipe: StageFile, of_folder: Callable[[str], bool] = lambda name: True) -> list[str]:
    """The `--key value` words of the command line that can change what the file makes, without those that hold a
    secret.

    Args:
        of_folder: whether a key, by its dotted name, can change the one folder of the file that is asked for.
    """
    fields = type(recipe).model_fields
    kept: list[str] = []
    for group in word_groups(recipe.command_words):
        first, dot, rest = group[0].removeprefix("--").partition("=")[0].partition(".")
        first = first.replace("-", "_")
        now = {**RENAMED, **RENAMED_IN_EVAL}.get(first, (first, ""))[0]
        name = f"{now}{dot}{rest}"
        own = OF_MEMBER.sub("", name)
        settled = own.partition(".")[0] in recipe.settled_elsewhere
        decides = now in fields and not is_cosmetic(own, type(recipe)) and not settled
        if decides and recipe.is_given_by_command(first + dot + rest) and of_folder(name):
            kept += groups_without_secrets(_without_cosmetic_inside(group, own, type(recipe)))
    return kept


def _without_cosmetic_inside(group: list[str], name: str, kind: type[StageFile]) -> list[str]:
    """The words of a key of that dotted name without the cosmetic keys inside the mapping, or list, that is its value;
    as they are where there are none.
    """
    flag, given, text = group[0].partition("=")
    steps: list[Any] = [0 if step.isdecimal() else step for step in name.split(".")]
    around = read_value(group[1] if len(group) > 1 else text)
    for step in reversed(steps):
        around = [around] if step == 0 else {step: around}
    left = without_cosmetic(around, kind)
    if left == around:
        return group
    shown = json.dumps(reduce(getitem, steps, left), ensure_ascii=False, default=json_text)
    return [f"{flag}={shown}"] if given else [flag, shown]


def arguments_of(manifest: dict[str, Any]) -> str | None:
    """The arguments that a folder was made with, as a person would type them; None where there were none."""
    words = manifest.get("arguments")
    return shlex.join(words) if isinstance(words, list) and words else None


def arguments_told(names: Sequence[str], arguments: str, file: str | Path) -> str:
    """The line of folders that were made with arguments: what they are, in the words that `why` and a later stage begin
    with, and report and card have.
    """
    were = "was" if len(names) == 1 else "were"
    return f"{', '.join(names)} {were} made with {arguments} on the command line, beside {file}"
