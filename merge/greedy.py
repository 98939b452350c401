"""Greedy soup (Wortsman et al. 2022, arXiv 2203.05482, recipe 1): members join while the held-out score does not fall.

The members are ordered by their own score. The best one begins; each next one stays if the average with it scores at
least as high as the average without it. Averages are scored in memory (`apo-soup eval --mix`).
"""

import json
from pathlib import Path

from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.manifest import write_json
from apo_soup.runs.sources import model_hash
from merge.scores import eval_file, item_gains, mix_metrics, suite_key


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
    key = hash_value([[model_hash(str(f), f"{where}.members") for f in members], metric, suite_key(suite)])
    file = folder / "greedy.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    by_name = {f.name: f for f in members}
    if known.get("key") == key:
        return [by_name[name] for name in known["kept"]]
    if not ask:
        return None
    alone = mix_metrics(suite, {name: {f: 1.0} for name, f in by_name.items()}, folder / "points")
    values = {name: _mean(item_gains(metrics, metric, where)) for name, metrics in alone.items()}
    order = sorted(by_name, key=lambda name: -values[name])
    kept, score = [order[0]], values[order[0]]
    print(f"soup: {order[0]} begins with {metric} {alone[order[0]][metric]['value']:.4f}")
    for name in order[1:]:
        tried = [*kept, name]
        mix = "-".join(tried)
        metrics = mix_metrics(suite, {mix: {by_name[n]: 1 / len(tried) for n in tried}}, folder / "points")[mix]
        value = _mean(item_gains(metrics, metric, where))
        stays = value >= score
        print(
            f"soup: with {name} {metric} is {metrics[metric]['value']:.4f}, "
            f"{'it stays' if stays else 'so it is left out'}"
        )
        if stays:
            kept, score = tried, value
    write_json(file, {"key": key, "metric": metric, "alone": values, "kept": kept, "score": score})
    return [by_name[name] for name in kept]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
