"""What a stage reads, and its content: the half of a manifest that decides whether a stage is stale."""

import glob
import importlib.util
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, read_json
from apo_soup.hashing import hash_file, hash_tree, hash_value
from apo_soup.runs.model_files import hash_model
from apo_soup.config.recipe import Recipe, hub_keys, load

# Keys that change what is printed, logged, kept or sent, not what is learned.
COSMETIC = {
    "output_dir", "run_name", "report_to", "log_level", "log_level_replica", "logging_dir", "logging_steps",
    "logging_strategy", "logging_first_step", "disable_tqdm", "push_to_hub", "hub_model_id", "hub_strategy",
    "hub_token", "hub_private_repo", "hub_always_push", "hub_revision", "save_steps", "save_strategy",
    "save_total_limit", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps",
    "per_device_eval_batch_size", "do_eval", "max_reject_share", "save_only_model", "dataset_num_proc",
    "dataloader_num_workers", "ddp_timeout",
}  # fmt: skip
# Where the packages of this project lie side by side: a checkout, or site-packages.
PROJECT = Path(__file__).parents[2]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
ROW_SUFFIXES = {".jsonl", ".json", ".parquet", ".arrow"}


def is_local(name: str) -> bool:
    """Whether a model or data id can only be a path: it exists, or it does not look like OWNER/NAME of the Hub."""
    begins = name.startswith((".", "/", "~", "runs/", "recipes/", "data/"))
    return Path(name).exists() or begins or Path(name).suffix in ROW_SUFFIXES or not HUB_ID.fullmatch(name)


def model_folder(name: str, where: str) -> Path | None:
    """The local folder of a model id, or None for a Hub id. Raises UserError for a folder that is not a model."""
    if not is_local(name):
        return None
    folder = Path(name).expanduser()
    if not folder.exists():
        raise UserError(
            f"{where}: model folder {name} does not exist; run the stage that makes it, or correct the path"
        )
    if not folder.is_dir():
        raise UserError(f"{where}: {name} is a file; expected a model folder with config.json and *.safetensors")
    if not any((folder / n).is_file() for n in ("config.json", "adapter_config.json")):
        raise UserError(f"{where}: {name} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{where}: {name} is not a whole model folder: it has no *.safetensors file")
    return folder


def row_files(name: str, where: str) -> list[Path] | None:
    """Local data files of a source id (a path or a glob), or None for a Hub id."""
    path = Path(name).expanduser()
    found = [path] if path.exists() else sorted(Path(p) for p in glob.glob(str(path), recursive=True))
    if found:
        for file in found:
            if file.suffix not in ROW_SUFFIXES or not file.is_file():
                raise UserError(
                    f"{where}: {file} is not a data file; expected one of {', '.join(sorted(ROW_SUFFIXES))}"
                )
        return found
    if is_local(name) or any(c in name for c in "*?["):
        raise UserError(f"{where}: data file {name} does not exist; check the path (it is relative to {Path.cwd()})")
    return None


@cache
def hub_commit(kind: str, name: str, revision: str | None) -> str:
    """The commit that a Hub `model` or `dataset` stands at, from the Hub or the local cache; else the revision's name.

    A branch such as `main` moves; a stage made from another commit is stale.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import repo_folder_name

    branch = revision or "main"
    if not constants.HF_HUB_OFFLINE:
        try:
            return HfApi().repo_info(name, revision=branch, repo_type=kind, timeout=10).sha
        except (HTTPError, OSError):
            pass  # no network or no access: what the cache says, and loading the weights or rows will tell the rest
    reference = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "refs" / branch
    return reference.read_text().strip() if reference.is_file() else branch


def model_hash(name: str, where: str, revision: str | None = None) -> str:
    folder = model_folder(name, where)
    if folder is None:
        return f"hub:{name}@{hub_commit('model', name, revision)}"
    adapter = folder / "adapter_config.json"
    if not adapter.is_file() or (folder / "config.json").is_file():
        return hash_model(folder)
    base = read_json(adapter, where).get("base_model_name_or_path")
    return hash_value([hash_model(folder), model_hash(base, f"{where}: {adapter}") if base else None])


def rows_hash(name: str, where: str, revision: str | None = None) -> str:
    files = row_files(name, where)
    if files is None:
        return f"hub:{name}@{hub_commit('dataset', name, revision)}"
    return hash_value([hash_file(f) for f in files])


def suite_tasks(suite: Recipe) -> list[dict[str, Any]]:
    """The tasks of an eval file; raises UserError where one is no mapping."""
    for number, task in enumerate(suite.need("tasks")):
        if not isinstance(task, dict):
            raise UserError(f"{suite.where(f'tasks.{number}')}: a task is a mapping, found {task!r}")
    return suite.values["tasks"]


def tasks_with_rows(suite: Recipe) -> list[dict[str, Any]]:
    """The tasks of an eval file that read rows from a file; the others make their items, or are the harness's."""
    return [task for task in suite_tasks(suite) if task.get("data")]


def suite_inputs(suite: Recipe) -> dict[str, str]:
    """What decides the results of an eval file beside its own text and the model: rows, tasks and files that it names,
    template, verifiers and code.

    Raises:
        UserError: a file or folder that it names is not there.
    """
    inputs = {}
    for number, task in enumerate(suite_tasks(suite)):
        where = suite.where(f"tasks.{number}")
        if task.get("data"):
            inputs[f"rows {task['data']}"] = rows_hash(task["data"], where)
        if task.get("include"):
            if not Path(task["include"]).is_dir():
                raise UserError(f"{where}: include {task['include']} is no folder")
            inputs[f"tasks in {task['include']}"] = hash_tree(Path(task["include"]), "*")
        code = verifier_code(str(task.get("verifier") or ""))
        if code:
            inputs[f"verifier {task['verifier']}"] = hash_file(Path(code))
        for file in data_files(task):
            inputs[f"file {file}"] = hash_file(Path(file))
    inputs["template"] = hash_value(template_text(suite.values.get("chat_template"), suite.where("chat_template")))
    rooms = ("evals", "data", "models", "verify")
    code = [code_hash(f"apo_soup/{room}") for room in rooms]
    return inputs | {"code": hash_value([*code, hash_file(PROJECT / "apo_soup" / "statistics.py")])}


def data_files(node: Any, inside: bool = False) -> list[str]:
    """The files that are there of those named below a key `data_files`, as harness tasks name their rows."""
    if isinstance(node, dict):
        return [f for key, value in node.items() for f in data_files(value, inside or key == "data_files")]
    if isinstance(node, list):
        return [f for value in node for f in data_files(value, inside)]
    return [node] if inside and isinstance(node, str) and Path(node).is_file() else []


def verifier_code(name: str) -> str | None:
    """The source file of a verifier named as `package.module:function`, whose content decides the verdicts."""
    module, colon, _ = name.partition(":")
    try:
        spec = importlib.util.find_spec(module) if colon else None
    except Exception:  # finding a module imports its package, which may do anything; `verifier` tells what it did
        return None
    return spec.origin if spec and spec.has_location else None


def eval_rows_hash(recipe: Recipe) -> str | None:
    """Hash of the evaluation prompts that `dataset_mixture.decontaminate` names; None where nothing is named."""
    entries = recipe.values["dataset_mixture"].get("decontaminate")
    hashes = []
    for number, entry in enumerate(entries or []):
        where = recipe.where(f"dataset_mixture.decontaminate.{number}")
        if isinstance(entry, dict):
            hashes.append({**entry, "id": rows_hash(entry["id"], where, entry.get("revision"))})
        elif Path(entry).suffix in (".yaml", ".yml"):
            tasks = tasks_with_rows(load(entry, "eval"))
            hashes.append([[rows_hash(task["data"], f"{where} ({entry})"), task.get("question")] for task in tasks])
        else:
            hashes.append(rows_hash(entry, where))
    return hash_value(hashes) if hashes else None


def template_text(value: str | None, where: str) -> str | None:
    """The text of a recipe's `chat_template`: ours, inline Jinja, or a .jinja file; None is the tokenizer's own."""
    if value is None:
        return None
    if value == "apo-soup":
        return (resources.files("apo_soup") / "templates" / "chat_template.jinja").read_text(encoding="utf-8")
    if "{" in value:
        return value
    if Path(value).is_file():
        return Path(value).read_text(encoding="utf-8")
    raise UserError(
        f"{where}: chat_template {value!r} is neither Jinja text, nor a file, nor apo-soup; "
        "leave the key out for the tokenizer's own"
    )


def training_inputs(recipe: Recipe) -> dict[str, str]:
    """Model, rows and template of a mid, sft or apo file."""
    values = recipe.values
    model = recipe.need("model_name_or_path")
    inputs = {"model": model_hash(model, recipe.where("model_name_or_path"), values.get("model_revision"))}
    for number, source in enumerate(recipe.need("dataset_mixture")["datasets"]):
        where = recipe.where(f"dataset_mixture.datasets.{number}.id")
        unused = hub_keys(source)
        if unused and row_files(source["id"], where):
            recipe.notes.append(
                f"{where}: {', '.join(unused)} belong to Hub datasets and are not used for a local file"
            )
        inputs[f"rows {source['id']} #{number}"] = rows_hash(source["id"], where, source.get("revision"))
    evals = eval_rows_hash(recipe)
    if evals is not None:
        inputs["evals to stay clear of"] = evals
    template = template_text(values.get("chat_template"), recipe.where("chat_template"))
    if template is not None:
        inputs["template"] = hash_value(template)
    return inputs


def semantic(values: dict[str, Any]) -> dict[str, Any]:
    """The values that can change a stage's result."""
    return {k: v for k, v in values.items() if k not in COSMETIC and k not in ("model_name_or_path", "chat_template")}


def code_hash(package: str) -> str:
    """Hash of the Python files of one of the project's packages, named by its path such as `apo_soup/data`."""
    return hash_tree(PROJECT / package)
