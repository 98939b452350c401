"""The card of a merged folder: what was mixed, how, and from where it came."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.stage import read_manifest


def write_card(folder: Path, name: str, config: dict[str, Any], models: list[str]) -> None:
    """Write `README.md` in the Hub's format, with the line of parents as far as their manifests tell."""
    lines = [
        "---",
        yaml.safe_dump({"library_name": "transformers", "tags": ["merge", "apo-soup"]}, sort_keys=False).strip(),
        "---",
        "",
        f"# {name}",
        "",
        f"A `{config['merge_method']}` merge of {len(models)} models, made with apo-soup and mergekit's schema:",
        "",
        "```yaml",
        yaml.safe_dump(_by_name(config), sort_keys=False).strip(),
        "```",
        "",
        "## Lineage",
        "",
        *lineage(models),
        "",
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_HUB_ID")',
        'model = AutoModelForCausalLM.from_pretrained("FOLDER_OR_HUB_ID")',
        'messages = [{"role": "user", "content": "Hello"}]',
        "prompt = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, enable_thinking=True, return_tensors="pt", return_dict=True',
        ")",
        "output = model.generate(**prompt, max_new_tokens=512)",
        'print(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def lineage(models: list[str]) -> list[str]:
    """A line a model: its stage, settings that made it, and the content hash of what it was made from."""
    found = []
    for model in models:
        manifest = read_manifest(Path(model)) or {}
        made = manifest.get("config", {})
        told = [
            f"{key} {made[key]}" for key in ("loss_type", "beta", "learning_rate", "seed") if made.get(key) is not None
        ]
        parent = str(manifest.get("inputs", {}).get("model", ""))
        told += [f"from model {parent if parent.startswith('hub:') else parent[:12]}"] if parent else []
        found.append(f"- {manifest.get('stage') or Path(model).name}{': ' if told else ''}{', '.join(told)}")
    return found


def _by_name(node: Any) -> Any:
    """A configuration with the names of local folders in place of this machine's paths."""
    if isinstance(node, dict):
        return {
            k: _short(v) if k in ("model", "base_model") and isinstance(v, str) else _by_name(v)
            for k, v in node.items()
        }
    return [_by_name(v) for v in node] if isinstance(node, list) else node


def _short(model: str) -> str:
    path = Path(model)
    if not path.exists():
        return model
    return f"{path.parent.name}/{path.name}" if path.parent.name == "apo" else path.name
