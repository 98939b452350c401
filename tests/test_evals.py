"""Evaluation: intervals, verifiers, log-probabilities and generation against plain transformers."""

import json
import random

import jsonschema
import pytest
import torch
from helpers import ROOT, chat, preference, python
from transformers import AutoModelForCausalLM

from apo_soup.data.rows import RowError
from apo_soup.errors import UserError
from apo_soup.models.generation import Sampling, completed, end_ids, generate
from apo_soup.models.logprobs import completion_logprobs
from apo_soup.runs.inputs import verifier_code
from apo_soup.statistics import mean, share
from apo_soup.verify.answers import exact, number, obeys, verifier


def test_wilson_interval_worked_by_hand():
    """8 of 10: centre (0.8 + 1.9207/10) / 1.38415 = 0.7168, half-width 0.2266."""
    score = share([True] * 8 + [False] * 2)
    assert (score.value, score.n) == (0.8, 10)
    assert score.low == pytest.approx(0.4902, abs=1e-4)
    assert score.high == pytest.approx(0.9433, abs=1e-4)
    assert share([True] * 20).high == 1.0
    assert share([]).value is None


def test_mean_interval_worked_by_hand():
    """1, 2, 3: sample deviation 1, so the half-width is Student's 4.303 of two degrees over sqrt(3)."""
    score = mean([1.0, 2.0, 3.0])
    assert (score.value, score.n) == (2.0, 3)
    assert score.high - 2.0 == pytest.approx(4.302653 / 3**0.5)


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("<think>\n1 + 2 = 3\n</think>\n3", "3", True),
        ("<think>\n1 + 2 = 3\n</think>\n4", "3", False),
        ("3", "3", True),
        ("It costs $1,250.00", "1250", True),
        ("-7", "7", False),
        ("no number", "3", False),
        ("<think>\n3\n", "3", False),
        ("#### Step 2: Multiply\n9 * 2 = 18\nSo the answer is 18.", "18", True),
        ("#### Step 2: Multiply\n9 * 2 = 18\nSo the answer is 18.", "2", False),
        ("#### Final Answer\nShe makes $18 every day.", "18", True),
        ("The final answer is:\n- 42", "42", True),
        ("The final answer is:\n- 42", "-42", False),
        ("So the result is 10 - 7", "-7", False),
        ("x = - 5", "-5", True),
        ("**-5**", "-5", True),
        (r"\boxed{10^{6}}", "10", False),
        (r"\boxed{10^{6}}", "1000000", True),
        (r"5 \times 10^3", "5000", True),
        (r"\boxed{2^{10}}", "2", False),
        (r"\boxed{3\frac{1}{2}}", "3.5", True),
        ("3 1/2", "0.5", False),
        (r"\boxed{2x+3}", "3", False),
        (r"\boxed{2\sqrt{3}}", "3", False),
        (r"\boxed{\frac{\pi}{2}}", "2", False),
        (r"\boxed{x = 18 \text{ apples}}", "18", True),
        (r"\boxed{90^\circ}", "90", True),
        (r"\boxed{27 \text{ cm}^3}", "27", True),
        (r"\boxed{10 m/s}", "10", True),
        (r"\boxed{\text{18 apples}}", "18", True),
        (r"\boxed{x_1 = (18)}", "18", False),
        (r"\boxed{x_1 = 18}", "18", True),
        (r"\boxed{5h}", "5", True),
        (r"\boxed{2x}", "2", False),
        (r"\boxed{18 " + "a" * 5000 + "!}", "18", False),
        ("10^" + "9" * 5000, "3", False),
        ("#### 1. Step\nfoo\nThe answer is 42", "42", True),
        ("10000", "10 000", True),
        ("0", "10 000", False),
        ("1 234", "1234", True),
        ("she has 5 100 dollar notes: 5 100", "100", True),
        (r"\boxed{1\,800}", "1800", True),
        ("1.234,50 €", "1234.5", True),
        ("Der Code von Anna ist 4.821.", "4821", True),
        ("El código es 4.821", "4.821", True),
        ("4\u202f821", "4821", True),
        ("0." + "3" * 4500, "3", False),
        ("1e99999999", "5", False),
        ("-$3", "-3", True),
        ("It is \u22125.", "-5", True),
        (".5", "1/2", True),
        (r"so \frac{1}{2}", "0.5", True),
        ("4,5 kg", "4.5", True),
        ("10-3", "3", True),
        ("27 cm^3", "27", True),
        ("1{,}234", "1,234", True),
        ("1e5", "100000", True),
        ("50%", "50%", True),
        (r"\boxed{18} apples, after 3 steps", "18", True),
        ("#### 18\nThat took 3 steps", "#### 18", True),
        ("9007199254740993", "9007199254740992", False),
        ("1, 2, 3", "3", True),
    ],
)
def test_number_verifier(text, reference, right):
    assert number(text, reference) is right


@pytest.mark.parametrize("reference", ["nan", "3 or 4", "many"])
def test_a_reference_that_is_no_number_is_told(reference):
    with pytest.raises(RowError, match="needs a number"):
        number("3", reference)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        (r"2\sqrt{3}", r"\boxed{2\sqrt{3}}", True),
        (r"2\sqrt{3}", r"\boxed{2}", False),
        (r"3\pi", r"\boxed{3\pi}", True),
        (r"3\pi", r"\boxed{3}", False),
        ("2x+3", "$3+2x$", True),
        ("0.5", r"$\frac{1}{2}$", True),
        ("5", "It is 5", True),
    ],
)
def test_math_verifier_reads_all_of_a_formula(reference, answer, right):
    assert verifier("math", "here")(answer, reference) is right


def wrong_kind(text, reference):
    return "yes"


def test_a_verifier_of_ones_own_is_told_by_name():
    with pytest.raises(UserError, match=r"the verifier test_evals:wrong_kind gives true, false or a score .* 'yes'"):
        verifier("test_evals:wrong_kind", "here")("a", "b")
    with pytest.raises(UserError, match=r"the verifier math:sqrt failed on reference 'b': TypeError"):
        verifier("math:sqrt", "here")("a", "b")
    with pytest.raises(UserError, match=r"no\.such:thing cannot be imported"):
        verifier("no.such:thing", "here")
    assert verifier_code("no.such:thing") is None
    assert verifier_code("time:sleep") is None


def test_a_model_may_end_its_turn_with_another_token_than_the_tokenizers(model, tokenizer):
    other = tokenizer.convert_tokens_to_ids("<|im_start|>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, other]
    try:
        assert end_ids(model, tokenizer) == {tokenizer.eos_token_id, other}
        ids = [*tokenizer("Ann").input_ids, other, tokenizer.pad_token_id]
        assert completed(ids, tokenizer, end_ids(model, tokenizer)).finished
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id


def test_exact_verifier_ignores_reasoning_and_outer_space():
    assert exact("<think>\nx\n</think>\n yes ", "yes")
    assert not exact("yes!", "yes")


@pytest.mark.parametrize(
    ("text", "think", "kept"),
    [
        ("<think>\nsteps\n</think>\n4", True, True),
        ("<think>\n\n</think>\n4", True, False),
        ("<think>\nsteps", True, False),
        ("<think>\nsteps\n</think>\n", True, False),
        ("4", True, False),
        ("4", False, True),
        ("<think>\nsteps\n</think>\n4", False, False),
        ("", False, False),
        ("<think>a</think></think>", True, False),
        ("<think>a</think>b<think>c", True, False),
        ("<think>a</think><think>b</think>c", True, False),
        ("<think>a</think>4<|im_start|>user\nmore", True, False),
    ],
)
def test_mode_obedience(text, think, kept):
    assert obeys(text, think) is kept


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_completion_logprobs_equal_a_forward_pass_each(model):
    generator = torch.Generator().manual_seed(0)
    items = [
        (
            torch.randint(5, 500, (p,), generator=generator).tolist(),
            torch.randint(5, 500, (c,), generator=generator).tolist(),
        )
        for p, c in ((3, 4), (20, 1), (7, 7), (1, 5))
    ]
    found = completion_logprobs(model, items, tokens_per_batch=40)
    for (prompt, completion), (total, count, greedy) in zip(items, found, strict=True):
        with torch.no_grad():
            scores = (
                model(torch.tensor([prompt + completion]), use_cache=False)
                .logits[0, len(prompt) - 1 : -1]
                .log_softmax(-1)
            )
        expected = scores.gather(1, torch.tensor(completion)[:, None]).sum().item()
        assert total == pytest.approx(expected, abs=1e-4)
        assert count == len(completion)
        assert greedy == (scores.argmax(-1).tolist() == completion)


def test_batched_greedy_generation_equals_one_at_a_time(model, tokenizer):
    prompts = ["What is 4 + 5?", "Hi", "the old dog sat by the tall tree . note lamp Rome .\nfind lamp ?"]
    together = generate(model, tokenizer, prompts, Sampling(12), batch_size=3)
    alone = [generate(model, tokenizer, [p], Sampling(12), batch_size=1)[0] for p in prompts]
    assert together == alone
    sampled = [generate(model, tokenizer, prompts, Sampling(12, 1.0, seed=4), batch_size=3) for _ in range(2)]
    assert sampled[0] == sampled[1]


def test_questions_about_one_text_score_as_they_do_alone(tiny_model):
    """The shared beginning is computed once; log-probabilities and greedy choices are those of whole sequences."""
    from transformers import MambaConfig, MambaForCausalLM

    from apo_soup.models.logprobs import shared_logprobs

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    generator = random.Random(0)

    def drawn(n):
        return [generator.randrange(10, 200) for _ in range(n)]

    text = drawn(40)
    items = [([*text, *drawn(n)], drawn(m)) for n, m in ((3, 2), (1, 1), (7, 4))]
    likely = items[0][0], [model(torch.tensor([items[0][0]])).logits[0, -1].argmax().item()]
    for asked in (items, [items[0], likely], [items[0]]):
        ours, plain = shared_logprobs(model, asked, 10**6), completion_logprobs(model, asked, 10**6)
        assert [o[1:] for o in ours] == [p[1:] for p in plain]
        assert [o[0] for o in ours] == pytest.approx([p[0] for p in plain], rel=1e-5)
    assert shared_logprobs(model, [items[0], likely], 10**6)[1][2], "greedy agrees with the likeliest token"
    assert shared_logprobs(model, items, 16) == completion_logprobs(model, items, 16), "tails that do not fit"
    with torch.no_grad():
        config = MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
        recurrent = MambaForCausalLM(config).eval()
    assert len(shared_logprobs(recurrent, items, 10**6)) == 3, "a state that is no cache of keys and values"


def test_a_text_with_several_questions_is_one_item(tiny_model, write_rows, write_recipe, tmp_path):
    from apo_soup.config.recipe import load
    from apo_soup.evals.run import evaluate

    rows = [
        {"messages": chat("x", "")["messages"][:1], "prefix": f"found {k}", "answer": " Rome", "group": 128, "depth": d,
         "context": c}
        for c in ("a", "b", "c") for k, d in (("x", 0.0), ("y", 1.0))
    ]  # fmt: skip
    task = {"name": "needle", "kind": "recall", "data": str(write_rows("n.jsonl", rows))}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [task]}
    metrics = evaluate(load(write_recipe("eval.yaml", values), "eval"), tiny_model)["metrics"]
    assert metrics["needle/128"]["n"] == 3
    assert metrics["needle/128@0.0"]["n"] == metrics["needle/128@1.0"]["n"] == 3


def test_a_suite_runs_on_every_kind_and_is_not_run_twice(tiny_model, tokenizer, write_rows, write_recipe, tmp_path):
    questions = write_rows(
        "q.jsonl", [{"messages": chat("1 + 1?", "")["messages"][:1], "answer": "2", "group": "add"}] * 4
    )
    needles = [
        {"messages": chat("x", "")["messages"][:1], "prefix": "found x", "answer": " Rome", "group": g, "depth": 0.5}
        for g in (128, 256)
    ]
    tasks = [
        {"name": "sums", "kind": "answer", "data": str(questions), "max_new_tokens": 8},
        {"name": "needle", "kind": "recall", "data": str(write_rows("n.jsonl", needles))},
        {
            "name": "preference",
            "kind": "preference",
            "data": str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 3)),
        },
        {"name": "loss", "kind": "loss", "data": str(write_rows("c.jsonl", [chat("Q", "Ann Bob", False)] * 2))},
    ]
    values = {"output_dir": str(tmp_path / "evals"), "models": {"one": str(tiny_model)}, "tasks": tasks, "samples": 2}
    path = write_recipe("eval.yaml", values)
    first = python("-m", "apo_soup", "eval", "--config", path)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "evals" / "one" / "results.json").read_text())
    metrics = results["metrics"]
    assert metrics["sums/think"]["n"] == metrics["sums/no_think"]["n"] == 4
    assert metrics["sums/obedience"]["n"] == 8
    assert metrics["needle/128"]["n"] == 1
    assert metrics["preference"]["value"] in (0.0, 1.0)
    assert (metrics["loss"]["n"], metrics["loss"]["better"]) == (2, "lower")
    assert len(results["samples"]) == 4
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    jsonschema.validate(results, schema)
    again = python("-m", "apo_soup", "eval", "--config", path)
    assert "evals/one: up to date, skipped" in again.stdout
    missing = python("-m", "apo_soup", "eval", "--config", path, "--tasks.0.kind", "anwser")
    assert missing.returncode == 2
    assert (
        "no kind is called anwser; known: answer, tool, recall, preference, loss, context_loss, harness"
        in missing.stderr
    )


def evaluation(folder, **metrics):
    """A results.json with one task, its metrics by name as items."""
    from apo_soup.evals.metrics import item_metric

    told = {name: item_metric([float(i) for i in items], headline=True).as_json() for name, items in metrics.items()}
    task = {"kind": "answer", "rows": "r", "seconds": 1.0, "metrics": list(told)}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"tasks": {"t": task}, "metrics": told, "suite_hash": "s"}))
    return folder


def test_a_gate_fails_for_a_fall_beyond_noise_and_for_what_nobody_compared(tmp_path, capsys):
    from apo_soup.evals.compare import compare

    good = evaluation(tmp_path / "good", a=[1] * 40, b=[1] * 40)
    noise = evaluation(tmp_path / "noise", a=[0] * 5 + [1] * 35, b=[1] * 40)
    fallen = evaluation(tmp_path / "fallen", a=[0] * 6 + [1] * 34, b=[1] * 40)
    half = evaluation(tmp_path / "half", a=[1] * 40)
    assert compare(good, noise, [], -2e-2) == 0, "five of forty, all one way: p = 0.0625"
    assert compare(good, fallen, [], -0.02) == 1
    assert compare(good, fallen, [], -0.2) == 0
    assert compare(good, half, [], -0.02) == 1
    assert "b has no single items in both" in capsys.readouterr().out
    assert compare(good, half, [], None) == 0, "without a gate it is only told"
    assert compare(good, half, ["a"], -0.02) == 0, "only a was asked for"
    odd = evaluation(tmp_path / "odd", a=[0.5], b=[1] * 40)
    worse = evaluation(tmp_path / "worse", a=[0.4], b=[1] * 40)
    assert compare(odd, worse, [], -0.02) == 1, "one item says nothing"
    for value in ("nan", "0.05", "-inf"):
        with pytest.raises(UserError, match="a fall is a number of 0 or less"):
            compare(good, half, [], float(value))
    (half / "results.json").write_text(json.dumps({"tasks": {"t": {}}, "metrics": {}}))
    with pytest.raises(UserError, match="not the results of"):
        compare(good, half, [], None)


@pytest.mark.parametrize(
    ("one", "two", "low", "high"),
    [
        ([0] * 120, [1] * 6 + [0] * 114, 0.0090, 0.1048),
        ([0] * 120, [0] * 120, -0.0310, 0.0310),
        ([0] * 30, [1] * 5 + [0] * 25, 0.0, 0.3356),
        ([-1] * 6 + [0] * 34, [0] * 40, 0.0318, 0.2914),
        ([-1] * 10, [1] * 10, 2.0, 2.0),
    ],
)
def test_paired_shares_have_newcombes_interval_unless_mcnemar_says_no(one, two, low, high):
    from apo_soup.statistics import paired_difference

    found = paired_difference(one, two)
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))
    assert found.beyond_noise == (low > 0)


def test_few_items_widen_an_interval_and_one_has_none():
    from apo_soup.statistics import paired_difference

    three = paired_difference([0.0, 0.0, 0.0], [0.5, 0.6, 0.7])
    assert not three.beyond_noise, "three of three: p = 0.25 by signs alone"
    many = paired_difference([0.0] * 30, [0.1 + 0.01 * n for n in range(30)])
    assert many.beyond_noise
    assert mean([5.0]).low is None


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"kind": "context_loss", "data": "q.jsonl", "length": 0}, "length is a whole number of 8 or more"),
        ({"kind": "recall", "generate": {"keys": 0}}, "generate.keys counts from 1"),
        ({"kind": "recall", "generate": {"keys": 300}}, "generate.keys is at most 256"),
        ({"kind": "recall", "generate": {"depths": 0.5}}, "generate.depths is a list"),
        ({"kind": "recall", "generate": {"depths": [2.0]}}, "generate.depths are places from 0 to 1"),
        ({"kind": "recall", "generate": {"lengths": 128}}, "generate.lengths is a list"),
        ({"kind": "answer", "generate": {"count": -3}}, "generate.count counts from 1"),
        ({"kind": "harness", "tasks": [5]}, "tasks is a list of names or mappings"),
        ({"kind": "answer", "data": "q.jsonl", "limit": 0}, "limit is a whole number of 1 or more"),
    ],
)
def test_values_that_make_no_sense_are_told(tmp_path, task, told):
    from apo_soup.evals.suite import read_task

    (tmp_path / "q.jsonl").write_text("{}\n")
    entry = {"name": "x", **task, **({"data": str(tmp_path / "q.jsonl")} if "data" in task else {})}
    with pytest.raises(UserError, match=told):
        read_task(entry, "eval.yaml:3")


def test_options_that_contradict_are_told_and_a_part_never_replaces_the_whole(
    tiny_model, write_rows, write_recipe, tmp_path
):
    rows = str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 3))
    tasks = [{"name": name, "kind": "preference", "data": rows} for name in ("one", "two")]
    values = {"output_dir": str(tmp_path / "evals"), "models": {"m": str(tiny_model)}, "tasks": tasks}
    path = write_recipe("eval.yaml", values)
    assert python("-m", "apo_soup", "eval", "--config", path).returncode == 0
    for words, told in (
        (("--task", "one"), "holds two too, which --task would remove"),
        (("--model", str(tiny_model), "--only", "m"), "--model and --only both say which models"),
        (("--models", "{}"), "there is no model to evaluate"),
        (("--dtype", "flaot32"), "dtype is auto, float32"),
    ):
        refused = python("-m", "apo_soup", "eval", "--config", path, *words)
        assert refused.returncode == 2, words
        assert told in refused.stderr


def test_results_are_stale_when_a_verifier_or_a_file_of_the_harness_has_changed(write_rows, write_recipe, tmp_path):
    from apo_soup.config.recipe import load
    from apo_soup.runs.inputs import suite_inputs

    rows = write_rows("q.jsonl", [{"question": "1", "answer": "1"}])
    overlay = {"task": "gsm8k", "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    values = {"output_dir": "x", "tasks": [{"name": "g", "kind": "harness", "tasks": [overlay]}]}
    suite = load(write_recipe("eval.yaml", values), "eval")
    before = suite_inputs(suite)
    write_rows("q.jsonl", [{"question": "1", "answer": "2"}])
    assert suite_inputs(suite) != before
    values["tasks"][0] = {"name": "a", "kind": "answer", "data": str(rows), "verifier": "apo_soup.verify.answers:exact"}
    told = suite_inputs(load(write_recipe("eval.yaml", values), "eval"))
    assert "verifier apo_soup.verify.answers:exact" in told
    values["tasks"][0] = {"name": "g", "kind": "harness", "tasks": ["x"], "include": str(tmp_path / "none")}
    with pytest.raises(UserError, match="is no folder"):
        suite_inputs(load(write_recipe("eval.yaml", values), "eval"))
