"""The small world's rows: supervised, preference and held-out files of `recipes/tiny`.

A problem, lookup or talk goes to the file of its own split (`splits.split_of`), so no file shares one with another.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apo_soup.toy import lookup, problems, talk
from apo_soup.toy.splits import split_of

Row = dict[str, Any]
NEEDLE_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def build(folder: Path, seed: int, counts: dict[str, int]) -> dict[str, int]:
    """Write every file named in `counts` with that many rows; returns what was written.

    Raises:
        KeyError: a name in `counts` that no maker below has.
    """
    written = {}
    for name, count in counts.items():
        rng = random.Random(f"{seed} {name}")
        maker, split = MAKERS[name]
        rows = distinct(maker(rng, split), count)
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        written[name] = len(rows)
    return written


def distinct(rows: Iterator[tuple[str, Row]], count: int) -> list[Row]:
    """The first `count` rows with different identities; stops early when a small space is used up."""
    seen: dict[str, Row] = {}
    for tries, (identity, row) in enumerate(rows):
        seen.setdefault(identity, row)
        if len(seen) == count or tries > 40 * count:
            break
    return list(seen.values())


def turns(user: str, assistant: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def mode(think: bool) -> dict[str, Any]:
    return {"enable_thinking": think}


def thought(trace: str, answer: str) -> str:
    return f"<think>\n{trace}\n</think>\n{answer}"


def problem_rows(think: bool) -> Callable[[random.Random, str], Iterator[tuple[str, Row]]]:
    """Supervised problems, with the trace written out or answered directly."""

    def make(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
        while True:
            problem = problems.draw(rng, rng.choice(problems.FAMILIES), split)
            answer = thought(problem.trace, problem.answer) if think else problem.answer
            yield problem.identity, {"messages": turns(problem.question, answer), "chat_template_kwargs": mode(think)}

    return make


def question_rows(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
    """Problems as prompts with a reference answer: for evaluation, and for making preference pairs."""
    while True:
        problem = problems.draw(rng, rng.choice(problems.FAMILIES), split)
        row = {"messages": turns(problem.question, "")[:1], "answer": problem.answer, "group": problem.family}
        yield problem.identity, row


def drawn(rng: random.Random, draw: Callable[[], Any], split: str) -> Any:
    while True:
        item = draw()
        if split_of(item.identity) == split:
            return item


def lookup_rows(low: int, high: int) -> Callable[[random.Random, str], Iterator[tuple[str, Row]]]:
    """Supervised lookups with contexts of `low` to `high` tokens."""

    def make(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
        while True:
            item = drawn(rng, lambda: lookup.draw(rng, rng.randint(low, high), rng.randint(2, 8)), split)
            yield item.identity, {"messages": turns(item.question, item.answer), "chat_template_kwargs": mode(False)}

    return make


def needle_rows(lengths: tuple[int, ...]) -> Callable[[random.Random, str], Iterator[tuple[str, Row]]]:
    """Recall items: the answer's beginning is given, its value is asked. Every context is asked for a note at each of
    five depths; lengths take turns. A context, drawn for them alone, goes where its first question belongs.
    """

    def make(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
        number = 0
        while True:
            length = lengths[number % len(lengths)]
            asked = lookup.at_depths(lookup.draw_all(rng, length), NEEDLE_DEPTHS)
            if split_of(asked[0].identity) != split:
                continue
            for depth, item in zip(NEEDLE_DEPTHS, asked, strict=True):
                row = {"messages": turns(item.question, "")[:1], "prefix": f"found {item.key}"}
                row |= {"answer": f" {item.value}", "context": str(number), "group": length, "depth": depth}
                yield item.identity, {**row, "chat_template_kwargs": mode(False)}
            number += 1

    return make


def talk_rows(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
    """Short exchanges, kind and curt in equal parts, without thinking."""
    while True:
        item = drawn(rng, lambda: talk.draw(rng), split)
        reply = item.kind if rng.random() < 0.5 else item.curt
        yield item.identity, {"messages": turns(item.user, reply), "chat_template_kwargs": mode(False)}


def tool_rows(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
    """A sum given to a tool: the call, the tool's result, the answer."""
    while True:
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        problem = problems.addition(a, b)
        if problem.split != split:
            continue
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": a, "b": b}}}
        messages = [
            {"role": "user", "content": f"Use the tool: {problem.question}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": problem.answer},
            {"role": "assistant", "content": problem.answer},
        ]
        yield (
            f"tool {problem.identity}",
            {
                "messages": messages,
                "chat_template_kwargs": {**mode(False), "xml_tools": [talk.ADD_TOOL]},
            },
        )


def call_rows(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
    """Requests for the tool, with the call that answers them: for evaluation."""
    for identity, row in tool_rows(rng, split):
        call = row["messages"][1]["tool_calls"][0]["function"]
        asked = {"messages": row["messages"][:1], "tools": [talk.ADD_TOOL], "call": call}
        yield identity, {**asked, "chat_template_kwargs": mode(False)}


def preference_rows(rng: random.Random, split: str) -> Iterator[tuple[str, Row]]:
    """No-think pairs: kind over curt, the right note over another one of the same context."""
    while True:
        if rng.random() < 0.5:
            item = drawn(rng, lambda: talk.draw(rng), split)
            user, chosen, rejected = item.user, item.kind, item.curt
        else:
            item = drawn(rng, lambda: lookup.draw(rng, rng.randint(40, 160), rng.randint(3, 8)), split)
            wrong = rng.choice([v for v in item.values if v != item.value])
            user, chosen, rejected = item.question, item.answer, f"found {item.key} {wrong}"
        yield (
            item.identity,
            {
                "prompt": [{"role": "user", "content": user}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "chat_template_kwargs": mode(False),
            },
        )


MAKERS = {
    "mid_think": (problem_rows(True), "train"),
    "mid_lookup": (lookup_rows(200, 1500), "train"),
    "sft_think": (problem_rows(True), "train"),
    "sft_no_think": (problem_rows(False), "train"),
    "sft_lookup": (lookup_rows(24, 80), "train"),
    "sft_talk": (talk_rows, "train"),
    "sft_tool": (tool_rows, "train"),
    "preference": (preference_rows, "preference"),
    "pair_prompts": (question_rows, "preference"),
    "heldout_problems": (question_rows, "heldout"),
    "heldout_needles": (needle_rows((128, 512, 1536, 1536)), "heldout"),
    "heldout_pairs": (preference_rows, "heldout"),
    "heldout_tools": (call_rows, "heldout"),
}
