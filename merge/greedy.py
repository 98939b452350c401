"""Greedy soup (Wortsman et al. 2022, arXiv 2203.05482, recipe 1): members join while the held-out score does not fall.

The members are ordered by their own score. The best one begins; each next one stays if the average with it scores at
least as high as the average without it. Averages are scored in memory (`apo-soup eval --mix`).
"""

from pathlib import Path
from typing import Any

from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.progress import say, warn
from apo_soup.runs.manifest import write_json
from apo_soup.runs.sources import model_hash
from apo_soup.stored_json import Form, OtherFormError, json_of_form
from apo_soup.sweep.scores import eval_file, item_gains, mix_metrics, suite_reads, suite_values


class GreedyChoice(Form):
    """What is kept of a greedy soup: which members, and what they were chosen by."""

    key: str
    kept: list[str]


def greedy_members(recipe: MergeFile, soup: SoupKeys, members: list[Path], ask: bool) -> list[Path] | None:
    """The members that a greedy soup keeps, in the order they joined.

    A choice that was made of the same members by the same suite is taken from `greedy/greedy.json`. Where there is
    none, it is worked out if `ask`, and None otherwise.

    Raises:
        UserError: the file names no metric, or the suite does not have it.
    """
    metric, where = soup.metric, recipe.place("soup")
    if not metric:
        raise UserError(
            f"{where}.metric: expected the score by which members join a greedy soup, got none; name a metric of "
            "the suite"
        )
    suite, folder = eval_file(recipe, "soup.eval", soup.eval), Path(recipe.output_dir) / "greedy"
    hashes = [model_hash(str(f), f"{where}.members") for f in members]
    key = hash_value([hashes, metric, suite_values(suite), suite_reads(suite, __name__)])
    file = folder / "greedy.json"
    by_name = {f.name: f for f in members}
    known = _kept_choice(file)
    if known.get("key") == key and set(known["kept"]) <= by_name.keys():
        return [by_name[name] for name in known["kept"]]
    if not ask:
        return None
    alone = mix_metrics(suite, {name: {f: 1.0} for name, f in by_name.items()}, folder / "points")
    values = {name: _mean(item_gains(metrics, metric, f"{where}.metric")) for name, metrics in alone.items()}
    order = sorted(by_name, key=lambda name: -values[name])
    kept, score = [order[0]], values[order[0]]
    say(f"soup: {order[0]} begins with {metric} {alone[order[0]][metric]['value']:.4f}")
    for name in order[1:]:
        tried = [*kept, name]
        mix = "-".join(tried)
        metrics = mix_metrics(suite, {mix: {by_name[n]: 1 / len(tried) for n in tried}}, folder / "points")[mix]
        value = _mean(item_gains(metrics, metric, f"{where}.metric"))
        stays = value >= score
        say(
            f"soup: with {name} {metric} is {metrics[metric]['value']:.4f}, "
            f"{'it stays' if stays else 'so it is left out'}"
        )
        if stays:
            kept, score = tried, value
    write_json(file, {"key": key, "metric": metric, "alone": values, "kept": kept, "score": score})
    return [by_name[name] for name in kept]


def _kept_choice(file: Path) -> dict[str, Any]:
    """The choice that was made before; nothing where there is none, or it cannot be read."""
    if not file.is_file():
        return {}
    try:
        return json_of_form(file, GreedyChoice)
    except OtherFormError as error:
        warn(f"soup: {file}: {error}; the members are chosen again")
        return {}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
