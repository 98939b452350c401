"""What becomes of replies that are refusals, or none; whoever sends them, so no server stands behind."""

import json

import pytest
from endpoint_helpers import answers_of

from apo_soup.data.conversations.formats import canonical, formats_of
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from bench.serving import Proxy

pytest.importorskip("openai", reason="the openai package is not installed")


@pytest.fixture
def proxy():
    """What answers as it is told to, and passes nothing on."""
    made = []

    def make(fault):
        made.append(Proxy("http://127.0.0.1:9/v1", fault))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "api_key_env: expected an answer of the server at"),
        (404, "got status 404 for the model"),
        (500, "got 2 failures in a row on one request"),
    ],
)
def test_what_does_not_pass_stops_the_run_with_a_sentence(proxy, endpoint_recipe, status, told, make_here):
    between = proxy(lambda number: (status, {}))
    path, folder = endpoint_recipe(between.url, side={"retries": 1, "concurrency": 1})
    with pytest.raises(UserError) as error:
        make_here(path)
    assert told in str(error.value)
    assert between.url in str(error.value)
    assert not folder.exists()


def test_a_limit_that_never_ends_uses_up_the_tries_when_patience_does(proxy, endpoint_recipe, make_here, monkeypatch):
    monkeypatch.setattr("apo_soup.models.endpoint.client.LIMIT_PATIENCE", 0.3)
    between = proxy(lambda number: (429, {"Retry-After": "0.1"}))
    path, _ = endpoint_recipe(between.url, side={"concurrency": 1, "retries": 1}, count=1)
    with pytest.raises(UserError, match="got 2 failures in a row on one request"):
        make_here(path)
    assert len(between.asked) > 3, "told limits within it use up none"


def test_a_status_that_does_not_pass_is_one_sentence(proxy, endpoint_recipe, make_here):
    path, _ = endpoint_recipe(proxy(lambda number: (402, {})).url, count=4)
    with pytest.raises(UserError, match=r"expected an answer of the server at .*, got status 402"):
        make_here(path)


@pytest.mark.parametrize("wait", ["0", "-1", "Wed, 01 Jan 2020 00:00:00 GMT"])
def test_a_server_that_fails_and_asks_for_no_wait_uses_up_the_tries(proxy, endpoint_recipe, wait, make_here):
    between = proxy(lambda number: (500, {"retry-after": wait}))
    path, _ = endpoint_recipe(between.url, side={"retries": 1, "concurrency": 2}, count=4)
    with pytest.raises(UserError, match="got 2 failures in a row on one request"):
        make_here(path)
    assert len(between.asked) <= 4


def test_a_server_that_asks_for_an_hour_is_not_asked_before(proxy, endpoint_recipe, make_here):
    between = proxy(lambda number: (429, {"retry-after": "3600"}))
    path, _ = endpoint_recipe(between.url, side={"concurrency": 1}, count=4)
    with pytest.raises(UserError, match="got a request to come back in 3,600 s"):
        make_here(path)
    assert len(between.asked) == 1


GOOD = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}],
        "usage": {"completion_tokens": 1, "prompt_tokens": 2}}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"error": {"message": "overloaded, come back", "code": 503}},
        {"choices": []},
        {"choices": [None]},
        {"choices": ["x"]},
        {"choices": [{"message": "hi"}]},
        {"choices": [{"message": {"role": "assistant", "content": 4}}]},
    ],
)
def test_a_reply_that_is_none_is_tried_again_and_never_kept(proxy, endpoint_recipe, changes, make_here):
    """The first reply is malformed; the second try gets a whole one, and no traceback or record comes of the first."""
    between = proxy(lambda number: json.dumps(GOOD | (changes if number == 0 else {})).encode())
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1}, count=1)
    with pytest.raises(UserError, match=r"got none of 1 prompts \(1 both sides are the same\)"):
        make_here(path)
    assert len(between.asked) == 3
    assert all(c[0]["tokens"] == 1 for c in answers_of(folder).values())


def test_replies_in_parts_with_half_characters_or_parsed_calls(proxy, endpoint_recipe, make_here):
    """Sides in turn: parts and a lone surrogate make an answer, a parsed call and a content filter make none."""
    parts = [{"type": "text", "text": "four \ud83d"}, {"type": "text", "text": " it is"}]
    replies = [
        {"finish_reason": "eos", "message": {"role": "assistant", "content": parts}},
        {"finish_reason": "tool_calls", "message": {"role": "assistant", "content": None}},
        {"finish_reason": "end_turn", "message": {"role": "assistant", "content": "five", "reasoning_content": "\n"}},
        {"finish_reason": "stop", "message": {"role": "assistant", "content": "six"}},
    ]
    about = {"model": "served", "system_fingerprint": "b7"}
    between = proxy(lambda number: json.dumps(GOOD | about | {"choices": [replies[number]]}).encode())
    secret = {"extra_body": {"api_key": "sk-very-secret"}, "send_template_kwargs": False}
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1, **secret}, count=2)
    make_here(path)
    (row,) = map(json.loads, (folder / "train.jsonl").read_text().splitlines())
    assert row["chosen"][0]["content"] == "four ? it is"
    assert row["rejected"][0]["content"] == "five"
    assert row["provenance"]["servers"] == {"strong": "served@b7", "weak": "served@b7"}
    assert row["provenance"]["strong"]["send_template_kwargs"] is False
    assert "tool calls taken out of the answer by the server" in (folder / "drops.jsonl").read_text()
    assert "sk-very-secret" not in "".join(f.read_text() for f in folder.parent.rglob("*") if f.is_file())


def called(name, arguments):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_calls_that_a_server_parsed_are_the_turns_own(proxy, endpoint_recipe, make_here, write_rows, file_format):
    """Of both sides, with and without words before them; resumed from the journal as well. One that cannot be read, or
    of no tool that was offered, is a drop with its reason.
    """
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    prompts = [{"prompt": f"{n}?", "tools": tools} for n in range(5)]
    said = {
        0: ({"content": None, "tool_calls": [called("add", '{"a": "\\ud83d1"}')]}, {"content": "1"}),
        1: ({"content": "Adding."}, {"content": "So:", "tool_calls": [called("add", "{}"), called("add", '{"a": 2}')]}),
        2: ({"content": "3", "tool_calls": [called("add", '{"a": NaN}')]}, {"content": "3"}),
        3: ({"content": None, "tool_calls": [called("drop", "{}")]}, {"content": "4"}),
        4: ({"content": None, "function_call": {"name": "add", "arguments": ""}}, {"content": "5"}),
    }

    def answer(number):
        message = said[number % 5][number // 5]
        reason = "tool_calls" if "tool_calls" in message else "function_call" if len(message) > 1 else "stop"
        choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant"} | message}
        return json.dumps(GOOD | {"choices": [choice]}).encode()

    asked = str(write_rows("tools.jsonl", prompts))
    path, folder = endpoint_recipe(
        proxy(answer).url, side={"concurrency": 1}, prompts=asked, format=file_format, test_share=0
    )
    make_here(path)
    (kind,) = (one for one in formats_of(pairs=True) if one.name == "preference")
    rows = [canonical(row.fields, kind) for row in read_rows(Source(str(folder / f"train.{file_format}")), "rows")]
    assert [(pair.chosen[0], pair.rejected[0]) for pair in (parse_pair(row, {}) for row in rows)] == [
        (turn("", {"a": "?1"}), turn("1")),
        (turn("Adding."), turn("So:", {}, {"a": 2})),
        (turn("", {}), turn("5")),
    ]
    drops = [json.loads(line)["reason"] for line in (folder / "drops.jsonl").read_text().splitlines()]
    assert drops == [
        "strong: a tool call in the server's reply that cannot be read",
        "strong: a call of a tool that was not offered",
    ]


def turn(text, *calls):
    made = [{"type": "function", "function": {"name": "add", "arguments": values}} for values in calls]
    return {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}


def reply(text, **changes):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return json.dumps(GOOD | {"choices": [choice]} | changes).encode()


def rows_in(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_refused_prompts_are_dropped_with_the_servers_words_and_the_run_goes_on(proxy, endpoint_recipe, make_here):
    """Strong side: 403, an error in a 200, one in a choice; the next answers come without usage."""
    moderated = {"message": "moderated: violence"}
    replies = [
        (403, {}),
        json.dumps({"error": {**moderated, "code": "content_policy"}}).encode(),
        json.dumps(GOOD | {"choices": [{"finish_reason": "error", "error": moderated}]}).encode(),
        reply("four", usage=None),
        *(reply(f"five {n}", usage={"completion_tokens": None, "prompt_tokens": 2}) for n in range(4)),
    ]
    path, folder = endpoint_recipe(proxy(replies.__getitem__).url, side={"concurrency": 1, "retries": 0}, count=4)
    make_here(path)
    drops = [row["reason"] for row in rows_in(folder / "drops.jsonl")]
    assert "told to fail" in drops[0]
    assert all("moderated: violence" in reason for reason in drops[1:])
    (pair,) = rows_in(folder / "train.jsonl")
    assert pair["provenance"]["tokens"] == {"chosen": None, "rejected": None}
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert metrics["drops"] == {"refused by an engine": 3}
    assert metrics["cost"]["strong"] == {"prompt_tokens": 0, "completion_tokens": 0, "answers_without_tokens": 1}


def test_where_all_prompts_are_refused_the_words_are_told_and_listed(proxy, endpoint_recipe, make_here):
    between = proxy(lambda number: (403, {}))
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1}, count=2)
    with pytest.raises(UserError, match=r"got none of 2 prompts \(2 refused by an engine: .*told to fail") as error:
        make_here(path)
    assert len(between.asked) == 2, "the weak side is not asked for answers that pair with none"
    listed = folder.parent / ".pairs.partial" / "drops.jsonl"
    assert str(listed) in str(error.value)
    assert len(rows_in(listed)) == 2


def test_a_further_field_of_null_leaves_the_field_out(proxy, endpoint_recipe, make_here):
    """OpenAI's reasoning models refuse max_tokens, and any temperature but one."""
    between = proxy(lambda number: reply(f"it is {number}"))
    further = {"max_tokens": None, "temperature": None, "max_completion_tokens": 24}
    path, _ = endpoint_recipe(between.url, side={"extra_body": further}, count=1)
    make_here(path)
    assert len(between.asked) == 2
    for asked in between.asked:
        assert not {"max_tokens", "temperature"} & asked.keys()
        assert asked["max_completion_tokens"] == 24


def test_drops_are_there_where_every_prompt_made_a_pair(proxy, endpoint_recipe, make_here):
    path, folder = endpoint_recipe(proxy(lambda number: reply(f"it is {number}")).url, count=2)
    make_here(path)
    assert (folder / "drops.jsonl").read_text() == ""


def test_control_tokens_are_taken_off_the_end_and_drop_a_pair_inside(proxy, endpoint_recipe, make_here):
    texts = ["four<|im_end|>\n", "five</s>", "it is <|eot_id|> six", "\u200b<|im_end|>", "a", "b", "c", "d"]
    between = proxy(lambda number: reply(texts[number]))
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1}, count=4)
    make_here(path)
    assert [row["chosen"][0]["content"] for row in rows_in(folder / "train.jsonl")] == ["four", "five"]
    assert [row["reason"] for row in rows_in(folder / "drops.jsonl")] == [
        "strong: a control token inside",
        "strong: empty answer",
    ]
    assert json.loads((folder / "manifest.json").read_text())["metrics"]["ends_taken_off"] == 3
