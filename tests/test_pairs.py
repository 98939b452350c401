"""Preference pairs: filters, verdicts and choices by hand, prompts of every shape, restarts, the same rows again."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from helpers import ROOT, chat, python, run_ok
from hypothesis import given
from hypothesis import strategies as st

from apo.pairs.journal import Answer, Journal
from apo.pairs.judge import Choice, Filters, Judged, choose, fault, judge, overlap, unbalanced
from apo.pairs.make import held_out
from apo.pairs.prompts import Prompt, asked
from apo_soup.data.rows import RowError
from apo_soup.errors import UserError
from apo_soup.models.completion import Completion
from apo_soup.verify.answers import verifier

THINK, PLAIN = Filters(True), Filters(False)
PROMPT = Prompt("p", [{"role": "user", "content": "2 + 2?"}], {}, "4", "rows.jsonl:1")
RIGHT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, True)
WRONG = Completion("<think>\n2 + 2 = 5\n</think>\n5", 12, True)
CUT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, False)
SILENT = Completion("4", 1, True)
NUMBER = verifier("number", "pairs.yaml:1")
BEST = Choice("right_over_wrong")


def candidates(*found, filters=THINK, right=NUMBER):
    return [judge(c, PROMPT, filters, right) for c in found]


def picked(strong, weak, choice=BEST, near=None, **options):
    found = choose(candidates(*strong, **options), candidates(*weak, **options), choice, near)
    return found if isinstance(found, str) else tuple(j.completion for j in found)


def test_the_first_right_strong_answer_over_the_first_wrong_weak_one():
    assert picked([WRONG, RIGHT], [RIGHT, WRONG]) == (RIGHT, WRONG)


@pytest.mark.parametrize(
    ("strong", "weak", "reason"),
    [
        ([WRONG], [WRONG], "strong: wrong"),
        ([CUT], [WRONG], "strong: cut off"),
        ([SILENT, SILENT, CUT], [WRONG], "strong: no think block"),
        ([RIGHT], [RIGHT], "weak: right too"),
        ([RIGHT], [], "weak: no answer"),
    ],
)
def test_a_prompt_without_a_pair_says_why(strong, weak, reason):
    assert picked(strong, weak) == reason


def test_right_over_anything_and_strong_over_weak():
    other = replace(RIGHT, text="<think>\ntwo and two\n</think>\n4")
    assert picked([WRONG, RIGHT], [other], Choice("right_over_any")) == (RIGHT, other)
    assert picked([RIGHT], [other, WRONG], Choice("right_over_any")) == (RIGHT, WRONG), "the worst of n"
    assert picked([WRONG], [RIGHT], Choice("strong_over_weak"), right=None) == (WRONG, RIGHT)


def test_best_and_worst_of_n_by_a_score_between_0_and_1():
    def score(text, reference):
        return int(text.rsplit("\n", 1)[-1]) / 10

    found = [replace(RIGHT, text=f"<think>\nhm\n</think>\n{n}") for n in (6, 9, 7, 2, 1, 3)]
    chosen, rejected = picked(found, found, right=score)
    assert (chosen.text[-1], rejected.text[-1]) == ("9", "1")


def test_a_rejected_answer_never_scores_above_the_chosen_one():
    better, worse = (Judged(Completion(text, 2, True), None, s) for text, s in (("it is 4", 0.9), ("it is 5", 0.6)))
    assert choose([worse], [better], Choice("right_over_any"), None) == "weak: better than strong"
    assert choose([better], [worse], Choice("right_over_any"), None) == (better, worse)
    unknown = replace(better, score=None)
    assert choose([worse], [unknown], Choice("strong_over_weak"), None) == (worse, unknown)


def test_ties_go_to_the_first_shortest_longest_or_closest_in_length():
    def of(words, right):
        text = f"<think>\n{'so ' * words}\n</think>\n{4 if right else words}"
        return Completion(text, words, True)

    strong, weak = [of(30, True), of(10, True), of(50, True)], [of(20, False), of(48, False), of(9, False)]
    lengths = {}
    for name, choice in {
        "first": BEST,
        "shortest": replace(BEST, tie_break="shortest"),
        "longest": replace(BEST, tie_break="longest"),
        "closest": replace(BEST, balanced=True),
    }.items():
        lengths[name] = tuple(c.tokens for c in picked(strong, weak, choice))
    assert lengths == {"first": (30, 20), "shortest": (10, 9), "longest": (50, 48), "closest": (50, 48)}


@pytest.mark.parametrize(
    ("completion", "filters", "reason"),
    [
        (RIGHT, THINK, None),
        (Completion("", 3, True, "the server's content filter"), PLAIN, "the server's content filter"),
        (CUT, THINK, "cut off"),
        (Completion("<think>\nso", 3, True), THINK, "think block not closed"),
        (Completion("<think>\n</think>\n4", 3, True), THINK, "no think block"),
        (Completion("<think>\nso\n</think>\n ", 3, True), THINK, "empty answer"),
        (RIGHT, PLAIN, "a think block in no-think mode"),
        (Completion("  ", 1, True), PLAIN, "empty answer"),
        (Completion("no", 2, True), Filters(False, min_tokens=3), "too short"),
        (Completion("no", 9, True), Filters(False, max_tokens=8), "too long"),
    ],
)
def test_every_filter_names_its_fault(completion, filters, reason):
    assert fault(completion, PROMPT, filters) == reason


GERMAN = "Der Zug fährt um acht Uhr ab und kommt am späten Nachmittag in der großen Stadt an."
FRENCH = "Le train part à huit heures et arrive en fin d'après-midi dans la grande ville du nord."
CHINESE = (
    "小明和他的朋友们打算在这个周末去城市北边的山上旅行，他们准备了很多食物、饮料和雨伞，早上八点从学校门口出发，"
    "坐公共汽车大约需要一个半小时才能到达山脚下的村庄，然后他们还要步行三公里。请问他们大概什么时候能到达山顶？"
)


def test_an_answer_in_another_language_is_a_fault_and_a_short_or_numeric_one_is_not():
    filters = Filters(False, language=True, languages=("de", "en", "fr"))
    german = replace(PROMPT, messages=[{"role": "user", "content": GERMAN}])
    assert fault(Completion(FRENCH, 20, True), german, filters) == "another language"
    assert fault(Completion(GERMAN.upper(), 20, True), german, filters) is None
    assert (
        fault(Completion("12 345 678 901 234 567 890 + 1 = 12 345 678 901 234 567 891", 20, True), german, filters)
        is None
    )
    assert fault(Completion("Oui, merci.", 4, True), german, filters) is None
    chinese = replace(PROMPT, messages=[{"role": "user", "content": CHINESE}])
    every = Filters(False, language=True)
    assert fault(Completion(GERMAN, 20, True), chinese, every) == "another language"
    assert fault(Completion(CHINESE, 20, True), chinese, every) is None
    thought = Completion(f"<think>\n{FRENCH}\n</think>\n{GERMAN}", 40, True)
    assert fault(thought, german, replace(filters, think=True)) is None, "reasoning may be in any language"


def test_equal_and_nearly_equal_sides_make_no_pair():
    text = "<think>\n" + " ".join(f"word{n}" for n in range(60)) + "\n</think>\n5"
    spaced, changed = text.replace(" ", "  "), text.replace("word30", "other")
    one = Completion(text, 60, True)
    free = Choice("strong_over_weak")
    assert picked([one], [replace(one, text=spaced)], free) == "both sides are the same"
    assert picked([one], [replace(one, text=changed)], free, near=0.8) == "both sides are nearly the same"
    assert picked([one], [replace(one, text=changed)], free, near=0.9) == (one, replace(one, text=changed))
    # 10 words have 6 runs of five; a change of the last word leaves 5 of 7 different runs in common.
    assert overlap("a b c d e f g h i j", "a b c d e f g h i k") == pytest.approx(5 / 7)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=60), st.sampled_from([0.5, 0.6, 0.9, 1.0])
)
def test_no_side_is_the_longer_one_too_often(lengths, share):
    dropped = unbalanced(lengths, share)
    left = [pair for n, pair in enumerate(lengths) if n not in dropped]
    for longer in (sum(c > r for c, r in left), sum(c < r for c, r in left)):
        assert longer <= max(share * len(left), 0)
    if share == 1.0:
        assert not dropped


def test_the_pairs_furthest_apart_in_length_go_first():
    assert unbalanced([(100, 10), (30, 10), (12, 10), (10, 11)], 0.5) == {0, 1}


@pytest.mark.parametrize(
    ("name", "text", "reference", "right"),
    [
        ("number", "so it is 1,234.0", "1234", True),
        ("number", "<think>7</think>8", "7", False),
        ("exact", " Paris ", "Paris", True),
        ("math", "the result is $\\frac{1}{2}$", "0.5", True),
        ("math", "<think>$3$</think> it is \\boxed{x^2 + 2x + 1}", "(x+1)^2", True),
        ("math", "it is $4$", "5", False),
        ("operator:contains", "abc", "b", True),
    ],
)
def test_verifiers(name, text, reference, right):
    assert bool(verifier(name, "pairs.yaml:1")(text, reference)) is right


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nuber", "no verifier is called nuber; known: number, exact, math, or package.module:function"),
        ("no.such:thing", "the verifier no.such:thing cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("operator:nothing", "the verifier operator:nothing cannot be imported"),
    ],
)
def test_a_verifier_that_is_not_there_is_told(name, told):
    with pytest.raises(UserError, match=f"pairs.yaml:7: {told}"):
        verifier(name, "pairs.yaml:7")


USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}


@pytest.mark.parametrize(
    ("fields", "turns"),
    [
        ({"messages": [USER, BOT]}, 1),
        ({"messages": [USER, BOT, USER]}, 3),
        ({"prompt": "Hi", "chosen": [USER, BOT, USER, BOT], "rejected": [USER, BOT, USER, BOT]}, 3),
        ({"prompt": "Hi", "chosen": "Yes?", "rejected": "No"}, 1),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]}, 1),
        ({"instruction": "Hi", "output": "Yes?"}, 1),
        ({"question": "Hi", "answer": "4"}, 1),
    ],
)
def test_prompts_come_from_rows_of_any_shape(fields, turns):
    found = asked(fields)
    assert len(found) == turns
    assert found[-1]["role"] == "user"
    assert found[0]["content"] == "Hi"


@pytest.mark.parametrize(
    "fields", [{"text": "Hi"}, {"messages": [BOT]}, {"prompt": " "}, {"prompt": 3}, {"messages": []}]
)
def test_a_row_without_a_prompt_is_refused(fields):
    with pytest.raises(RowError):
        asked(fields)


def test_the_held_out_share_is_a_function_of_the_prompt():
    prompts = [replace(PROMPT, messages=[{"role": "user", "content": f"prompt {i}"}]) for i in range(2000)]
    held = [p for p in prompts if held_out(p, 0.25)]
    assert 430 < len(held) < 570
    assert all(held_out(p, 0.5) for p in held)
    assert not any(held_out(p, 0.0) for p in prompts)


def test_a_journal_torn_at_any_byte_keeps_what_was_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    first, second = Answer("a", [RIGHT], 7), Answer("b", [WRONG, replace(CUT, text="né")])
    with Journal(path) as journal:
        journal.add([first])
        journal.add([second, Answer("refused", [], problem="no")])
        assert journal.done == {"a", "b"}
    text = path.read_bytes()
    end = text.index(b"\n") + 1
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        with Journal(path) as journal:
            assert list(journal.answers.values()) == ([first, second] if size == len(text) else [first] * (size >= end))
            journal.add([replace(second, prompt="c")])
        with Journal(path) as journal:
            assert journal.answers["c"].completions == second.completions, "what is added behind a cut is whole"
    path.write_text('{"not": "ours"}\n')
    with pytest.raises(UserError, match="Remove the file to ask again"):
        Journal(path)


@pytest.fixture
def pairs_recipe(talking_model, write_rows, write_recipe, tmp_path):
    """A pairs file whose two sides are a random model that likes to end; it makes no sense and ends by itself."""

    def make(count=24, name="pairs", **changes):
        rows = [{"prompt": f"Say {n} of {n * n}"} for n in range(count)]
        values = {
            "output_dir": str(tmp_path / name / "pairs"),
            "prompts": str(write_rows("prompts.jsonl", rows)),
            "mode": "no_think",
            "strong": {"model": str(talking_model), "temperature": 0.7},
            "weak": {"model": str(talking_model), "temperature": 1.2},
            "candidates": 2,
            "max_new_tokens": 24,
            "batch_size": 12,
            "seed": 5,
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "pairs"

    return make


def made(path, *words):
    """Make pairs in this process, which saves the seconds that imports take."""
    from apo.pairs.make import make_pairs
    from apo.pairs.stage import stage_of
    from apo_soup.config.recipe import load

    recipe = load(path, "pairs", list(words))
    make_pairs(recipe, stage_of(recipe))


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_carry_where_they_come_from_and_every_prompt_is_accounted_for(pairs_recipe, talking_model, capsys):
    path, folder = pairs_recipe(test_share=0.3, length_balance=0.6)
    made(path)
    shown = capsys.readouterr().out
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    pairs = rows_of(folder / "train.jsonl") + rows_of(folder / "test.jsonl")
    drops = rows_of(folder / "drops.jsonl")
    assert len(pairs) == metrics["kept"] > 5
    assert len(pairs) + len(drops) == 24
    assert sum(metrics["drops"].values()) == len(drops)
    assert len({p["provenance"]["prompt"] for p in pairs} | {d["prompt"] for d in drops}) == 24
    for pair in pairs:
        told = pair["provenance"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["chat_template_kwargs"] == {"enable_thinking": False}
        assert told["strong"]["model"] == str(talking_model)
        assert (told["strong"]["temperature"], told["weak"]["temperature"]) == (0.7, 1.2)
        assert (told["strong"]["engine"], told["strong"]["seed"], told["strong"]["candidates"]) == (
            "transformers",
            5,
            2,
        )
        assert len(told["strong"]["template"]) == len(told["strong"]["content"]) == 64
        assert told["verdicts"] == {"chosen": None, "rejected": None}
        assert 0 < told["tokens"]["chosen"] <= 24
    longer = sum(p["provenance"]["tokens"]["chosen"] > p["provenance"]["tokens"]["rejected"] for p in pairs)
    assert longer <= 0.6 * len(pairs)
    assert metrics["chosen_longer"] == pytest.approx(longer / len(pairs), abs=1e-4)
    assert f"pairs kept            {len(pairs)}" in shown
    made(path, "--filters", "{min_tokens: 4}")
    assert capsys.readouterr().out.count("24 of 24 answered already") == 2, "another filter asks nothing again"
    preview = run_ok("-m", "apo_soup", "preview", "--config", path, "--rows", "2")
    assert "chosen (" in preview


def test_killed_runs_end_with_the_rows_of_one_that_was_not(pairs_recipe, tmp_path):
    """Killed as soon as a new batch is in the journal, twice over; the answers are the same bytes."""
    path, folder = pairs_recipe(count=30, batch_size=4)
    made(path)
    path, killed = pairs_recipe(count=30, batch_size=4, name="killed")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        before = journalled(killed)
        process = subprocess.Popen(
            [sys.executable, "-m", "apo.pairs", "--config", str(path)], env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and journalled(killed) == before:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert journalled(killed) > before
    made(path)
    assert (killed / "train.jsonl").read_text() == (folder / "train.jsonl").read_text()


def journalled(folder):
    """How many whole lines the journals beside a pairs folder have."""
    return sum(f.read_bytes().count(b"\n") for f in (folder.parent / "answers").glob("*.jsonl"))


def test_no_pair_at_all_is_an_error_and_leaves_no_folder(tiny_model, write_rows, write_recipe, tmp_path):
    row = {"messages": chat("2 + 2?", "")["messages"][:1], "answer": "4"}
    other = {**row, "messages": chat("1 + 1?", "")["messages"][:1]}
    prompts = write_rows("prompts.jsonl", [row, other, {**row, "answer": "5"}])
    values = {
        "output_dir": str(tmp_path / "pairs"),
        "prompts": str(prompts),
        "mode": "think",
        "strong": {"model": str(tiny_model)},
        "weak": {"model": str(tiny_model), "temperature": 1.5},
        "verifier": "number",
        "max_new_tokens": 4,
    }
    path = write_recipe("pairs.yaml", values)
    with pytest.raises(UserError, match="no pair could be made of 2 prompts: 2 strong: cut off, 1 duplicate prompt"):
        made(path)
    assert not (tmp_path / "pairs").exists()
    prompts.write_text(json.dumps({**row, "answer": "Paris"}) + "\n")
    with pytest.raises(
        UserError, match=f"{prompts}:1: field answer: the number verifier needs a number, found 'Paris'"
    ):
        made(path)
    prompts.write_text(json.dumps({"messages": row["messages"]}) + "\n")
    with pytest.raises(UserError, match="no prompt has a field answer to verify answers by"):
        made(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"strong": {"model": "x", "temprature": 1}},
            "unknown key strong.temprature; the nearest known key is temperature",
        ),
        ({"strong": {"temperature": 1}}, "strong has no model"),
        ({"weak": {"model": "m", "engine": "openai"}}, "weak has no base_url"),
        ({"weak": {"model": "m", "batch_size": 4, "base_url": "http://x/v1"}}, "unknown key weak.batch_size"),
        ({"strong": {"model": "m", "engine": "vlm"}}, "key strong.engine must be one of transformers, vllm, openai"),
        ({"mode": "thinking"}, "key mode must be one of think, no_think, found 'thinking'"),
        ({"keep": "right_over_wrong"}, "keep: right_over_wrong needs a verifier"),
        ({"filters": {"near": 2}}, "near must be above 0 and at most 1, found 2"),
        ({"filters": {"langauge": True}}, "unknown key filters.langauge; the nearest known key is language"),
        ({"candidates": 0}, "candidates must be 1 or more, found 0"),
        ({"prompts": [{"split": "train"}]}, "a source of prompts is a path, a Hub id, or a mapping with id"),
        ({"format": "csv"}, "key format must be one of jsonl, parquet"),
        ({"candidates": "two"}, "key candidates must be"),
        ({"filters": {"min_tokens": "x", "max_tokens": 5}}, "key filters.min_tokens must be"),
        ({"chat_template_kwargs": 5}, "key chat_template_kwargs must be"),
        ({"strong": {"model": "m", "engine": ["vllm"]}}, "key strong.engine must be"),
        ({"weak": {"model": "m", "base_url": "http://[::1/v1"}}, "base_url 'http://[::1/v1' is no address"),
        ({"weak": {"model": "m", "base_url": "localhost:80"}}, "base_url begins with http:// or https://"),
        (
            {"weak": {"model": "m", "base_url": "http://x/v1", "extra_body": {"chat_template_kwargs": {}}}},
            "chat_template_kwargs of extra_body would go past this file",
        ),
        (
            {"strong": {"model": "m", "engine": "vllm", "engine_kwargs": {"dtype": "auto"}}},
            "dtype of engine_kwargs would go past this file",
        ),
        ({"strong": {"model": "m", "engine": "vllm", "temperature": 3.0}}, "vLLM takes temperatures up to 2"),
        ({"prompts": "nowhere.jsonl"}, "data file nowhere.jsonl does not exist"),
    ],
)
def test_mistakes_in_a_pairs_file_are_told_at_once(pairs_recipe, changes, told):
    path, _ = pairs_recipe(**changes)
    started = time.monotonic()
    result = python("-m", "apo.pairs", "--config", path)
    assert result.returncode == 2
    assert told in result.stderr
    assert f"error: {path}:" in result.stderr
    assert time.monotonic() - started < 5


def test_pairs_may_be_parquet_with_bad_rows_listed(pairs_recipe, write_rows):
    path, folder = pairs_recipe(format="parquet", max_reject_share=0.2, count=12)
    rows = [{"prompt": f"Say {n}"} for n in range(12)] + [{"prompt": "Say 3"}, {"prompt": 5}]
    write_rows("prompts.jsonl", rows)
    made(path)
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "train.parquet").to_pylist()
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert len(table) == metrics["kept"] > 0
    assert metrics["drops"]["duplicate prompt"] == 1
    (reject,) = rows_of(folder / "rejects.jsonl")
    assert reject["row"].endswith("prompts.jsonl:14")
    assert {"prompt", "chosen", "rejected", "provenance"} <= table[0].keys()


def test_the_benchmark_asks_as_a_recipe_does():
    from argparse import Namespace

    from bench.pairs import side

    found = side({"model": "m", "batch_size": 2}, Namespace(tokens=7)).sampling
    assert (found.max_new_tokens, found.temperature, found.top_k) == (7, 1.0, 0)
