"""What answers a suite's questions: this process, or a server that has the model loaded already."""

import json
import re

import pytest
from helpers import chat

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.program import EvalRequest, run_suite
from apo_soup.progress import QUIET
from apo_soup.runs.own_names import name_mark
from bench.serving import Proxy

pytest.importorskip("openai", reason="the openai package is not installed")


@pytest.fixture
def server():
    """A server that adds, wrong in no-think mode beyond 5; it refuses one question in a parrot's words."""

    class Adds(Proxy):
        finish = "stop"

        def reply(self, number, path, body):
            asked = json.loads(body)
            question = asked["messages"][-1]["content"]
            if question == "7 + 7?":
                told = {"error": {"message": f"no sevens: {json.dumps(asked)} {self.asked[number]['key']}"}}
                return 403, {"content-type": "application/json"}, json.dumps(told).encode()
            one = int(question.split()[0])
            think = asked["chat_template_kwargs"]["enable_thinking"]
            text = f"It is {2 * one if think or one <= 5 else 0}."
            message = {"role": "assistant", "content": text, "reasoning_content": "I add." if think else None}
            choice = {"index": 0, "finish_reason": self.finish, "message": message}
            return 200, {"content-type": "application/json"}, json.dumps({"choices": [choice]}).encode()

    made = Adds("http://127.0.0.1:9/v1")
    yield made
    made.close()


@pytest.fixture
def served_suite(server, write_rows, write_recipe, tmp_path):
    def make(*tasks, **endpoint):
        rows = [{"messages": chat(f"{n} + {n}?", "")["messages"][:1], "answer": str(2 * n)} for n in range(1, 11)]
        sums = {"name": "sums", "kind": "answer", "data": str(write_rows("q.jsonl", rows)), "max_new_tokens": 9}
        values = {
            "output_dir": str(tmp_path / "evals"), "models": {"one": "runs/none"}, "tasks": [sums, *tasks],
            "engine": "openai", "endpoint": {"model": "org/it", "base_url": server.url, "retries": 0, **endpoint},
        }  # fmt: skip
        return write_recipe("eval.yaml", values), tmp_path / "evals" / f"served-org-it@{name_mark(server.url)}"

    return make


def test_a_served_model_is_evaluated_as_one_here_would_be(served_suite, server, capsys, monkeypatch):
    monkeypatch.setenv(QUIET, "1")
    path, folder = served_suite()
    assert run_suite(path, EvalRequest(), []) == 0
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert metrics["sums/think"]["value"] == 0.9
    assert metrics["sums/no_think"]["value"] == 0.5
    assert metrics["sums/closed"]["value"] == 0.9
    assert metrics["sums/obedience"]["value"] == 0.9
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("org/it", 0, 9)
    assert "1 of 10 questions have no answer: refused by the server" in capsys.readouterr().out
    count = len(server.asked)
    assert run_suite(path, EvalRequest(), []) == 0
    assert len(server.asked) == count, "up to date"
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace(server.url, server.url.replace("127.0.0.1", "localhost")))
    made = (folder / "results.json").read_bytes()
    assert run_suite(other, EvalRequest(), []) == 0
    assert len(server.asked) > count, "another server's model of the same name has a place of its own"
    assert (folder / "results.json").read_bytes() == made


def test_calls_that_a_server_parsed_are_scored_as_the_model_wrote_them(server, write_rows, write_recipe, tmp_path):
    tools = [{"name": "add", "parameters": {"a": "integer"}}]
    rows = [
        {
            "messages": chat(f"{n} + 1?", "")["messages"][:1],
            "tools": tools,
            "call": {"name": "add", "arguments": {"a": 1}},
        }
        for n in (1, 2, 3)
    ]

    def reply(number, path, body):
        first = int(json.loads(body)["messages"][-1]["content"].split()[0])
        calls = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": first})}}]
        calls = (
            [*calls, {"id": "d", "type": "function", "function": {"name": "add", "arguments": "{"}}]
            if first == 3
            else calls
        )
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
        return 200, {"content-type": "application/json"}, json.dumps({"choices": [choice]}).encode()

    server.reply = reply
    task = {"name": "t", "kind": "tool", "data": str(write_rows("t.jsonl", rows)), "modes": "no_think"}
    values = {"output_dir": str(tmp_path / "e"), "tasks": [task], "engine": "openai"}
    values["endpoint"] = {"model": "m", "base_url": server.url, "retries": 0}
    assert run_suite(write_recipe("eval.yaml", values), EvalRequest(), []) == 0
    (results,) = (tmp_path / "e").glob("served-m*/results.json")
    metrics = json.loads(results.read_text())["metrics"]
    assert (metrics["t/no_think/valid"]["value"], metrics["t/no_think/right"]["value"]) == (2 / 3, 1 / 3)


def metrics_of(path):
    """The values of what a suite with a served model gives, by their names."""
    assert run_suite(path, EvalRequest(), []) == 0
    (results,) = (path.parent / "evals").glob("served-*/results.json")
    return {name: metric["value"] for name, metric in json.loads(results.read_text())["metrics"].items()}


def test_a_served_model_is_held_to_its_mode_turn_by_turn(server, write_rows, write_recipe, tmp_path, capsys):
    """It thinks in the first two turns of a conversation, whatever it is asked."""
    server.asked.clear()

    def reply(number, path, body):
        turn = sum(message["role"] == "user" for message in json.loads(body)["messages"])
        message = {"role": "assistant", "content": "3", "reasoning_content": "So 3." if turn <= 2 else None}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {"content-type": "application/json"}, json.dumps({"choices": [choice]}).encode()

    server.reply = reply
    rows = [{"messages": [m for n in range(3) for m in chat(f"{n} + {k}?", "")["messages"][:1]]} for k in (1, 2)]
    task = {"name": "held", "kind": "turns", "data": str(write_rows("q.jsonl", rows)), "turns": 3, "switch": 3}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [task, task | {"name": "said", "switch_by": "words"}]}
    values |= {"engine": "openai", "endpoint": {"model": "m", "base_url": server.url, "retries": 0}}
    found = metrics_of(write_recipe("eval.yaml", values))
    assert [found[f"held/think/turn_{n}"] for n in (1, 2, 3)] == [1, 1, 0]
    assert [found[f"held/no_think/turn_{n}"] for n in (1, 2, 3)] == [0, 0, 1]
    assert (found["held/think_to_no_think/turn_3"], found["held/no_think_to_think/turn_3"]) == (1, 0)
    assert found["said/think_to_no_think/turn_3"] == 1
    assert not any("said/no_think_to_think" in name for name in found), "an empty block may stand before its answers"
    assert "no switch to /think by words: whether the server's template" in capsys.readouterr().out
    last = next(a for a in server.asked if len(a["messages"]) == 6 and a["chat_template_kwargs"]["enable_thinking"])
    assert last["messages"][2]["content"] == "<think>\nSo 3.\n</think>\n\n3", "its own reasoning stands in its history"


def test_a_served_model_is_asked_whether_it_agrees_with_itself(server, write_rows, write_recipe, tmp_path):
    rows = [{"wordings": ["2 + 2?", "2 plus 2?"], "answer": "4"}, {"wordings": ["3 + 3?", "3 and 3?"], "answer": "7"}]
    task = {"name": "same", "kind": "consistency", "data": str(write_rows("q.jsonl", rows)), "modes": "think"}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [task], "engine": "openai"}
    values["endpoint"] = {"model": "m", "base_url": server.url, "retries": 0}
    found = metrics_of(write_recipe("eval.yaml", values))
    assert (found["same/think/agree"], found["same/think/agree_right"]) == (1, 0.5)


def test_what_a_server_takes_out_of_answers_is_told(served_suite, server, capsys):
    """Its parser of tools leaves a task of tool calls nothing to score."""
    server.finish = "tool_calls"
    path, _ = served_suite()
    assert run_suite(path, EvalRequest(), []) == 0
    told = "9 of 10 answers are not as the model wrote them: tool calls taken out of the answer by the server"
    assert told in capsys.readouterr().out


def test_no_secret_of_the_endpoint_is_written_or_printed(served_suite, server, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EVAL_KEY", "PLANTEDenvironment")
    body = {"auth": "PLANTEDbody", "nested": {"token": ["PLANTEDnested"]}, "top_p": 0.5}
    path, folder = served_suite(
        base_url=f"{server.url}?key=PLANTEDquery", api_key_env="EVAL_KEY", extra_body=body, concurrency=1
    )
    run_suite(path, EvalRequest(), [])
    assert any("PLANTEDenvironment" in str(asked) for asked in server.asked), "the key is sent"
    written = "".join(f.read_text() for f in tmp_path.rglob("*") if f.is_file() and f != path)
    assert "no sevens" in written + (shown := "".join(capsys.readouterr()))
    assert re.findall(r"PLANTED\w+", written + shown) == []
    assert json.loads((folder / "manifest.json").read_text())["config"]["endpoint"]["base_url"] == server.url


def test_what_a_server_cannot_do_is_refused_before_it_is_asked(served_suite, server, write_rows):
    recall = {"name": "needle", "kind": "recall", "data": str(write_rows("n.jsonl", [{}]))}
    path, _ = served_suite(recall)
    told = r"endpoint.tokenizer: expected one for task needle of kind recall, which reads the probabilities of given"
    with pytest.raises(UserError, match=told):
        run_suite(path, EvalRequest(), [])
    with pytest.raises(UserError, match="--model: expected no such flag with engine openai"):
        run_suite(path, EvalRequest(model="x", task=("sums",)), [])
    assert not server.asked
    assert run_suite(path, EvalRequest(task=("sums",)), []) == 0


def test_engine_and_endpoint_stand_together(served_suite, write_recipe):
    path, _ = served_suite()
    with pytest.raises(UserError, match="endpoint: expected engine: openai beside it, got none"):
        load(path, "eval", ["--engine", "auto"])
    with pytest.raises(UserError, match="engine: expected endpoint beside it, got none"):
        load(path, "eval", ["--endpoint", "null"])
    with pytest.raises(UserError, match="chat_template: expected none with engine openai, whose server renders with"):
        load(path, "eval", ["--chat_template", "apo-soup"])


def test_the_older_key_is_read_with_a_note(served_suite):
    path, _ = served_suite()
    path.write_text(path.read_text().replace("engine: openai", "harness_engine: transformers").split("endpoint:")[0])
    suite = load(path, "eval")
    assert suite.engine == "transformers"
    assert any("harness_engine is read as engine" in note for note in suite.notes)
    path.write_text(path.read_text() + "\nengine: auto\n")
    with pytest.raises(UserError, match="expected one of harness_engine and engine, its newer name, got both"):
        load(path, "eval")
