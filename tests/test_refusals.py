# ruff: noqa: E501 - the sentences are long
"""Every refusal through both doors: `apo-soup check` and the run say the same of a faulty recipe, and end with 2.

A row of the table is a file of a small recipe, what is changed in it, and words of the sentence. What only the run can
see, by its nature, stands in `RUN_ONLY` with the reason, and is refused there; check must not grow blind to more.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import TRAINING, chat, preference
from programs import program

from apo_soup.plan.check import check_recipe

SOURCE = "dataset_mixture.datasets.0"
MIXTURE = {"datasets": [{"id": "chat.jsonl"}]}
SHORT = {**TRAINING, "max_steps": 2, "save_strategy": "no", "save_steps": 500}
EVAL_TASK = {"name": "q", "kind": "answer", "data": "items.jsonl", "modes": ["no_think"], "max_new_tokens": 4}
MODELS = [{"model": f"./{name}", "parameters": {"weight": w}} for name, w in (("model", 0.9), ("other", 0.1))]
FILES: dict[str, dict[str, Any]] = {
    "sft.yaml": {"model_name_or_path": "model", "output_dir": "runs/r/sft", **SHORT, "dataset_mixture": MIXTURE},
    "apo.yaml": {
        "model_name_or_path": "model", "output_dir": "runs/r/apo", **SHORT, "loss_type": "apo_zero",
        "dataset_mixture": {"datasets": [{"id": "pairs.jsonl"}]}, "members": [{"seed": 1}],
    },
    "merge.yaml": {"output_dir": "runs/r", "merge": {"merge_method": "linear", "dtype": "float32", "models": MODELS}},
    "pairs.yaml": {
        "output_dir": "runs/r/pairs", "prompts": "prompts.jsonl", "mode": "no_think", "strong": {"model": "model"},
        "weak": {"model": "other"}, "max_new_tokens": 4,
    },
    "traces.yaml": {
        "output_dir": "runs/r/traces", "prompts": "prompts.jsonl", "mode": "no_think", "strong": {"model": "model"},
        "max_new_tokens": 4,
    },
    "eval.yaml": {"output_dir": "runs/r/evals", "models": {"m": "model"}, "tasks": [EVAL_TASK]},
    "data.yaml": {"output_dir": "runs/r/data", "counts": {"sft_talk": 3}},
}  # fmt: skip
PROGRAMS = {
    "sft.yaml": ["sft"], "apo.yaml": ["apo"], "merge.yaml": ["merge"], "pairs.yaml": ["apo.pairs"],
    "traces.yaml": ["apo.traces"], "eval.yaml": ["apo_soup", "eval"], "data.yaml": ["apo_soup.toy"],
}  # fmt: skip
ROWS = {
    "chat.jsonl": [chat(f"Say {n}", f"It is {n}.", False) for n in range(8)],
    "pairs.jsonl": [preference(f"Say {n}", f"It is {n}.", f"No {n}") for n in range(8)],
    "prompts.jsonl": [{"prompt": f"Say {n}", "answer": str(n)} for n in range(4)],
    "items.jsonl": [{"messages": chat(f"Say {n}", "")["messages"][:1], "answer": str(n)} for n in range(3)],
}
OUT = object()  # stands for a key that is left out


@dataclass(frozen=True)
class Case:
    """A faulty recipe: keys of a file changed, a key of the model's settings, rows of a file, files taken away."""

    file: str
    told: str
    keys: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = "model"
    rows: dict[str, list[Any] | str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    cut: int = 0


def sft(told: str, **keys: Any) -> Case:
    return Case("sft.yaml", told, keys)


def keyed(file: str, told: str, **keys: Any) -> Case:
    return Case(file, told, {name.replace("__", "."): value for name, value in keys.items()})


def of_model(told: str, **settings: Any) -> Case:
    return Case("sft.yaml", told, settings=settings)


def of_rows(told: str, *rows: Any) -> Case:
    return Case("sft.yaml", told, rows={"chat.jsonl": list(rows)})


BOTH = {
    # Keys: names, types, bounds, and what they say together.
    "unknown key": sft("learning_rat: expected a known key, got an unknown one", learning_rat=1),
    "key of the other kind": sft("beta: expected a key of mid and sft files, got one of apo files", beta=1.0),
    "type": sft("seed: expected a whole number from 0 to 2**32 - 1, got 'x'", seed="x"),
    "not finite": sft("learning_rate: expected a number above 0, got nan", learning_rate=float("nan")),
    "bound": sft("max_steps: expected a whole number of 1 or more, or -1", max_steps=0),
    "optimiser": sft("optim: expected one of", optim="adamw_torc"),
    "package of an optimiser": sft("optim: expected the package galore-torch", optim="galore_adamw", optim_target_modules="all-linear"),
    "package of a setting": sft("deepspeed: expected the package deepspeed", deepspeed={"a": 1}),
    "schedule": sft("lr_scheduler_kwargs.x: expected an argument of the schedule linear", lr_scheduler_kwargs={"x": 1}),
    "attention": sft("attn_implementation: expected one of eager, sdpa", attn_implementation="spda"),
    "fsdp": sft("fsdp: expected one of full_shard", fsdp="foo"),
    "compile backend": sft("torch_compile_backend: expected one of", torch_compile_backend="nope"),
    "compile mode": sft("torch_compile_mode: expected one of default", torch_compile_mode="nope"),
    "best metric": sft(
        "metric_for_best_model: expected a metric that an evaluation measures", metric_for_best_model="nope",
        load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", eval_steps=1, save_steps=1,
        **{"dataset_mixture.test_split_size": 2},
    ),
    "log level": sft("log_level: expected one of", log_level="loud"),
    "rows that are all held out": Case(
        "sft.yaml", "expected a size that leaves a row to train on", {"dataset_mixture.test_split_size": 8}
    ),
    "evaluation without rows": sft("eval_strategy: expected rows held out by", eval_strategy="steps"),
    "adapter keys alone": sft("lora_r: expected use_peft: true beside it", lora_r=8),
    "loss": keyed("apo.yaml", "loss_type: expected one of sigmoid", loss_type="apo_zer"),
    "smoothing": keyed("apo.yaml", "label_smoothing: expected a loss that reads it", label_smoothing=0.1),
    "checkpoint behind the end": keyed("apo.yaml", "checkpoints: expected steps before the last one", checkpoints=[5]),
    "member's key": keyed("apo.yaml", "betta: expected a known key", members=[{"betta": 1}]),
    "too few rows": keyed(
        "apo.yaml", "dataloader_drop_last: expected at least 64 sequences or pairs", dataloader_drop_last=True,
        per_device_train_batch_size=64,
    ),
    "counts": keyed("data.yaml", "counts.nope: expected one of extend_asked", counts={"nope": 1}),
    # Folders.
    "output is input": sft("output_dir: expected a folder of the stage's own, got model", output_dir="model"),
    "output in a file": sft("output_dir: expected a folder to write into, got the file chat.jsonl", output_dir="chat.jsonl/x/y"),
    # Models.
    "no model": sft("model_name_or_path: expected a model folder, got ./nope", model_name_or_path="./nope"),
    "a file as model": sft("got the file chat.jsonl; name its folder", model_name_or_path="./chat.jsonl"),
    "cut weights": Case("sft.yaml", "got 5,000: the file is cut off", cut=5000),
    "kind of model": of_model("model_type: expected a kind that transformers", model_type="foobar"),
    "class of model": of_model("expected a class that writes text", architectures=["T5ForConditionalGeneration"]),
    "more layers than weights": of_model("num_hidden_layers: expected 4, as many as its weights", num_hidden_layers=6),
    "other vocabulary": of_model("vocab_size: expected 1,024, as model.embed_tokens.weight of", vocab_size=99999),
    "members' model": keyed("apo.yaml", "expected a model folder, got ./nope", members=[{"model_name_or_path": "./nope"}]),
    "side's model": keyed("pairs.yaml", "strong.model: expected a model folder, got ./no", strong={"model": "./no"}),
    "reward model": keyed("traces.yaml", "expected a reward model", judge={"engine": "reward", "model": "model"}),
    "suite's model": keyed("eval.yaml", "models.m: expected a model folder, got ", models={"m": "./no"}),
    "one folder twice": keyed("eval.yaml", "expected a folder of its own for each", models={"a": "model", "b": "model"}),
    # Tokenizers and templates.
    "no tokenizer": Case("sft.yaml", "model_name_or_path: expected a model", without=("tokenizer.json",)),
    "no end of turn": Case("sft.yaml", "with an end-of-turn token", without=("tokenizer_config.json",)),
    "no template": Case("sft.yaml", "with a chat template, got model without", without=("chat_template.jinja",)),
    "side without template": Case("traces.yaml", "with a chat template, got model", without=("chat_template.jinja",)),
    "suite without template": Case("eval.yaml", "with a chat template, got model", without=("chat_template.jinja",)),
    "no such template": sft("chat_template: expected apo-soup, trl, Jinja text", chat_template="a.jinja"),
    "no Jinja": sft("chat_template: expected Jinja", chat_template="{{ bad"),
    "template of no turns": sft(
        "so its trained span cannot be located", chat_template="{{ 'hello' }}", assistant_only_loss=True
    ),
    "template that refuses": sft("expected a row that it takes, got a refusal: no", chat_template="{{ raise_exception('no') }}"),
    "template of TRL's": sft("that TRL has a training template for", chat_template="trl"),
    "end of turn": sft("eos_token: expected a token of model, got", eos_token="<|nope|>"),
    "end of turn that is never written": sft(
        "at which generation stops, behind the last answer", eos_token="a", assistant_only_loss=True
    ),
    "token without a row": sft("expected a tokenizer of at most 1,024 ids", add_tokens=["<new>"]),
    "token of two": sft("expected a token without the end-of-turn token", add_tokens=["<|im_end|>x"], resize_embeddings=True),
    # Rows.
    "no rows": Case("sft.yaml", "datasets.0.id: expected a data file, got x.jsonl", {f"{SOURCE}.id": "x.jsonl"}),
    "an empty file": Case("sft.yaml", "expected at least one row, got none", rows={"chat.jsonl": ""}),
    "no JSON": Case("sft.yaml", "chat.jsonl:1: expected", rows={"chat.jsonl": "{\n"}),
    "no format": of_rows("expected rows of a format among messages", {"foo": 1}),
    "named format": Case("sft.yaml", "format: expected one of messages", {f"{SOURCE}.format": "x"}),
    "format that does not fit": Case("sft.yaml", "chat.jsonl:1: field instruction", {f"{SOURCE}.format": "alpaca"}),
    "columns": Case("sft.yaml", "got nope, which no row has", {f"{SOURCE}.columns": ["nope", "messages"]}),
    "no turn": of_rows("chat.jsonl:1: field messages: expected a list of turns", {"messages": []}),
    "no answer": of_rows("chat.jsonl:1:", {"messages": chat("x", "")["messages"][:1]}),
    "too long": sft(
        "expected a trained token within max_length 8", max_length=8, assistant_only_loss=True
    ),
    "pair too long": keyed("apo.yaml", "expected a prompt shorter than max_length 20", max_length=20),
    "equal pair": Case("apo.yaml", "pairs.jsonl:1:", rows={"pairs.jsonl": [preference("a", "x", "x")]}),
    "sft rows for apo": keyed("apo.yaml", "expected rows of a format among", dataset_mixture=MIXTURE),
    "modes mixed": of_rows("expected rows of one mode", chat("a", "<think>x</think>b"), chat("a", "b")),
    "members' rows": keyed("apo.yaml", "expected a data file, got x.jsonl", members=[{f"{SOURCE}.id": "x.jsonl"}]),
    "no prompts": keyed("pairs.yaml", "expected a data file, got x.jsonl", prompts="x.jsonl"),
    "prompts of nothing": Case("traces.yaml", "expected a field messages", rows={"prompts.jsonl": [{"zz": 1}]}),
    "no reference": Case(
        "traces.yaml", "verifier: expected a field answer", {"verifier": "number"}, rows={"prompts.jsonl": [{"prompt": "a"}]}
    ),
    "reference of text": Case(
        "pairs.yaml", "expected one number, which the number verifier", {"verifier": "number"},
        rows={"prompts.jsonl": [{"prompt": "a", "answer": "xx"}]},
    ),
    # Verifiers, languages, tasks.
    "verifier": keyed("pairs.yaml", "verifier: expected one of number, exact, math", verifier="nope"),
    "language": keyed("traces.yaml", "filters", filters={"language": True, "languages": ["xx"]}),
    "kind of task": keyed("eval.yaml", "tasks.0.kind: expected one of answer", tasks__0__kind="anwser"),
    "task without rows": keyed("eval.yaml", "tasks.0.data: expected a", tasks__0__data="x.jsonl"),
    "verifier of a task": keyed("eval.yaml", "tasks.0.verifier: expected one of number", tasks__0__verifier="nope"),
    "no question": keyed("eval.yaml", "items.jsonl:1: field zz: expected one", tasks__0__question="zz"),
    "window": keyed("eval.yaml", "for which the model's window of 512 has room", tasks__0__max_new_tokens=600),
    "too few questions": Case(
        "eval.yaml", "expected 9 questions for as many turns",
        {"tasks": [{"name": "t", "kind": "turns", "data": "items.jsonl", "turns": 9}]},
    ),
    **{
        f"items for {kind}": Case(
            "eval.yaml", f"items.jsonl{told}", {"tasks": [{"name": "t", "kind": kind, "data": "items.jsonl"}]}
        )
        for kind, told in (
            ("recall", ":1: field prefix: expected one"),
            ("preference", ": field chosen: expected a value"),
            ("loss", ": field messages: expected an assistant turn"),
            ("tool", ":1: field tools: expected one"),
        )
    },
    # Merges.
    "method": keyed("merge.yaml", "expected a method of mergekit's, got nope", merge__merge_method="nope"),
    "no base": keyed("merge.yaml", "base_model: expected the model that ties", merge__merge_method="ties"),
    "parameter": keyed("merge.yaml", "which no method of mergekit's has", merge__models__0__parameters={"wieght": 1}),
    "no weight": keyed("merge.yaml", "expected a weight for every model", merge__models__0__parameters=OUT),
    "weights of no sum": keyed("merge.yaml", "expected a sum other than 0", merge__models__1__parameters__weight=-0.9),
    "no such model": keyed("merge.yaml", "expected a stage (base, extend, mid", merge__models__1__model="nope"),
    "one model twice": keyed("merge.yaml", "expected every model once", merge__models__1__model="./model"),
    "merged in the merge": keyed("merge.yaml", "got merged, which the merge makes", merge__models__1__model="merged"),
    "models and slices": keyed(
        "merge.yaml", "expected one of models, slices and modules",
        merge__slices=[{"sources": [{"model": "./model", "layer_range": [0, 2]}]}],
    ),
    "template of mergekit's": keyed("merge.yaml", "chat_template: expected Jinja text or one of auto", merge__chat_template="x"),
    "member of a soup": keyed("merge.yaml", "soup.members: expected a model folder, got nope", soup={"members": ["./nope"]}),
    "other architecture": Case(
        "merge.yaml", "architectures: expected ['SmolLM3ForCausalLM'], as in", model="other",
        settings={"architectures": ["LlamaForCausalLM"]},
    ),
    "quantised": Case(
        "merge.yaml", "expected weights that are not quantised", model="other",
        settings={"quantization_config": {"quant_method": "gptq"}},
    ),
}  # fmt: skip
# What only the run can see: why, and the case.
RUN_ONLY = {
    "a row late in a file": (
        "a check reads the first rows alone",
        of_rows("got 1 of 31", *ROWS["chat.jsonl"] * 3, *ROWS["chat.jsonl"][:6], {"messages": []}),
    ),
    "a share that draws no row": (
        "a check draws no rows",
        Case("sft.yaml", "8 not drawn; raise weight", {f"{SOURCE}.weight": 1e-9}),
    ),
    "a prompt of an evaluation that is none": (
        "a check does not read what rows are compared with",
        Case("sft.yaml", "expected a prompt in messages", {"dataset_mixture.decontaminate": ["pairs2.jsonl"]},
             rows={"pairs2.jsonl": [{"a": 1}]}),
    ),
    "weights that are no numbers": (
        "a check reads the headers of weights alone",
        Case("sft.yaml", "expected finite weights", settings={"nan": True}),
    ),
    "arguments that a model does not take": (
        "a check makes no model",
        sft("model_init_kwargs: expected arguments that the model is loaded with", model_init_kwargs={"foo": 1}),
    ),
    "a single process under fsdp": (
        "a check does not know the launcher's processes",
        sft("Using fsdp only works in distributed training", fsdp="full_shard"),
    ),
    "a GPU for mergekit": (
        "a check may run on another machine",
        keyed("merge.yaml", "options.cuda: expected a GPU", options={"cuda": True}),
    ),
    "vLLM": (
        "vLLM is installed in an environment of its own",
        keyed("traces.yaml", "strong.engine: expected an installed engine", strong={"model": "model", "engine": "vllm"}),
    ),
    "answers that are all cut off": (
        "a check asks no model",
        keyed("traces.yaml", "expected at least one trace, got none of 4 prompts", max_new_tokens=1),
    ),
    "a verifier's verdict": (
        "a check does not run code of one's own",
        keyed("pairs.yaml", "expected true, false or a score from 0 to 1", verifier="os.path:join"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_model):
    """A small recipe with a file of every stage, which is right."""
    folder = tmp_path_factory.mktemp("refusals") / "recipe"
    folder.mkdir()
    for name in ("model", "other"):
        shutil.copytree(tiny_model, folder / name)
    for name, rows in ROWS.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def faulty(world: Path, tmp_path: Path, case: Case) -> Path:
    """A copy of the recipe with the case's file alone, and its fault."""
    folder = tmp_path / "recipe"
    shutil.copytree(world, folder)
    tree = json.loads(json.dumps(FILES[case.file]))
    for dotted, value in case.keys.items():
        *parents, last = dotted.split(".")
        holder: Any = tree
        for name in parents:
            holder = holder[int(name)] if isinstance(holder, list) else holder.setdefault(name, {})
        if value is OUT:
            del holder[last]
        else:
            holder[int(last) if isinstance(holder, list) else last] = value
    (folder / case.file).write_text(yaml.safe_dump(tree, sort_keys=False))
    for name, rows in case.rows.items():
        (folder / name).write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    for name in case.without:
        (folder / "model" / name).unlink()
    weights = folder / "model" / "model.safetensors"
    if case.cut:
        os.truncate(weights, case.cut)
    settings = dict(case.settings)
    if settings.pop("nan", False):
        weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    if settings:
        file = folder / case.model / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def ran(folder: Path, case: Case) -> Any:
    """What the program of the case's file says of a recipe."""
    return program("-m", *PROGRAMS[case.file], "--config", folder / case.file, cwd=folder)


@pytest.mark.parametrize("file", FILES)
def test_the_recipe_itself_is_right(world, tmp_path, file):
    folder = faulty(world, tmp_path, Case(file, ""))
    checked, done = program("-m", "apo_soup", "check", folder, cwd=folder), ran(folder, Case(file, ""))
    assert checked.returncode == 0, checked.stderr
    # The answers of a random model are all cut off.
    assert done.returncode == 0 or (file in ("pairs.yaml", "traces.yaml") and "cut off" in done.stderr), done.stderr


def test_check_ends_with_2_and_says_all(world, tmp_path):
    folder = faulty(world, tmp_path, Case("sft.yaml", "", {"learning_rat": 1, "seed": "x"}))
    checked = program("-m", "apo_soup", "check", folder, cwd=folder)
    assert checked.returncode == 2
    assert [line.count(": expected ") for line in checked.stderr.splitlines()] == [1, 1]


@pytest.mark.parametrize("name", BOTH)
def test_check_and_the_run_refuse_the_same(world, tmp_path, monkeypatch, name):
    case = BOTH[name]
    folder = faulty(world, tmp_path, case)
    monkeypatch.chdir(folder)
    problems = check_recipe(folder)[1]
    assert any(case.told in problem for problem in problems), problems
    done = ran(folder, case)
    assert done.returncode == 2, done.stdout + done.stderr
    assert case.told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", RUN_ONLY)
def test_what_only_the_run_can_see_is_refused_there(world, tmp_path, monkeypatch, name):
    """Where check sees one of them, it belongs to the table above."""
    _, case = RUN_ONLY[name]
    folder = faulty(world, tmp_path, case)
    monkeypatch.chdir(folder)
    assert check_recipe(folder)[1] == []
    done = ran(folder, case)
    assert done.returncode == 2, done.stdout + done.stderr
    assert case.told in done.stderr
    assert "Traceback" not in done.stderr


def test_no_more_than_these_are_left_to_the_run():
    assert len(RUN_ONLY) == 10
