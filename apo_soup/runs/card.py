"""The card of a merged folder: what was mixed, from which line of parents and data, what it can do, how to use it.

It is written with the folder, and once more with the evaluation's figures when a report is made. It holds what
manifests and results say, in the Hub's metadata format.
"""

import contextlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from apo_soup.runs.inputs import HUB_ID, is_local
from apo_soup.runs.stage import read_manifest
from apo_soup.runs.results import Stage, cell, columns, evaluated, short

# Where the snippets name the model, until it has a place on the Hub.
PLACE = "FOLDER_OR_HUB_ID"
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "FOLDER_OR_HUB_ID"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)


def ask(messages, **template):
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, **template
    )
    output = model.generate(**prompt, max_new_tokens=512)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=False)


messages = [{"role": "user", "content": "What is 4 + 5?"}]
print(ask(messages, enable_thinking=True))  # reasons between think tags, then answers
print(ask(messages, enable_thinking=False))  # answers at once
```"""
TOOLS = """```python
tool = {
    "name": "add",
    "description": "Add two whole numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
# A call comes back as JSON between tool_call tags; send its result as a turn of the role tool.
print(ask([{"role": "user", "content": "Use the tool: What is 17 + 25?"}], enable_thinking=False, xml_tools=[tool]))
```"""


def write_card(folder: Path, name: str, config: dict[str, Any], models: list[str], run: Path) -> None:
    """Write `README.md` into a merged folder.

    Args:
        config: mergekit's configuration, models by folder or Hub id.
        models: the models that were mixed.
        run: the run's folder, whose other stages and results are told where they are there.
    """
    line = parents_of(models, run)
    roots = [m for m, manifest in line.items() if manifest is None]
    stages = [s for s in evaluated(run) if s.name == name] if (run / "evals").is_dir() else []
    about = front_matter(name, roots, line, stages)
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True).strip()}\n---",
        f"# {run.name or 'model'}: {name}",
        f"A `{config['merge_method']}` merge of {len(models)} models, made with apo-soup and mergekit's schema:",
        f"```yaml\n{yaml.safe_dump(by_name(config), sort_keys=False).strip()}\n```",
        "## Lineage\n\n" + "\n".join(lineage(models, run)),
    ]
    data = data_lines(line)
    if data:
        parts.append("## Data\n\n" + "\n".join(data))
    if stages:
        parts.append("## Evaluation\n\n" + eval_table(stages[0], run))
    parts += [f"## Use\n\n{USE}", f"### Tools\n\n{TOOLS}"]
    parts.append(f"## Licence\n\n{licence_words(about.get('license'), roots)}")
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def named_card(folder: Path, repository: str) -> str:
    """The card of a folder with its place on the Hub in the snippets."""
    return (folder / "README.md").read_text(encoding="utf-8").replace(PLACE, repository)


def rewrite_card(run: Path, name: str) -> bool:
    """Write the card of a finished folder anew, with what was evaluated since; False where there is no such folder."""
    manifest = read_manifest(run / name)
    if manifest is None:
        return False
    labels = [re.fullmatch(r"(model \d+) (.*)", label) for label in manifest["inputs"]]
    models = {found[1]: folder_of(found[2], run) for found in labels if found}
    config = {k: v for k, v in manifest["config"].items() if k not in ("long_context", "options")}
    write_card(run / name, name, _named(config, models), list(models.values()), run)
    return True


def told_model(model: str, run: Path) -> str:
    """A model as a manifest names it: a folder of the run by its place there (`soup`, `apo/1`), another by its path, a
    model of the Hub by its id.
    """
    home = run.resolve()
    parts = [model] if Path(model).exists() else model.split("+")
    inside = [Path(p).is_absolute() and Path(p).is_relative_to(home) for p in parts]
    return "+".join(str(Path(p).relative_to(home)) if there else p for p, there in zip(parts, inside, strict=True))


def folder_of(told: str, run: Path) -> str:
    """The model that `told_model` named: the inverse, as long as it is there."""
    parts = [told] if (run / told).is_dir() else told.split("+")
    return "+".join(str((run / p).resolve()) if (run / p).is_dir() else p for p in parts)


def _named(node: Any, models: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {k: _named(v, models) for k, v in node.items()}
    if isinstance(node, list):
        return [_named(v, models) for v in node]
    return models.get(node, node) if isinstance(node, str) else node


def parents_of(models: list[str], run: Path) -> dict[str, dict[str, Any] | None]:
    """Every model up the line with its manifest, nearest first; a model that no stage here made has none."""
    found: dict[str, dict[str, Any] | None] = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop(0)
        if model in found:
            continue
        manifest = read_manifest(Path(model)) if Path(model).is_dir() else None
        found[model] = manifest
        if manifest:
            own = (manifest.get("ran_with") or {}).get("model_name_or_path")
            made_from = manifest["metrics"].get("models") if manifest.get("metrics") else None
            waiting += [own] if own else [folder_of(m, run) for m in made_from or []]
    return found


def front_matter(
    name: str, roots: list[str], line: dict[str, dict[str, Any] | None], stages: list[Stage]
) -> dict[str, Any]:
    """The Hub's metadata."""
    about: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "apo-soup"]}
    about["pipeline_tag"] = "text-generation"
    licences = sorted({found for root in roots if (found := licence_of(root))})
    if licences:
        about["license"] = licences[0] if len(licences) == 1 else "other"
    bases = [root.partition("@")[0] for root in roots if not Path(root).exists() and HUB_ID.fullmatch(root)]
    if bases:
        about |= {"base_model": list(dict.fromkeys(bases)), "base_model_relation": "merge"}
    hub = sorted({s for m in line.values() for s in sources(m) if not is_local(s)})
    if hub:
        about["datasets"] = hub
    if stages:
        about["model-index"] = [{"name": name, "results": index_results(stages[0])}]
    return about


def index_results(stage: Stage) -> list[dict[str, Any]]:
    """Headline scores as the Hub's model-index has them."""
    found = []
    for column in columns([stage]):
        value = cell(stage, column).value
        metric = {"type": "loss" if stage.results["metrics"][column]["better"] == "lower" else "accuracy"}
        if value is not None:
            found.append(
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": column, "type": "apo-soup"},
                    "metrics": [{**metric, "name": short(column), "value": round(value, 4)}],
                }
            )
    return found


def sources(manifest: dict[str, Any] | None) -> list[str]:
    """The ids of the rows that a stage was trained on."""
    if not manifest or not manifest.get("metrics"):
        return []
    named = (s["source"].partition(":")[0].partition(" #")[0] for s in manifest["metrics"].get("data", []))
    return list(dict.fromkeys(named))


@cache
def licence_of(model: str) -> str | None:
    """The licence that a model's own card names, from its folder or the cache of the Hub's files; None elsewhere.

    No network is asked: a merge of local models must not wait for one. Stages that load a model from the Hub put its
    card into the cache (`keep_card`).
    """
    file = Path(model) / "README.md"
    if Path(model).is_dir():
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    elif HUB_ID.fullmatch(model):
        card = cached_card(*model.partition("@")[::2])
        if card is None:
            return None
        text = card.read_text(encoding="utf-8")
    else:
        return None
    block = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    about = yaml.safe_load(block[1]) if block else None
    found = about.get("license") if isinstance(about, dict) else None
    return found if isinstance(found, str) else None


def cached_card(name: str, revision: str) -> Path | None:
    """The card of a model of the Hub in the local cache: that of a revision, or the newest there. Models that were
    fetched by their commit have no branch's name in the cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    found = try_to_load_from_cache(name, "README.md", revision=revision or None)
    if isinstance(found, str):
        return Path(found)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots"
    cards = sorted(folder.glob("*/README.md"), key=lambda card: card.parent.stat().st_mtime)
    return cards[-1] if cards else None


def keep_card(model: str, revision: str | None) -> None:
    """Fetch the card of a model of the Hub into the local cache, where `licence_of` finds it; a local one has its own.

    Without a network, or where the model has no card, there is nothing to keep.
    """
    if is_local(model):
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError

    with contextlib.suppress(HTTPError, OSError):
        hf_hub_download(model, "README.md", revision=revision)


def licence_words(licence: str | None, roots: list[str]) -> str:
    """What can be said of the licence, in a sentence."""
    told = [f"{model_name(root)}: {licence_of(root) or 'not told by its card'}" for root in roots]
    if not told:
        return "The models that this one comes from are not known here."
    own = f"`{licence}`, that of the parents" if licence and licence != "other" else "See those of the parents"
    return f"{own} ({'; '.join(told)}). The data may add terms of its own."


def data_lines(line: dict[str, dict[str, Any] | None]) -> list[str]:
    """A line a stage and source: rows, tokens, and the share that is trained."""
    lines, seen = [], set()
    for manifest in reversed(list(line.values())):
        for source in (manifest or {}).get("metrics", {}).get("data", []):
            key = (source["source"], source["mode"], source["tokens"])
            if key not in seen and source["kept"]:
                seen.add(key)
                share = source["trained"] / source["tokens"] if source["tokens"] else 0
                lines.append(
                    f"- {manifest['stage']}: {source['source']} ({source['mode']}): {source['kept']:,} rows, "
                    f"{source['tokens']:,} tokens, {share:.0%} trained"
                )
    return lines


def eval_table(stage: Stage, run: Path) -> str:
    """Headline scores with intervals, beside those of the other checkpoints that were evaluated."""
    shown = [s for s in evaluated(run) if s.name in ("base", "sft", "soup", stage.name)]
    names = columns([stage])
    lines = ["| score | " + " | ".join(s.name for s in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in names:
        lines.append(f"| {short(name)} | " + " | ".join(cell(s, name).text() for s in shown) + " |")
    engine = stage.results["engine"]
    told = (
        f"In brackets the 95 % interval. Suite {stage.results['suite_hash'][:12]}, transformers "
        f"{engine['transformers']}, {engine['dtype']}."
    )
    return "\n".join([*lines, "", told])


def lineage(models: list[str], run: Path) -> list[str]:
    """A line a model: its stage, settings that made it, and the content hash of what it was made from."""
    found = []
    for model, manifest in parents_of(models, run).items():
        made = (manifest or {}).get("config", {})
        keys = ("loss_type", "beta", "learning_rate", "seed", "merge_method")
        told = [f"{key} {written(made[key])}" for key in keys if made.get(key) is not None]
        parent = (manifest or {}).get("inputs", {}).get("model")
        if parent:
            told.append(f"from model {parent[:12]}")
        name = manifest["stage"] if manifest and manifest.get("stage") else model_name(model)
        found.append(f"- {name}" + (f": {', '.join(told)}" if told else ""))
    return found


def written(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def model_name(model: str) -> str:
    """A model as a card names it: a folder by its last parts, so that no path of a machine is told."""
    base, plus, adapter = model.partition("+")
    if plus and not Path(model).exists():
        return f"{model_name(base)}+{model_name(adapter)}"
    if not Path(model).is_absolute() and not Path(model).is_dir():
        return model
    folder = Path(model)
    return f"apo/{folder.name}" if folder.parent.name == "apo" else folder.name


def by_name(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: by_name(v) for k, v in node.items()}
    if isinstance(node, list):
        return [by_name(v) for v in node]
    paths = isinstance(node, str) and any(Path(part).is_absolute() for part in node.split("+"))
    return model_name(node) if paths else node
