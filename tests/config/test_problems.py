# ruff: noqa: E501 - the sentences are long
"""Mistakes in stage files: all at once, one sentence each, with file, line, what was expected and what to do."""

import resource

import pytest
from helpers import python

from apo_soup.config.command_line import arguments
from apo_soup.config.load import load
from apo_soup.errors import UserError

MIXTURE = {"datasets": [{"id": "a.jsonl"}]}
GOOD = {
    "sft": {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": MIXTURE},
    "apo": {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": MIXTURE},
    "pairs": {"output_dir": "o", "prompts": "p", "mode": "think", "strong": {"model": "m"}, "weak": {"model": "n"}},
    "merge": {"output_dir": "o"},
    "eval": {"output_dir": "o", "tasks": [{"name": "a", "kind": "loss", "data": "x.jsonl"}]},
    "data": {"output_dir": "o", "counts": {"sft_talk": 3}},
}


def mistakes(write_recipe, kind, **changes):
    """Every sentence about a good file with some keys changed, without the file's path."""
    path = write_recipe(f"{kind}.yaml", {k: v for k, v in (GOOD[kind] | changes).items() if v != "(left out)"})
    with pytest.raises(UserError) as error:
        load(path, kind)
    return [line.strip().replace(f"{path}:", "") for line in str(error.value).splitlines()]


@pytest.mark.parametrize("kind", GOOD)
def test_good_files_are_good(kind, write_recipe):
    assert load(write_recipe(f"{kind}.yaml", GOOD[kind]), kind).kind == kind


def test_all_mistakes_are_told_at_once_in_the_files_order(write_recipe):
    mixture = {"datasets": [{"id": "a", "wieght": 1.0}, {"id": "b", "weight": 0}], "sede": 1}
    told = mistakes(write_recipe, "sft", model_name_or_path="(left out)", dataset_mixture=mixture, bf16="maybe", sed=1)
    assert told == [
        " model_name_or_path: expected text, got nothing; add it, or give --model_name_or_path VALUE",
        "5: dataset_mixture.datasets.0.wieght: expected a known key, got an unknown one; the nearest is weight",
        "7: dataset_mixture.datasets.1.weight: expected a number above 0, got 0; raise it above 0",
        "8: dataset_mixture.sede: expected a known key, got an unknown one; the nearest is seed",
        "9: bf16: expected true or false, got 'maybe'; write true or false, or leave the key out",
        "10: sed: expected a known key, got an unknown one; the nearest is seed",
    ]


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("sft", {"learning_rat": 1}, "6: learning_rat: expected a known key, got an unknown one; the nearest is learning_rate"),
        ("apo", {"rpo_alpha": 1.0}, "6: rpo_alpha: expected a key that is still read, got one that TRL has no more; write loss_type: [sigmoid, sft] with loss_weights: [1.0, ALPHA], ALPHA its value"),
        ("sft", {"lr": 1e-5}, "6: lr: expected a known key, got an unknown one; the nearest is learning_rate"),
        ("sft", {"Max-Length": 8}, "6: Max-Length: expected a known key, got an unknown one; the nearest is max_length"),
        ("sft", {"split": "train"}, "6: split: expected it below dataset_mixture.datasets or dataset_mixture.decontaminate, got it at the top of the file; move it below the one that is meant"),
        ("sft", {"batch_size": 32}, "6: batch_size: expected a known key, got an unknown one; the nearest is per_device_train_batch_size"),
        ("eval", {"torch_dtype": "auto"}, "6: torch_dtype: expected a known key, got an unknown one; the nearest is dtype"),
        ("merge", {"eval": "e.yaml"}, "2: eval: expected it below soup or sweep, got it at the top of the file; move it below the one that is meant"),
        ("merge", {"weight": 0.9}, "2: weight: expected it below merge.parameters or merge.models.parameters, got it at the top of the file; move it below the one that is meant"),
        ("pairs", {"model": "m"}, "8: model: expected it below strong or judge or weak, got it at the top of the file; move it below the one that is meant"),
        ("merge", {"merge_method": "linear"}, "2: merge_method: expected it below merge, got it at the top of the file; move it there"),
        ("eval", {"max_length": 8}, "6: max_length: expected a key of eval files, got one of mid and sft files; leave it out"),
        ("sft", {"warmup_steps": "10%"}, "6: warmup_steps: expected a number of 0 or more, got '10%'; write 0.1, or leave the key out"),
        ("sft", {"learning_rate": "0,0001"}, "6: learning_rate: expected a number above 0, got '0,0001'; write 0.0001, or leave the key out"),
        ("sft", {"save_steps": "1,000"}, "6: save_steps: expected a number of 0 or more, got '1,000'; write 1000, or 1.0, or leave the key out"),
        ("sft", {"max_length": "4k"}, "6: max_length: expected a whole number of 1 or more, got '4k'; write 4000, or 4096, or leave the key out"),
        ("sft", {"max_length": None}, "6: max_length: expected a whole number of 1 or more, got null; write a value, or leave the key out"),
        ("sft", {"learning_rate": float("nan")}, "6: learning_rate: expected a number above 0, got nan; write a finite number"),
        ("sft", {"dtype": "float33"}, "6: dtype: expected one of auto, bfloat16, float16, float32, got 'float33'; the nearest is float32"),
        ("sft", {"max_steps": 0}, "6: max_steps: expected a whole number of 1 or more, or -1 for num_train_epochs, got 0; write -1 to train for num_train_epochs, or leave the key out"),
        ("sft", {"chat_template_path": "t.jinja"}, "6: chat_template_path: expected no such key, since chat_template says it, got 't.jinja'; write chat_template with the file's path"),
        ("sft", {"dataset_mixture": {"datasets": []}}, "4: dataset_mixture.datasets: expected a list of 1 or more mappings with id, got []; add one"),
        ("sft", {"dataset_mixture": {"datasets": [{"weight": 1}]}}, "5: dataset_mixture.datasets.0.id: expected text, got nothing; add id to it"),
        ("sft", {"packing": True, "packing_strategy": "wrapped", "overflow": "drop"}, "8: overflow: expected no such key with packing_strategy: wrapped, which cuts the stream of all documents, got drop; leave the key out"),
        ("apo", {"overflow": "split"}, "6: overflow: expected truncate or drop, since a pair cannot be split, got split; write drop"),
        ("apo", {"checkpoints": [0.5, 0.5]}, "8: checkpoints.1: expected each checkpoint once, got 0.5 twice; keep one"),
        ("apo", {"checkpoints": [2.0]}, "7: checkpoints.0: expected a step's number, or a share of the steps between 0 and 1, got 2.0; write one such as 50 or 0.5, or remove it"),
        ("apo", {"members": [{1: 2}]}, "7: members.0.1: expected text as the key, got 1; put quotes around it"),
        ("apo", {"train_sampling_strategy": "group_by_length"}, "6: train_sampling_strategy: expected one of random, sequential, got 'group_by_length'; write one of these, or leave the key out"),
        ("pairs", {"strong": {"model": "m", "temprature": 1}}, "6: strong.temprature: expected a known key, got an unknown one; the nearest is temperature"),
        ("pairs", {"strong": {"model": "m", "dtype": "bflot16"}}, "6: strong.dtype: expected one of auto, float32, bfloat16, float16, float64, got 'bflot16'; the nearest is bfloat16"),
        ("pairs", {"weak": {"base_url": "http://x"}}, "6: weak.model: expected text, got nothing; add model to it"),
        ("pairs", {"weak": {"model": "m", "concurrency": 4}}, "8: weak.concurrency: expected a key of transformers, got one of openai; leave it out"),
        ("pairs", {"weak": {"engine": "openi", "model": "m"}}, "7: weak.engine: expected one of transformers, vllm, openai, got 'openi'; the nearest is openai"),
        ("pairs", {"filters": {"min_tokens": 5, "max_tokens": 2}}, "9: filters.min_tokens: expected at most max_tokens 2, got 5; lower it"),
        ("merge", {"options": {"device": "cuba"}}, "3: options.device: expected auto, cpu, or an accelerator such as cuda or cuda:1, got 'cuba'; correct it"),
        ("merge", {"soup": {"dtype": "int3"}}, "3: soup.dtype: expected one of float64, float32, float16, bfloat16, got 'int3'; write one of these, or leave the key out"),
        ("merge", {"sweep": {"weights": [0.5, 2]}}, "5: sweep.weights.1: expected a number between 0 and 1, got 2; lower it to 1 or less"),
        ("merge", {"sweep": {"weights": [0.5, 1, 0.5]}}, "6: sweep.weights.2: expected every weight once, got 0.5 again; list it once"),
        ("merge", {"sweep": {"guardrails": {"x": "y"}}}, "4: sweep.guardrails.x: expected a number of 0 or more, got 'y'; write it in digits, or remove it"),
        ("merge", {"long_context": {}}, "2: long_context.factor: expected a number above 1, got nothing; add factor to it"),
        ("eval", {"tasks": [{"name": "a", "kind": "anwser", "data": "x"}]}, "4: tasks.0.kind: expected one of answer, tool, turns, consistency, safety, recall, preference, loss, context_loss, harness, livecodebench, bfcl, got 'anwser'; the nearest is answer"),
        ("eval", {"tasks": [{"name": "a", "kind": "loss", "data": "x", "length": 9}]}, "6: tasks.0.length: expected a key of loss, got one of context_loss; leave it out"),
        ("eval", {"tasks": [{"name": "a", "kind": "tool", "data": "x", "modes": ["loud"]}]}, "7: tasks.0.modes.0: expected one of think, no_think, got 'loud'; write one of these, or remove it"),
        ("eval", {"tasks": [{"name": "a", "kind": "turns", "data": "x", "turns": 5, "limit": 0}]}, "7: tasks.0.limit: expected a whole number of 1 or more, got 0; raise it to 1 or more"),
        ("eval", {"tasks": [{"name": "a", "kind": "turns", "data": "x", "turns": 99}]}, "6: tasks.0.turns: expected a whole number between 1 and 64, got 99; lower it to 64 or less"),
        ("eval", {"tasks": [{"name": "a", "kind": "consistency", "data": "x", "turns": 3}]}, "6: tasks.0.turns: expected a key of consistency, got one of turns; leave it out"),
        ("pairs", {"verifier": False}, "8: verifier: expected text, got false; put quotes around it, or leave the key out"),
        ("data", {"counts": {"a": -1}}, "3: counts.a: expected a whole number of 1 or more, got -1; raise it to 1 or more"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_line(kind, changes, told, write_recipe):
    (only,) = mistakes(write_recipe, kind, **changes)
    assert only == told


def test_a_file_of_mergekits_is_sent_below_merge_as_a_whole(write_recipe):
    """`dtype` could be the soup's too, and `models` the sweep's."""
    given = {"merge_method": "linear", "models": [{"model": "m"}], "dtype": "float32"}
    told = "expected it below merge, got it at the top of the file; move it there"
    assert mistakes(write_recipe, "merge", **given) == [
        f"{n}: {key}: {told}" for n, key in zip((2, 3, 5), given, strict=True)
    ]


def test_what_two_keys_say_together_is_told_beside_what_one_says(write_recipe):
    told = mistakes(write_recipe, "pairs", keep="right_over_wrong", candidates=0, mode="thinking")
    assert [line.partition(": ")[2].partition(":")[0] for line in told] == ["mode", "keep", "candidates"]


def test_a_misspelt_kind_hides_no_other_mistake(write_recipe):
    """Those of its own mapping are told as of the kind that was meant, and those of the others with it."""
    first = {"name": "a", "kind": "anwser", "limt": 3, "data": "x", "modes": "loud"}
    others = [{"name": "b", "kind": "tool"}, {"name": "b", "kind": "loss", "data": "x"}]
    assert mistakes(write_recipe, "eval", tasks=[first, *others]) == [
        "4: tasks.0.kind: expected one of answer, tool, turns, consistency, safety, recall, preference, loss, context_loss, harness, livecodebench, bfcl, got 'anwser'; the nearest is answer",
        "5: tasks.0.limt: expected a known key, got an unknown one; the nearest is limit",
        "7: tasks.0.modes: expected one of think, no_think, got 'loud'; write one of these, or leave the key out",
        "8: tasks.1.name: expected data or generate for task b, got neither; add one",
        "10: tasks.2.name: expected a name of its own, got b twice; rename one",
    ]


@pytest.mark.parametrize(
    ("kind", "changes", "key"),
    [
        ("pairs", {"verifier": False, "keep": "right_over_wrong", "reference": "a"}, "verifier"),
        ("pairs", {"filters": {"language": "nein", "languages": ["de"]}}, "filters.language"),
        ("pairs", {"filters": {"min_tokens": 9, "max_tokens": "few"}}, "filters.max_tokens"),
        ("pairs", {"temperature": "hot", "candidates": 3, "weak": {"model": "n", "temperature": 1}}, "temperature"),
        ("sft", {"dataset_mixture": {**MIXTURE, "deduplicate": "neer", "deduplicate_threshold": 0.9}}, "dataset_mixture.deduplicate"),
        ("sft", {"packing": True, "packing_strategy": "bdf_split", "overflow": "drop"}, "packing_strategy"),
        ("merge", {"sweep": {"weights": [0.5, 2]}}, "sweep.weights.1"),
        ("eval", {"tasks": [{"name": "a", "kind": "answer", "generate": {"count": 0}}]}, "tasks.0.generate.count"),
    ],
)  # fmt: skip
def test_nothing_follows_from_a_key_that_is_wrong_itself(kind, changes, key, write_recipe):
    (only,) = mistakes(write_recipe, kind, **changes)
    assert only.partition(": ")[2].startswith(f"{key}: expected ")


def test_a_secret_of_the_wrong_type_is_not_shown(write_recipe):
    told = mistakes(write_recipe, "sft", hub_token=["hf_verysecret"])
    assert told == [
        "6: hub_token: expected text, got a value that is not shown; write the value without brackets, or leave the key out"
    ]


def seconds_of_children() -> float:
    """Processor time of finished child processes, which a busy machine does not stretch as it does the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def second() -> float:
    """A second; more on a slow machine, one that takes over 0.2 s to import what every program of ours begins with."""
    taken = []
    for _ in range(3):
        before = seconds_of_children()
        assert python("-c", "import dataclasses, json, pydantic.main, typing, yaml").returncode == 0
        taken.append(seconds_of_children() - before)
    return max(1.0, min(taken) / 0.2)


MISTAKES = {
    "unknown key": (
        {"learning_rat": 1},
        "learning_rat: expected a known key, got an unknown one; the nearest is learning_rate",
    ),
    "wrong type": ({"seed": "x"}, "seed: expected a whole number from 0 to 2**32 - 1, got 'x'"),
    "missing model": ({"model_name_or_path": "./nowhere"}, "./nowhere"),
    "not a model": ({"model_name_or_path": "recipes"}, "config.json"),
    "missing rows": ({"dataset_mixture": {"datasets": [{"id": "no.jsonl"}]}}, "no.jsonl"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake_is_one_sentence_exit_2_in_a_second(name, write_recipe, write_rows, tiny_model, second):
    change, expected = MISTAKES[name]
    rows = write_rows("rows.jsonl", [{"messages": []}])
    good = {
        "model_name_or_path": str(tiny_model),
        "output_dir": "o",
        "dataset_mixture": {"datasets": [{"id": str(rows)}]},
    }
    path = write_recipe("sft.yaml", good | change)
    before = seconds_of_children()
    result = python("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert seconds_of_children() - before < second


@pytest.mark.parametrize("program", ["sft", "apo", "apo.pairs", "merge", "merge.sweep", "apo_soup", "apo_soup.toy"])
def test_help_answers_in_a_second(program, second):
    before = seconds_of_children()
    result = python("-m", program, "--help")
    assert result.returncode == 0
    assert "usage" in result.stdout.lower()
    assert seconds_of_children() - before < second


def test_a_missing_file_is_told(tmp_path):
    for path, told in (
        (tmp_path / "none.yaml", f"got {tmp_path / 'none.yaml'}, which is not there; check the path (looked for "),
        (tmp_path, f"got the folder {tmp_path}; name a file in it"),
    ):
        with pytest.raises(UserError) as refused:
            load(path, "apo")
        assert str(refused.value).startswith(f"--config: expected a configuration file, {told}")


def test_a_flag_in_a_wrong_way_is_one_sentence(monkeypatch):
    flag = ("--only", {"choices": ("soup", "merged")})
    for words, told in (
        ([], "the following arguments are required: --config"),
        (["--config", "f", "--only"], "argument --only: expected one argument"),
        (["--config", "f", "--only", "sou"], "argument --only: invalid choice: 'sou' (choose from "),
    ):
        monkeypatch.setattr("sys.argv", ["merge", *words])
        with pytest.raises(UserError) as refused:
            arguments("merge", "", flag)
        assert str(refused.value).startswith(f"python -m merge: expected words that it takes, got a refusal: {told}")
        assert str(refused.value).endswith("; see its --help")


def test_a_misspelt_option_is_told_with_the_nearest_of_options_and_keys(write_recipe):
    path = write_recipe("sft.yaml", {"model_name_or_path": "m", "output_dir": "run", "dataset_mixture": MIXTURE})
    for word, near in (("--shrad", "--shard"), ("--jion", "--join"), ("--sede", "seed"), ("--lora_rr", "lora_r")):
        with pytest.raises(UserError) as refused:
            load(path, "sft", [word, "1"], ["--config", "--shard", "--join"])
        told = f"{word[2:]}: expected a known key or option, got an unknown one; the nearest is {near}"
        assert str(refused.value) == f"{path} (command line): {told}"
    with pytest.raises(UserError) as refused:
        load(path, "sft", ["--zz", "1"], ["--config", "--verify"])
    told = (
        "expected a known key or option, got an unknown one; remove it, or find its name in --help or docs/recipes.md"
    )
    assert str(refused.value) == f"{path} (command line): zz: {told}"


def test_a_key_of_the_other_kind_of_training_file_says_whose_it_is(write_recipe):
    rows = {"model_name_or_path": "m", "output_dir": "runs/x/y", "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}}
    for kind, key, told in (
        ("sft", "beta", "expected a key of mid and sft files, got one of apo files; leave it out"),
        ("apo", "packing", "expected a key of apo files, got one of mid and sft files; leave it out"),
        ("apo", "packin", "expected a known key, got an unknown one; remove it, or find"),
    ):
        with pytest.raises(UserError) as refused:
            load(write_recipe(f"{kind}.yaml", rows | {key: True}), kind)
        assert f"{kind}.yaml:6: {key}: {told}" in str(refused.value)


def test_what_is_wrong_with_entries_of_the_harness_is_told_at_once(write_recipe):
    entries = ["gsm8k", {"dataset_path": "json"}, {"task": "ifeval", "dataset_kwargs": "rows.jsonl", "other": 1}]
    suite = {"output_dir": "run", "tasks": [{"name": "h", "kind": "harness", "tasks": entries}]}
    path = write_recipe("eval.yaml", suite)
    with pytest.raises(UserError) as raised:
        load(path, "eval")
    assert str(raised.value).split("\n       ") == [
        f"{path}:7: tasks.0.tasks.1.task: expected text of 1 or more characters, got nothing; add task to it",
        f"{path}:9: tasks.0.tasks.2.dataset_kwargs: expected a mapping, got 'rows.jsonl'; write a mapping, a line "
        "`name: value` each, or leave the key out",
    ]


def test_a_null_of_a_served_evaluation_gets_one_remark(write_recipe):
    further = {"max_tokens": None, "temperature": 0.5}
    served = {"model": "m", "base_url": "http://localhost:8000/v1", "extra_body": further}
    notes = load(write_recipe("eval.yaml", {**GOOD["eval"], "engine": "openai", "endpoint": served}), "eval").notes
    assert [note.partition("endpoint.extra_body: ")[2] for note in notes if "extra_body" in note] == [
        "its max_tokens is null, so no request has that field",
        "its temperature takes the place of what each task says",
    ]
