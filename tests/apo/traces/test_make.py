"""Traces of models in this process and behind a server: rows that mid and sft read, and their provenance."""

import json

import pytest
from programs import run_ok

from apo_soup.config.load import load
from apo_soup.errors import UserError
from bench.serving import Proxy

pytest.importorskip("openai", reason="the openai package is not installed")


@pytest.fixture
def make_here():
    """Make the traces of a file in this process."""

    def make(path, *words):
        from apo.pairs.stage import asking_stage
        from apo.traces.make import make_traces

        recipe = load(path, "traces", list(words))
        make_traces(recipe, asking_stage(recipe))

    return make


@pytest.fixture
def server():
    """A server that says what a function of the request says; everything else is a real request over HTTP."""
    made = []

    def start(say):
        class Says(Proxy):
            def reply(self, number, path, body):
                text = say(json.loads(body))
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                told = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
                return 200, {"content-type": "application/json"}, json.dumps(told).encode()

        made.append(Says("http://127.0.0.1:9/v1"))
        return made[-1]

    yield start
    for one in made:
        one.close()


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def question_of(request):
    return request["messages"][-1]["content"]


def thinker(request):
    """Right for even numbers in its first half of draws, wrong for odd ones; cut thoughts for 7."""
    number = int(question_of(request).split()[1])
    answer = 2 * number if number % 2 == 0 or request["seed"] % 2 else 0
    return "<think>so" if number == 7 else f"<think>\n{number} + {number}\n</think>\n\nIt is {answer}<|im_end|>"


def files(tmp_path, write_rows, url, count=10, **changes):
    rows = [{"prompt": f"Double {n} please", "answer": 2 * n} for n in range(1, count + 1)]
    return {
        "output_dir": str(tmp_path / "run" / "traces"),
        "prompts": str(write_rows("prompts.jsonl", rows)),
        "mode": "think",
        "strong": {"model": "m", "base_url": url, "concurrency": 1, "retries": 0},
        "verifier": "number",
        "candidates": 3,
        **changes,
    }, tmp_path / "run" / "traces"


def test_verified_answers_make_rows_and_every_prompt_is_accounted_for(
    server, write_rows, write_recipe, tmp_path, make_here, capsys
):
    asked = server(thinker)
    values, folder = files(tmp_path, write_rows, asked.url, test_share=0.3)
    path = write_recipe("traces.yaml", values)
    make_here(path)
    shown = capsys.readouterr().out
    rows, drops = rows_of(folder / "train.jsonl") + rows_of(folder / "test.jsonl"), rows_of(folder / "drops.jsonl")
    assert {row["provenance"]["prompt"] for row in rows}.isdisjoint(drop["prompt"] for drop in drops)
    assert len({row["provenance"]["prompt"] for row in rows}) + len(drops) == 10
    assert {drop["reason"] for drop in drops} <= {"wrong", "think block not closed"}
    for row in rows:
        number = int(row["messages"][0]["content"].split()[1])
        said = f"<think>\n{number} + {number}\n</think>\n\nIt is {2 * number}"
        assert row["messages"][1:] == [{"role": "assistant", "content": said}]
        assert row["chat_template_kwargs"] == {"enable_thinking": True}
        told = row["provenance"]
        assert (told["verdict"], told["reference"], told["strong"]["candidates"]) == (1.0, str(2 * number), 3)
    assert len(rows) == len({row["messages"][0]["content"] for row in rows}), "the same words make one row"
    assert f"rows kept    {len(rows)}" in " ".join(shown.split(" " * 4)) or f"{len(rows)}" in shown
    before = len(asked.asked)
    make_here(path, "--keep", "best", "--tie_break", "shortest")
    assert len(asked.asked) == before, "another choice asks nothing again"
    assert "10 of 10 answered already" in capsys.readouterr().out


def test_a_judge_scores_what_no_reference_verifies(server, write_rows, write_recipe, tmp_path, make_here, capsys):
    """Votes are averaged, words without a score are counted, and a threshold decides."""

    def judge(request):
        text = question_of(request)
        assert "Double" in text, "the question is there"
        assert "It is" in text, "and so is the answer"
        number = int(text.split("Double ")[1].split()[0])
        return {1: "Good.\n**Score: 9**", 2: "Score: 3", 3: "9 of 10", 4: "Score: 11", 5: "Score: 9\nor so"}.get(
            number, f"<think>x</think>Score: {6 + request['seed'] % 2}"
        )

    asked = server(lambda r: judge(r) if r["model"] == "j" else thinker({**r, "seed": 1}))
    rows = [{"prompt": f"Double {n} please"} for n in range(1, 7)]
    values, folder = files(
        tmp_path, write_rows, asked.url, verifier=None, candidates=1, threshold=5,
        judge={"model": "j", "base_url": asked.url, "votes": 4, "temperature": 0.7, "retries": 0},
    )  # fmt: skip
    values |= {"prompts": str(write_rows("plain.jsonl", rows))}
    del values["verifier"]
    make_here(write_recipe("traces.yaml", values))
    kept = {int(r["messages"][0]["content"].split()[1]): r["provenance"] for r in rows_of(folder / "train.jsonl")}
    assert kept.keys() == {1, 6}
    assert kept[1]["score"] == 9
    assert 6 <= kept[6]["score"] <= 7
    assert kept[6]["judge"]["model"] == "j"
    reasons = {drop["row"].rpartition(":")[2]: drop["reason"] for drop in rows_of(folder / "drops.jsonl")}
    assert reasons == {"2": "below the threshold", **dict.fromkeys("345", "judge: no score")}
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert metrics["judge"] == {"asked": 6, "without_score": 3, "unread_votes": 12}
    assert all(a["temperature"] == 0.7 for a in asked.asked if a["model"] == "j")
    assert "judge" in capsys.readouterr().out


def test_what_a_judge_says_in_place_of_scores_is_told(server, write_rows, write_recipe, tmp_path, make_here):
    """One that was told another form, and one that is no more."""
    asked = server(lambda r: "Fine.\nI give it a 9" if r["model"] == "j" else thinker({**r, "seed": 1}))
    judge = {"model": "j", "base_url": asked.url, "retries": 0}
    values, _ = files(tmp_path, write_rows, asked.url, candidates=1, count=4, threshold=5, judge=judge)
    del values["verifier"]
    with pytest.raises(UserError, match=r"\(4 judge: no score: the judge ends with 'I give it a 9'\); change"):
        make_here(write_recipe("traces.yaml", values))
    values["judge"] |= {"base_url": "http://127.0.0.1:9/v1"}
    told = (
        r"judge.base_url: expected .* at http://127.0.0.1:9/v1, got a failure on one request \(Connection error.*\); "
    )
    with pytest.raises(UserError, match=f"{told}see whether the server still runs; the answers until now are kept"):
        make_here(write_recipe("traces.yaml", values))


def test_a_judge_is_asked_once_after_a_kill(server, write_rows, write_recipe, tmp_path, make_here):
    judged = []

    def say(request):
        if request["model"] != "j":
            return thinker({**request, "seed": 1})
        judged.append(question_of(request))
        return "Score: 8" if len(judged) != 4 else 1 / 0

    asked = server(say)
    values, _ = files(
        tmp_path, write_rows, asked.url, candidates=1, count=6, threshold=5,
        judge={"model": "j", "base_url": asked.url, "concurrency": 1, "retries": 0},
    )  # fmt: skip
    del values["verifier"]
    path = write_recipe("traces.yaml", values)
    with pytest.raises(UserError, match="judge"):
        make_here(path)
    make_here(path)
    assert len(judged) == len(set(judged)) + 1, "only the one that failed is asked twice"


def test_sft_trains_on_traces(talking_model, write_rows, write_recipe, tmp_path, make_here):
    rows = [{"prompt": f"Say {n} of {n * n}"} for n in range(16)]
    traces = tmp_path / "run" / "traces"
    path = write_recipe(
        "traces.yaml",
        {
            "output_dir": str(traces), "prompts": str(write_rows("prompts.jsonl", rows)), "mode": "no_think",
            "strong": {"model": str(talking_model)}, "temperature": 0.9, "candidates": 2, "max_new_tokens": 24,
        },
    )  # fmt: skip
    make_here(path)
    assert len(rows_of(traces / "train.jsonl")) > 5
    sft = write_recipe(
        "sft.yaml",
        {
            "model_name_or_path": str(talking_model), "output_dir": str(tmp_path / "run" / "sft"), "max_steps": 2,
            "dataset_mixture": {"datasets": [{"id": str(traces / "train.jsonl")}]}, "assistant_only_loss": True,
            "max_length": 128, "bf16": False, "dtype": "float32", "per_device_train_batch_size": 2,
            "save_strategy": "no", "max_reject_share": 0.5,
        },
    )  # fmt: skip
    run_ok("-m", "sft", "--config", sft)
    manifest = json.loads((tmp_path / "run" / "sft" / "manifest.json").read_text())
    assert manifest["metrics"]["train_loss"] > 0


def test_no_trace_at_all_is_an_error_with_its_reasons(server, write_rows, write_recipe, tmp_path, make_here):
    values, folder = files(tmp_path, write_rows, server(lambda r: "<think>a</think>It is -1").url)
    with pytest.raises(UserError, match=r"expected at least one trace, got none of 10 prompts \(10 wrong\)"):
        make_here(write_recipe("traces.yaml", values))
    assert len(rows_of(folder.parent / ".traces.partial" / "drops.jsonl")) == 10


def test_a_threshold_that_no_score_reaches_is_refused(write_recipe):
    """Every answer would be asked for and paid, and none would make a row."""
    server = {"model": "m", "base_url": "http://localhost:9/v1"}
    values = {"output_dir": "o", "prompts": "q.jsonl", "mode": "think", "strong": server, "judge": server}
    assert load(write_recipe("traces.yaml", values | {"threshold": 10}), "traces").threshold == 10
    with pytest.raises(UserError, match="threshold: expected at most 10, the judge's greatest score, got 50; lower it"):
        load(write_recipe("traces.yaml", values | {"threshold": 50}), "traces")
