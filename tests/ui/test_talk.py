"""Answers: one at a time, stopped when nobody listens, and what goes wrong in a sentence."""

import shutil
import threading

import pytest

from apo_soup.ui.talk import AskedAnswer, Talker, Turn


@pytest.fixture
def talker(recipe):
    return Talker(recipe)


def asked(model="two", question="1 + 1?", **more) -> AskedAnswer:
    return AskedAnswer(model=model, think=False, turns=[Turn(role="user", content=question)], **more)


def told(talker, question, stopped=None) -> list[dict]:
    events: list[dict] = []
    talker.answer(question, events.append, stopped or threading.Event())
    return events


def test_one_answer_is_written_at_a_time(talker):
    """Another one waits, says so, and begins when the first has ended."""
    events, waits, began = [], threading.Event(), threading.Event()

    def first(event):
        events.append(("first", event["kind"]))
        if event["kind"] == "piece":
            began.set()
            assert waits.wait(30)

    def second(event):
        events.append(("second", event["kind"]))
        if event["kind"] == "wait":
            waits.set()

    one = threading.Thread(target=talker.answer, args=(asked(max_new_tokens=5), first, threading.Event()))
    one.start()
    assert began.wait(60)
    talker.answer(asked("one", max_new_tokens=3), second, threading.Event())
    one.join()
    kinds = [kind for kind in events if kind != ("second", "wait")]
    ended = kinds.index(("first", "done"))
    assert ("second", "wait") in events
    assert all(who == "first" for who, _ in kinds[: ended + 1])
    assert kinds[-1] == ("second", "done")


def test_an_answer_that_nobody_wants_ends_at_its_next_token(talker):
    stopped, events = threading.Event(), []

    def emit(event):
        events.append(event)
        if event["kind"] == "piece":
            stopped.set()

    talker.answer(asked(max_new_tokens=400), emit, stopped)
    assert events[-1]["kind"] == "done"
    assert events[-1]["tokens"] < 20
    assert told(talker, asked(max_new_tokens=1))[-1]["kind"] == "done", "the next one is not kept waiting"


def test_one_that_waits_can_be_stopped(talker):
    talker._turn.acquire()
    stopped, events = threading.Event(), []

    def emit(event):
        events.append(event)
        stopped.set()

    talker.answer(asked(), emit, stopped)
    assert events == [{"kind": "wait"}]


def test_greedy_is_the_likeliest_token_and_a_temperature_is_drawn(talker):
    def text(temperature):
        return "".join(e.get("text", "") for e in told(talker, asked(temperature=temperature, max_new_tokens=12)))

    assert text(0) == text(0)
    assert len({text(5.0) for _ in range(3)}) > 1


def test_a_conversation_goes_on_with_its_system_prompt_and_without_earlier_reasoning(talker):
    from apo_soup.evals.next_answer import next_answer
    from apo_soup.ui.chat_models import chat_models
    from apo_soup.ui.talk import _messages

    turns = [("user", "1?"), ("assistant", "<think>\nwell\n</think>\n\n1."), ("user", "2?")]
    question = AskedAnswer(
        model="two", think=False, system="Be kind.", max_new_tokens=9999,
        turns=[Turn(role=role, content=content) for role, content in turns],
    )  # fmt: skip
    loaded = talker.shelf.get(chat_models(talker.recipe)[1])
    text, settings = next_answer(loaded, "two", _messages(question), False, question.max_new_tokens)
    assert "Be kind." in text
    assert "well" not in text
    assert text.index("1.<|im_end|>") < text.index("2?<|im_end|>")
    assert settings["max_new_tokens"] == 512 - settings["input_ids"].shape[1], "no more than the context holds"


def test_an_answer_ends_where_the_template_ends_a_turn(recipe, base_like_qwen, tiny_model):
    file = recipe / "eval.yaml"
    file.write_text(file.read_text().replace(str(tiny_model), str(base_like_qwen)))
    events = told(Talker(recipe), asked(max_new_tokens=300, temperature=1.0))
    assert events[-1]["tokens"] < 300
    assert not events[-1]["full"]
    assert "<|im_end|>" not in "".join(event.get("text", "") for event in events)


def test_a_checkpoint_that_goes_is_told_and_one_that_is_made_anew_is_loaded(talker, recipe, tiny_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    file = recipe / "eval.yaml"
    file.write_text(file.read_text().replace(str(tiny_model), str(copy)))
    few = asked(max_new_tokens=2, temperature=0)
    assert next(event["kind"] for event in told(talker, few)) == "load"
    assert "load" not in [event["kind"] for event in told(talker, few)]
    shutil.move(copy, tmp_path / "away")
    (problem,) = told(talker, few)
    assert problem["told"].startswith("two: expected a model folder, got ")
    assert "which is not there" in problem["told"]
    shutil.copytree(tmp_path / "away", copy, copy_function=shutil.copy)
    assert next(event["kind"] for event in told(talker, few)) == "load"
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    assert "whose tokenizer cannot be loaded" in told(talker, few)[-1]["told"]
    (copy / "model.safetensors").write_bytes(b"x" * 20)
    assert "safetensors" in told(talker, few)[-1]["told"]


def test_a_fault_of_ours_is_told_and_shown_in_the_terminal(talker, capsys):
    class Broken:
        def get(self, *_):
            raise RuntimeError("no such thing")

    talker.shelf = Broken()
    assert told(talker, asked()) == [
        {"kind": "problem", "told": "RuntimeError: no such thing; the terminal shows where"}
    ]
    assert "Traceback" in capsys.readouterr().err
