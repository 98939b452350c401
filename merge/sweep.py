"""Walk the weight between two models, and say which weight the scores support.

    python -m merge.sweep --config recipes/tiny/merge.yaml

Every point is an average in memory (`apo-soup eval --mix`); no checkpoint is written. A point is compared with the
first model (the soup) on the same items, as `apo-soup compare` does it. The best point is the one with the best
score among those where no guardrail falls: a guardrail falls when its metric is worse than the soup's by more than its
margin and the whole interval says so. Points that cannot be told from the best are named. The score of a chosen point
is a little too good, because it was chosen for it; held-out items that the sweep does not see tell the truth.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.runs.entry import report_state, stage_program
from apo_soup.runs.inputs import model_hash
from apo_soup.runs.stage import Stage, write_json
from apo_soup.statistics import Difference, paired_difference
from apo_soup.tables import text_table
from merge.plan import resolved
from merge.scores import Metrics, gains, scores, suite_key, suite_of

WEIGHTS = tuple(n / 10 for n in range(11))
# Metric by metric, how far the soup's score may fall where the file names no guardrails: not at all beyond noise.
MARGIN = 0.0


@dataclass(frozen=True)
class Point:
    """One weight of the first model: scores, differences from weight 1, and the guardrails that fall."""

    weight: float
    scores: dict[str, float]
    differences: dict[str, Difference]
    fallen: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The weight to take, and those that the items cannot tell from it."""

    weight: float
    alike: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """What a sweep walks: names and folders of the two models, the weights of the first, suite and stage."""

    names: list[str]
    folders: tuple[Path, Path]
    weights: list[float]
    suite: Path
    stage: Stage


def planned(recipe: Recipe) -> Plan:
    """The sweep that a merge file asks for; raises UserError where it makes no sense or a model is missing."""
    settings, where = recipe.values.get("sweep") or {}, recipe.where("sweep")
    names = settings.get("models", ["soup", "mid"])
    if len(names) != 2:
        raise UserError(f"{where}: sweep.models names the two models to walk between, found {len(names)}")
    run, suite = Path(recipe.need("output_dir")), suite_of(recipe, "sweep")
    folders = tuple(Path(resolved(name, run, where)) for name in names)
    for name, folder in zip(names, folders, strict=True):
        if not folder.is_dir():
            raise UserError(f"{where}: sweep.models: {name} is no folder here; a sweep walks between stages or folders")
    if folders[0] == folders[1]:
        raise UserError(f"{where}: sweep.models are one folder, {folders[0]}; a sweep walks between two")
    for name, margin in (settings.get("guardrails") or {}).items():
        try:
            settings["guardrails"][name] = float(margin)
        except (TypeError, ValueError):
            raise UserError(f"{where}: sweep.guardrails.{name}: a margin is a number, found {margin!r}") from None
        if settings["guardrails"][name] < 0:
            raise UserError(f"{where}: sweep.guardrails.{name}: a margin is 0 or more, found {margin}")
    inputs = {
        **{f"model {name}": model_hash(str(folder), where) for name, folder in zip(names, folders, strict=True)},
        "suite": suite_key(suite),
    }
    weights = checked_weights(settings.get("weights", list(WEIGHTS)), where)
    return Plan(names, folders, weights, suite, Stage("sweep", run / "sweep", settings, inputs))


def sweep(recipe: Recipe, plan: Plan) -> None:
    """Measure every point, choose, print, and put table, JSON and curve into place."""
    settings, where, names = recipe.values.get("sweep") or {}, recipe.where("sweep"), plan.names
    first, second = plan.folders
    mixes = {repr(w): {first: w, second: round(1 - w, 12)} for w in plan.weights}
    mixes = {name: {f: w for f, w in parts.items() if w} for name, parts in mixes.items()}
    # Points outlive the sweep's own folder: one that was stopped goes on, and a finer walk asks only what is new.
    folder = plan.stage.folder.with_name("sweep_points")
    tasks, alone = settings.get("tasks", ()), repr(1.0)
    # The soup alone first: a metric that the suite does not have is told before the other points are paid for.
    found = scores(plan.suite, {alone: mixes[alone]}, folder, tasks)
    known = [n for n, m in found[alone].items() if m.get("items") is not None and m["headline"]]
    if not known:
        raise UserError(f"{where}: the suite's tasks have no score with single items to choose a weight by")
    metric = settings.get("metric") or known[0]
    guardrails = settings.get("guardrails", {n: MARGIN for n in known if n != metric})
    for name in (metric, *guardrails):
        gains(found[alone], name, where)
    found |= scores(plan.suite, {n: m for n, m in mixes.items() if n != alone}, folder, tasks)
    draws, seed = settings.get("bootstrap", 2000), settings.get("seed", 0)
    points = [
        point(w, found[repr(w)], found[alone], [metric, *guardrails], guardrails, draws, seed, where)
        for w in plan.weights
    ]
    chosen = choose(points, {w: found[repr(w)] for w in plan.weights}, metric, draws, seed, where)
    table, words = show(points, metric, list(guardrails), names), told(chosen, metric, names, recipe)
    print(f"{table}\n{words}")
    final = plan.stage.begin() / "final"
    final.mkdir(exist_ok=True)
    content = {
        "models": names,
        "metric": metric,
        "guardrails": guardrails,
        "better": {name: found[alone][name]["better"] for name in (metric, *guardrails)},
        "points": [asdict(p) for p in points],
        "chosen": asdict(chosen),
        "told": words,
    }
    write_json(final / "sweep.json", content)
    (final / "sweep.txt").write_text(f"{table}\n{words}\n")
    curve(points, [metric, *guardrails], names, final / "sweep.png")
    plan.stage.finish(final, {"points": len(points), "chosen": chosen.weight, "alike": list(chosen.alike)})
    print(f"sweep: {plan.stage.folder}: sweep.json, sweep.txt and sweep.png written")


def checked_weights(weights: list[Any], where: str) -> list[float]:
    """Weights in ascending order, 1 among them because everything is compared with it; raises UserError otherwise."""
    if any(isinstance(w, bool) or not isinstance(w, (int, float)) for w in weights):
        raise UserError(f"{where}: sweep.weights is a list of numbers, found {weights}")
    if not all(0 <= w <= 1 for w in weights):
        raise UserError(f"{where}: a weight of sweep.weights lies between 0 and 1, found {weights}")
    if 1 not in weights:
        raise UserError(f"{where}: sweep.weights needs 1, the first model alone, to compare with; found {weights}")
    return sorted({float(w) for w in weights})


def point(
    weight: float,
    metrics: Metrics,
    reference: Metrics,
    shown: list[str],
    guardrails: dict[str, float],
    draws: int,
    seed: int,
    where: str,
) -> Point:
    """One point's scores, and what it gains on the reference on the same items; plus is better, for a loss too."""
    differences = {
        n: paired_difference(gains(reference, n, where), gains(metrics, n, where), draws, seed) for n in shown
    }
    bounds = {n: differences[n].high for n in guardrails}
    fallen = tuple(n for n, margin in guardrails.items() if bounds[n] is not None and bounds[n] < -margin)
    return Point(weight, {n: metrics[n]["value"] for n in shown}, differences, fallen)


def choose(points: list[Point], found: dict[float, Metrics], metric: str, draws: int, seed: int, where: str) -> Choice:
    """The best score among the points whose guardrails hold; among equal scores the one nearest to the soup."""
    standing = [p for p in points if not p.fallen]
    best = max(standing, key=lambda p: (p.differences[metric].value, p.weight))
    own = gains(found[best.weight], metric, where)
    alike = tuple(
        p.weight
        for p in standing
        if p is not best and not paired_difference(gains(found[p.weight], metric, where), own, draws, seed).beyond_noise
    )
    return Choice(best.weight, alike)


def show(points: list[Point], metric: str, guardrails: list[str], names: list[str]) -> str:
    """A line a point: scores, and the difference from weight 1 with its interval."""
    lines = []
    for p in points:
        cells = [f"{p.weight:g}"]
        for name in (metric, *guardrails):
            d = p.differences[name]
            mark = "*" if d.beyond_noise else ""
            cells.append(f"{p.scores[name]:.3f} ({d.interval(2)}){mark}")
        lines.append([*cells, ", ".join(p.fallen) or "-"])
    table = text_table([names[0], metric, *guardrails, "guardrails fallen"], lines)
    return (
        f"{table}\nin brackets the 95 % interval of the gain on {names[0]} alone, plus being better; * marks what is "
        "beyond noise"
    )


def told(chosen: Choice, metric: str, names: list[str], recipe: Recipe) -> str:
    """What the scores support, and the two lines of the merge file that say so."""
    lines = [f"sweep: {names[0]} {chosen.weight:g} has the best {metric} of the points whose guardrails hold"]
    if chosen.alike:
        others = ", ".join(f"{w:g}" for w in chosen.alike)
        lines.append(
            f"sweep: on these items it cannot be told from {others}; take it as one of several, not as the best"
        )
    lines.append(f"in {recipe.path}, under merge.models:")
    for name, weight in zip(names, (chosen.weight, round(1 - chosen.weight, 12)), strict=True):
        lines.append(f"    - {{model: {name}, parameters: {{weight: {weight:g}}}}}")
    return "\n".join(lines)


def curve(points: list[Point], shown: list[str], names: list[str], path: Path) -> None:
    """Scores over the weight as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name in shown:
        axes.plot([p.weight for p in points], [p.scores[name] for p in points], marker="o", markersize=3, label=name)
    axes.set_xlabel(f"weight of {names[0]} (the rest is {names[1]})")
    axes.set_ylabel("score")
    if all(0 <= p.scores[name] <= 1 for p in points for name in shown):
        axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def work(recipe: Recipe, options: argparse.Namespace) -> int:
    if options.state and "sweep" not in recipe.values:
        print(f"sweep: not asked for, {recipe.path} has no sweep")
        return 0
    plan = planned(recipe)
    todo, code = report_state([plan.stage], options.state)
    if todo and not options.state:
        sweep(recipe, plan)
    return code


if __name__ == "__main__":
    stage_program("merge.sweep", "merge", "Find the merge weight that the scores support.", work)
