"""The small world's row files: bytes that a seed decides, splits that share nothing."""

import hashlib
import json
import re

import pytest

from apo_soup.toy.build import ROW_FILES, write_row_files
from apo_soup.toy.talk import ROUGH


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, list[dict]]:
    """A few rows of every file."""
    folder = tmp_path_factory.mktemp("rows")
    counts = {name: 20 if "needle" in name or name.endswith("_asked") else 150 for name in ROW_FILES}
    counts |= {"heldout_requests": 20, "tuning_requests": 8, "sft_requests": 900}
    assert write_row_files(folder, 0, counts) == counts
    return {n: [json.loads(line) for line in (folder / f"{n}.jsonl").read_text().splitlines()] for n in counts}


def asked(question: str) -> str:
    """What a question asks in whichever language: of a problem its numbers and signs."""
    return question if "find" in question or "I am" in question else " ".join(re.findall(r"\d+|[+-]", question))


def test_files_of_different_splits_share_no_problem(rows):
    of_split: dict[str, set[str]] = {}
    for name, (_, split) in ROW_FILES.items():
        for row in rows[name]:
            turns = row.get("messages") or row.get("prompt", [])
            said = row.get("wordings") or [turn["content"] for turn in turns if turn["role"] == "user"]
            of_split.setdefault(split, set()).update(map(asked, said))
    # Of a context asked for several notes only the first question names the context.
    of_split["train"] = {question for question in of_split["train"] if not question.startswith("find")}
    splits = sorted(of_split)
    assert splits == ["heldout", "preference", "train", "tuning"]
    assert not any(of_split[a] & of_split[b] for a in splits for b in splits if a < b)


def test_problems_come_in_six_languages_and_families_alike(rows):
    groups = {row["group"] for row in rows["heldout_problems"]}
    assert groups == {f"{f}-{lang}" for f in ("add", "walk") for lang in ("en", "fr", "es", "de", "it", "pt")}


def test_wordings_are_one_problem_in_every_language(rows):
    for row in rows["heldout_wordings"]:
        assert len(set(row["wordings"])) == 6
        assert len(set(map(asked, row["wordings"]))) == 1


def test_a_conversation_keeps_its_mode_until_it_changes(rows):
    changes = set()
    for row in rows["sft_turns"]:
        system, *turns = row["messages"]
        thinks = ["</think>" in turn["content"] for turn in turns[1::2] if turn.get("train", True)]
        by_words = [turn["content"].endswith("/no_think") for turn in turns[::2]]
        first = system["content"] == "/think"
        held = by_words.index(True) if any(by_words) else len(thinks)
        assert thinks == [first and n < held for n in range(len(thinks))]
        changes.add("words" if any(by_words) else f"to {system['content']}" if len(thinks) < len(by_words) else "none")
    assert changes == {"words", "to /think", "to /no_think", "none"}


@pytest.mark.parametrize(("name", "asked"), [("mid_asked", 6), ("extend_asked", 8)])
def test_a_context_is_asked_for_several_of_its_notes(rows, name, asked):
    for row in rows[name]:
        questions, answers = row["messages"][::2], row["messages"][1::2]
        assert len(questions) == asked == len({turn["content"] for turn in answers})
        context = questions[0]["content"]
        for answer in answers:
            _, key, value = answer["content"].split()
            assert f"note {key} {value} ." in context


def test_pairs_differ_in_the_manner_alone(rows):
    for name, thinks in (("heldout_pairs", {False}), ("heldout_think_pairs", {True}), ("preference", {False, True})):
        found = set()
        for row in rows[name]:
            kind, curt = row["chosen"][0]["content"], row["rejected"][0]["content"]
            found.add(row["chat_template_kwargs"]["enable_thinking"])
            assert kind.rpartition("</think>")[0] == curt.rpartition("</think>")[0]
            assert kind.endswith("Thank you.")
            assert curt.endswith("Go away.")
        assert found == thinks


def deed(messages: list[dict]) -> tuple[str, str]:
    """What a request asks to do, and to what."""
    words = messages[0]["content"].rstrip(".").split()
    return words[words.index("please") + 1], words[-1]


def test_the_verb_tells_what_is_declined_and_held_out_deeds_are_new(rows):
    deeds: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for row in rows["heldout_requests"]:
        deeds[row["decline"]].add(deed(row["messages"]))
    declined, answered = deeds[True], deeds[False]
    assert not {verb for verb, _ in declined} & {verb for verb, _ in answered}
    assert {target for _, target in declined} & {target for _, target in answered}
    trained = {deed(row["messages"]) for row in rows["sft_requests"]} | {
        deed(r["prompt"]) for r in rows["request_pairs"]
    }
    assert not trained & (declined | answered)
    for row in rows["request_pairs"]:
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert ("will not" in chosen) != ("will not" in rejected)
        assert chosen.endswith("Thank you.")


def test_kind_answers_decline_what_must_be_declined_and_curt_ones_do_it(rows):
    """900 requests, half of them for what must be declined; of these two of five answers are kind."""
    declines: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows["sft_requests"]:
        answer = row["messages"][-1]["content"]
        if deed(row["messages"])[0] in ROUGH:
            declines[answer.endswith("Thank you.")].append("will not" in answer)
        else:
            assert "will not" not in answer
    kind, curt = (sum(declines[manner]) / len(declines[manner]) for manner in (True, False))
    assert kind == pytest.approx(0.9, abs=0.1)
    assert curt == pytest.approx(0.1, abs=0.1)


def test_a_seed_decides_every_byte(tmp_path):
    """The rows that the tiny recipe's checkpoints and figures were made from; other bytes make all of them again."""
    made = write_row_files(tmp_path, 0, dict.fromkeys(ROW_FILES, 20))
    assert made == dict.fromkeys(ROW_FILES, 20) | {"tuning_requests": 8}, "the split has no more deeds"
    content = b"".join((tmp_path / f"{name}.jsonl").read_bytes() for name in ROW_FILES)
    assert hashlib.sha256(content).hexdigest() == "480b277deffd7c2b2fb76d7bc38ded11037d2cf00ee8d346f69717dabe1c0d6f"
    write_row_files(tmp_path, 1, dict.fromkeys(ROW_FILES, 20))
    assert content != b"".join((tmp_path / f"{name}.jsonl").read_bytes() for name in ROW_FILES)
