"""The page's lineage: every model with its content hash, and an arrow for each model that another was made from."""

from dataclasses import dataclass
from typing import Any

from apo_soup.pages.graph import Arrow, Box, graph_across, graph_down
from apo_soup.report.blocks import Folded, Graph, PageTable, Prose, Section, TableCell, cells
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.lineage import short_model_name
from apo_soup.runs.results import PIPELINE, pipeline_order

# Members that are drawn each by itself; more of them share a box.
_MEMBERS_DRAWN = 4


@dataclass(frozen=True)
class Parent:
    """A model that a stage was made from: its name, its content hash then, and its weight in a merge."""

    name: str
    hash: str
    weight: float | None = None


@dataclass(frozen=True)
class RunLineage:
    """Content hashes of the run's models (`hub:...` for one of the Hub, empty where none is known), and the parents of
    each.
    """

    hashes: dict[str, str]
    parents: dict[str, list[Parent]]

    @property
    def others(self) -> list[str]:
        """A sentence for each stage that was made from another model than the one of that name that was evaluated."""
        return [
            f"{name} was made from another {parent.name} (model {parent.hash[:10]}) than the one evaluated here "
            f"(model {self.hashes[parent.name][:10]})."
            for name, parents in self.parents.items()
            for parent in parents
            if self.hashes[parent.name] != parent.hash
        ]


def lineage_of_run(run: RunFiles) -> RunLineage:
    """The models of a run by manifests and results.

    A stage's manifest holds the content hash of each model that it read, an evaluation that of its model: both hash the
    same files in the same way, so equal hashes are the same model.
    """
    hashes = {c.name: c.results["model_hash"] for c in run.checkpoints if c.name.partition("/")[0] in PIPELINE}
    parents: dict[str, list[Parent]] = {}
    for name, manifest in run.manifests.items():
        if name.partition("/")[0] in PIPELINE:
            parents[name] = _parents_of(manifest, hashes)
    read = {parent.name: parent.hash for found in parents.values() for parent in found}
    known = read | hashes
    return RunLineage({n: known.get(n, "") for n in sorted({*known, *parents}, key=pipeline_order)}, parents)


def _parents_of(manifest: dict[str, Any], hashes: dict[str, str]) -> list[Parent]:
    given = (manifest.get("ran_with") or {}).get("model_name_or_path")
    weights = {
        entry["model"]: entry["parameters"]["weight"]
        for entry in manifest["config"].get("models") or []
        if isinstance(entry, dict) and isinstance((entry.get("parameters") or {}).get("weight"), (int, float))
    }
    found = []
    for label, value in manifest["inputs"].items():
        first, _, rest = label.partition(" ")
        if first != "model":
            continue
        number, _, name = rest.partition(" ")
        same = next((known for known, hash_there in hashes.items() if hash_there == value), None)
        named = _stage_named(name or str(given or "")) or short_model_name(name or str(given or "base"))
        found.append(Parent(same or named, value, weights.get(f"model {number}")))
    return found


def _stage_named(path: str) -> str:
    """The stage whose folder a path ends in, empty for none."""
    *_, before, last = ["", "", *path.rstrip("/").split("/")]
    if before == "apo":
        return f"apo/{last}"
    return last if last in PIPELINE else ""


def lineage_section(run: RunFiles) -> Section:
    """The drawing, what does not fit in it, and all hashes whole."""
    lineage = lineage_of_run(run)
    if not lineage.hashes:
        return Section("Lineage")
    boxes, arrows = boxes_and_arrows(lineage, run.last)
    told = "models and what they were made from"
    graph = Graph(graph_across(boxes, arrows, told, 140, 64), graph_down(boxes, arrows, told, 350, 150, 30))
    rows = [
        [
            TableCell(name),
            TableCell(found),
            TableCell(", ".join(_parent_text(p) for p in lineage.parents.get(name, [])) or "-"),
        ]
        for name, found in lineage.hashes.items()
    ]
    whole = PageTable(cells("model", "content hash", "made from"), rows, prose=True)
    note = "Below each name the beginning of the model's content hash; at an arrow into a merge its weight."
    return Section("Lineage", [graph, *map(Prose, [note, *lineage.others]), Folded("All hashes", [whole])])


def boxes_and_arrows(lineage: RunLineage, last: str | None) -> tuple[list[Box], list[Arrow]]:
    """A box a model, members in one where there are many, each a level below the lowest of its parents."""
    members = [name for name in lineage.hashes if name.startswith("apo/")]
    together = f"apo, {len(members)} models" if len(members) > _MEMBERS_DRAWN else None
    drawn = {name: together if together and name in members else name for name in lineage.hashes}
    pairs = {
        (drawn[parent.name] or "", drawn[name] or ""): parent.weight
        for name, parents in lineage.parents.items()
        for parent in parents
    }
    weights: dict[str, set[float | None]] = {}
    for (_, end), weight in pairs.items():
        weights.setdefault(end, set()).add(weight)
    levels = _levels_of(list(dict.fromkeys(d or "" for d in drawn.values())), list(pairs))
    boxes = [
        Box(name, level, [("" if name == together else short_hash(lineage.hashes[name]), "")], "last" * (name == last))
        for name, level in levels.items()
    ]
    # Equal weights say nothing: those of a plain soup.
    words = {pair: f"{w:g}" if w is not None and len(weights[pair[1]]) > 1 else "" for pair, w in pairs.items()}
    return boxes, [Arrow(*pair, word) for pair, word in words.items()]


def _levels_of(names: list[str], pairs: list[tuple[str, str]]) -> dict[str, int]:
    """How many arrows lead to a name at most; a circle, which only odd files make, ends after as many as there are."""
    levels = dict.fromkeys(names, 0)
    for _ in names:
        for start, end in pairs:
            levels[end] = min(len(names) - 1, max(levels[end], levels[start] + 1))
    # Levels that no name stands in are left out.
    order = sorted(set(levels.values()))
    return {name: order.index(level) for name, level in levels.items()}


def short_hash(found: str) -> str:
    """The beginning of a content hash, or of the revision of a model of the Hub.

    >>> short_hash("b5a28e170373b3e6"), short_hash("hub:owner/model@12fd25f77366fa6b")
    ('b5a28e1703', '12fd25f773')
    """
    return found.rpartition("@")[2][:10]


def _parent_text(parent: Parent) -> str:
    weight = "" if parent.weight is None else f"{parent.weight:g} "
    return f"{weight}{parent.name} ({short_hash(parent.hash)})"
