"""Pairs from a real OpenAI-compatible server on loopback, whole and misbehaving."""

import contextlib
import json
import random
import time

import pytest
from endpoint_helpers import answers_of
from programs import Programs, kill_when, run_ok

from apo_soup.errors import UserError
from bench.serving import Proxy, Server

pytest.importorskip("openai", reason="the openai package is not installed")
pytest.importorskip("fastapi", reason="fastapi, which transformers serve needs, is not installed")


@pytest.fixture(scope="module")
def server(talking_model):
    found = Server(talking_model)
    yield found
    found.kill()


@pytest.fixture
def proxy(server):
    made = []

    def make(fault=lambda number: None):
        made.append(Proxy(server.url, fault))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_many_requests_at_once_give_a_pair_or_a_reason_for_every_prompt(
    proxy, endpoint_recipe, monkeypatch, capsys, make_here
):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    between = proxy()
    path, folder = endpoint_recipe(between.url, candidates=2, side={"api_key_env": "MY_KEY"})
    make_here(path)
    assert len(between.asked) == 12 * 2 * 2
    assert 2 <= between.most <= 4
    assert {a["key"] for a in between.asked} == {"Bearer sk-very-secret"}
    assert {a["temperature"] for a in between.asked} == {0.7, 1.2}
    assert all(a["chat_template_kwargs"] == {"enable_thinking": False} for a in between.asked)
    assert len({a["seed"] for a in between.asked}) == 48, "every candidate has a seed of its own"
    kept, dropped = (
        [json.loads(x) for x in (folder / f"{n}.jsonl").read_text().splitlines()] for n in ("train", "drops")
    )
    assert len(kept) + len(dropped) == 12
    assert kept
    assert kept[0]["provenance"]["strong"]["engine"] == "openai"
    assert between.url in kept[0]["provenance"]["strong"]["content"]
    written = "".join(f.read_text() for f in folder.parent.rglob("*") if f.is_file())
    assert "sk-very-secret" not in written + capsys.readouterr().out


def test_passing_failures_are_waited_out(proxy, endpoint_recipe, make_here):
    """429 with Retry-After, 5xx, and a request that hangs beyond the time-out: everything is answered in the end."""
    faults = {1: (429, {"retry-after": "1"}), 5: (500, {}), 6: (503, {}), 9: "hang"}
    between = proxy(faults.get)
    path, folder = endpoint_recipe(between.url, side={"timeout": 2.0})
    make_here(path)
    assert len(answers_of(folder)) == 24
    assert len(between.asked) == 24 + len(faults)
    # Nobody asks while the server wants quiet, but for what was under way already.
    refused = between.times[1]
    assert sum(refused + 0.1 < t < refused + 0.9 for t in between.times) == 0


def test_a_rate_limit_is_kept(proxy, endpoint_recipe, make_here):
    between = proxy()
    path, _ = endpoint_recipe(between.url, count=6, side={"requests_per_minute": 600.0})
    with contextlib.suppress(UserError):  # where none of the random answers makes a pair
        make_here(path)
    assert len(between.asked) == 2 * 6
    gaps = [b - a for a, b in zip(between.times, between.times[1:], strict=False)]
    assert between.times[5] - between.times[0] >= 0.45, "six requests of one side, a tenth of a second apart"
    assert sorted(gaps)[len(gaps) // 2] > 0.05


def test_a_prompt_the_server_refuses_is_a_drop_with_its_words(proxy, endpoint_recipe, make_here):
    between = proxy(lambda number: (400, {}) if number == 0 else None)
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1}, count=8)
    make_here(path)
    drops = [json.loads(line) for line in (folder / "drops.jsonl").read_text().splitlines()]
    assert [d["reason"] for d in drops if "told to fail" in d["reason"]]
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert metrics["drops"]["refused by an engine"] == 1


def test_a_server_that_dies_midway_loses_nothing(talking_model, server, endpoint_recipe, make_here):
    """It is killed after some answers; the run stops with a sentence, and goes on when there is a server again."""
    mortal = Server(talking_model)
    between = Proxy(mortal.url, lambda number: mortal.kill() if number == 5 else None)
    path, folder = endpoint_recipe(between.url, side={"retries": 0, "concurrency": 1})
    # The proxy closes the connection when it finds nobody behind it.
    with pytest.raises(UserError, match="the answers until now are kept, run the same command again"):
        make_here(path)
    kept = answers_of(folder)
    assert len(kept) == 5
    between.target, between.fault = server.url, lambda number: None
    make_here(path)
    whole = answers_of(folder)
    assert len(whole) == 24
    assert all(whole[key] == kept[key] for key in kept)
    between.close()


def test_twenty_kills_lose_double_and_tear_nothing(proxy, endpoint_recipe):
    between = proxy()
    path, folder = endpoint_recipe(between.url, count=90)
    generator, lives = random.Random(0), []
    for _ in range(20):
        before, begun = answers_of(folder), len(between.asked)
        running, later = Programs("-m", "apo.pairs", "--config", path), generator.uniform(0.0, 0.15)
        # Seconds behind the first question. Twenty kills must fit into the run.
        kill_when(running, lambda b=begun, s=later: len(between.times) > b and time.monotonic() > between.times[b] + s)
        lives.append((before, begun))
    run_ok("-m", "apo.pairs", "--config", path)
    whole = answers_of(folder)
    assert len(whole) == 180
    side_of = {0.7: "strong", 1.2: "weak"}
    prompts = {json.dumps(p["messages"]): p["id"] for p in identities(path)}
    for (before, begun), end in zip(lives, [*(n for _, n in lives[1:]), len(between.asked)], strict=True):
        for asked in between.asked[begun:end]:
            key = (side_of[asked["temperature"]], prompts[json.dumps(asked["messages"])])
            assert key not in before, "a finished prompt is not asked again"
        assert all(whole[key] == before[key] for key in before), "a kept answer stays as it is"
    kept, dropped = (
        [json.loads(x) for x in (folder / f"{n}.jsonl").read_text().splitlines()] for n in ("train", "drops")
    )
    ids = [p["provenance"]["prompt"] for p in kept] + [d["prompt"] for d in dropped]
    assert sorted(ids) == sorted(prompts.values()), "every prompt once"


def identities(path):
    from apo.pairs.prompts import read_prompts
    from apo_soup.config.load import load

    return [vars(p) for p in read_prompts(load(path, "pairs"), None).usable]


def test_a_server_that_keeps_saying_when_to_come_back_is_obeyed_and_not_given_up(proxy, endpoint_recipe, make_here):
    """Two requests in half a second, 429 with Retry-After for the rest: far more refusals than `retries`."""
    from time import monotonic

    window: list[float] = []

    def limited(number):
        now = monotonic()
        window[:] = [t for t in window if now - t < 0.5]
        if len(window) >= 2:
            return 429, {"Retry-After": "0.5"}
        window.append(now)
        return None

    between = proxy(limited)
    path, folder = endpoint_recipe(between.url, side={"concurrency": 12, "retries": 1}, count=6)
    with contextlib.suppress(UserError):  # where none of the random answers makes a pair
        make_here(path)
    assert len(answers_of(folder)) == 2 * 6


def test_a_prompt_too_long_for_the_server_is_a_drop(proxy, endpoint_recipe, make_here):
    path, folder = endpoint_recipe(proxy({0: (413, {})}.get).url, side={"concurrency": 1})
    make_here(path)
    assert "refused by the server" in (folder / "drops.jsonl").read_text()


def test_a_server_that_refuses_everything_is_told_in_its_words_and_asked_again(proxy, endpoint_recipe, make_here):
    between = proxy(lambda number: (400, {}))
    path, folder = endpoint_recipe(between.url, side={"concurrency": 1}, count=20)
    with pytest.raises(UserError, match=r"20 refused by an engine: refused by the server: .*told to fail"):
        make_here(path)
    dropped = (folder.parent / ".pairs.partial" / "drops.jsonl").read_text().splitlines()
    assert len(dropped) == 20, "every prompt was asked, and has its reason"
    between.fault = lambda number: None
    make_here(path)
    assert len(answers_of(folder)) == 2 * 20
