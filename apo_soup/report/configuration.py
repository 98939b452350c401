"""The page's configuration: in what the members differ; settings, commands and versions that made the run, folded."""

import json
from typing import Any

from apo_soup.config.marked import marked_names
from apo_soup.report.blocks import Folded, Listing, PageBlock, PageTable, Prose, Section, TableCell, cells
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.machine_paths import machine_places, without_path_values, without_paths
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.secrets import redacted


def settings_section(run: RunFiles) -> Section:
    """What tells the soup's members apart; and, folded, the settings of all stages, and what they ran with."""
    if not run.manifests:
        return Section("Settings")
    return Section("Settings", [*_differences(run), Folded("Settings of each stage", _settings(run)), *_versions(run)])


def _differences(run: RunFiles) -> list[PageBlock]:
    configs = {n: flat_settings(_shown(run.manifests[n]["config"])) for n in run.members if n in run.manifests}
    if len(configs) < 2:
        return []
    names = list(dict.fromkeys(name for config in configs.values() for name in config))
    rows = []
    for name in names:
        values = [config.get(name, "-") for config in configs.values()]
        if len(set(values)) > 1:
            rows.append([TableCell(name), *cells(*values)])
    if not rows:
        return [Prose(f"The {len(configs)} members have the same settings.")]
    return [PageTable(cells("members differ in", *configs), rows)]


def flat_settings(config: dict[str, Any], before: str = "") -> dict[str, str]:
    """Settings by dotted name; a list counts as one value.

    >>> flat_settings({"beta": 0.1, "data": {"seed": 1, "ids": ["a"]}})
    {'beta': '0.1', 'data.seed': '1', 'data.ids': '["a"]'}
    """
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _settings(run: RunFiles) -> list[PageBlock]:
    """The main settings of every stage in one table, and all of them below."""
    rows, whole = [], []
    for stage, manifest in run.manifests.items():
        config = _shown(manifest["config"])
        given = [name for name in marked_names("main") if config.get(name) not in (None, {}, [])]
        main = "; ".join(f"{name} {config[name]}" for name in given)
        rows.append(cells(stage, main or "-", without_paths(manifest["command"], machine_places(run.folder))))
        whole.append(Folded(f"{stage}, all", [Listing(json.dumps(config, indent=1, sort_keys=True))]))
    return [PageTable(cells("stage", "main settings", "command"), rows, prose=True), *whole]


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    """A manifest's configuration without secrets and places of this machine."""
    return dict(without_path_values(redacted(config)))


def argument_notes(run: RunFiles) -> list[str]:
    """A line for each stage that was made with arguments of the command line beside its file.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    measured = [run.folder / "sweep", *sorted((run.folder / "evals").glob("[!.]*"))]
    manifests = [*run.manifests.items(), *((m["stage"], m) for m in map(read_manifest, measured) if m)]
    made = [(name, arguments_of(manifest)) for name, manifest in manifests]
    places = machine_places(run.folder)
    return [without_paths(arguments_told([name], a, "its file"), places) for name, a in made if a]


def _versions(run: RunFiles) -> list[PageBlock]:
    """Package versions and commit of the run's last stage."""
    last = list(run.manifests.values())[-1]
    table = PageTable(cells("package", "version"), [cells(*pair) for pair in last["versions"].items()])
    commit = Prose(f"Commit {last['git_commit'] or 'not known'}.")
    return [Folded("Versions", [table, commit])]
