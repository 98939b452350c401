"""The page's configuration: settings, commands and versions that made the run."""

import json
from pathlib import Path

from apo_soup.config.marked import marked_names
from apo_soup.report.html import esc, html_table
from apo_soup.report.run_files import stage_manifests
from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.secrets import redacted


def configuration_section(run: Path) -> str:
    """The settings of every stage in one table, and all of them below.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    rows = []
    for stage, manifest in stage_manifests(run):
        config = redacted(manifest["config"])
        given = [name for name in marked_names("main") if config.get(name) not in (None, {}, [])]
        main = "".join(f"{esc(name)} {esc(config[name])}<br>" for name in given)
        whole = f"<pre>{esc(json.dumps(config, indent=1, sort_keys=True))}</pre>"
        resolved = f"<details><summary>all</summary>{whole}</details>"
        rows.append([f"<b>{esc(stage)}</b>", main or "-", resolved, f"<code>{esc(manifest['command'])}</code>"])
    if not rows:
        return ""
    return html_table(["stage", "main settings", "resolved", "command"], rows, prose=True)


def arguments_lines(run: Path) -> str:
    """A line for each stage that was made with arguments of the command line beside its file.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    measured = [run / "sweep", *sorted((run / "evals").glob("[!.]*"))]
    manifests = [*stage_manifests(run), *((m["stage"], m) for m in map(read_manifest, measured) if m)]
    made = [(name, arguments_of(manifest)) for name, manifest in manifests]
    lines = [arguments_told([name], arguments, "its file") for name, arguments in made if arguments]
    return "".join(f"<p><b>Note: {esc(line)}.</b></p>" for line in lines)


def versions_section(run: Path) -> str:
    """Package versions and commit of the run's last stage.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    manifests = stage_manifests(run)
    if not manifests:
        return ""
    last = manifests[-1][1]
    rows = [[esc(k), esc(v)] for k, v in last["versions"].items()]
    return html_table(["package", "version"], rows) + f"<p>Commit <code>{esc(last['git_commit'])}</code>.</p>"
