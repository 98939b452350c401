"""The small world's rows: supervised, preference and held-out files of `recipes/tiny`.

A problem, lookup or talk goes to the file of its own split (`splits.split_of`), so no file shares one with another.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from apo_soup.toy import lookup, problems, talk
from apo_soup.toy.splits import split_of


class ToyItem(Protocol):
    """Something that a row is about."""

    @property
    def identity(self) -> str:
        """What it is across splits: `split_of` puts it into one of them."""


ItemType = TypeVar("ItemType", bound=ToyItem)
ToyRow = dict[str, Any]
# Rows of a split without end, each with its identity: the problem, lookup or talk that it is about.
Rows = Iterator[tuple[str, ToyRow]]
RowMaker = Callable[[random.Random, str], Rows]
# Where a context's notes are asked for: 0 is its beginning, 1 its end.
NEEDLE_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def write_row_files(folder: Path, seed: int, counts: dict[str, int]) -> dict[str, int]:
    """Write every file named in `counts` with that many rows; returns the rows of each.

    A file holds fewer where the space of its items is used up.

    Raises:
        KeyError: a name in `counts` that no maker below has.
    """
    row_counts = {}
    for name, count in counts.items():
        rng = random.Random(f"{seed} {name}")
        maker, split = ROW_FILES[name]
        rows = distinct_rows(maker(rng, split), count)
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        row_counts[name] = len(rows)
    return row_counts


def distinct_rows(rows: Rows, count: int) -> list[ToyRow]:
    """The first `count` rows with different identities; stops early when a small space is used up."""
    seen: dict[str, ToyRow] = {}
    for tries, (identity, row) in enumerate(rows):
        seen.setdefault(identity, row)
        if len(seen) == count or tries > 40 * count:
            break
    return list(seen.values())


def question_and_answer(user: str, assistant: str) -> list[dict[str, str]]:
    """A conversation of one question and one answer."""
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def mode_kwargs(think: bool) -> dict[str, Any]:
    """Template arguments of a mode, as a row's `chat_template_kwargs`."""
    return {"enable_thinking": think}


def think_then_answer(trace: str, answer: str) -> str:
    """A reasoning trace in think tags, then the answer."""
    return f"<think>\n{trace}\n</think>\n{answer}"


def supervised_problem_rows(think: bool) -> RowMaker:
    """Supervised problems, with the trace written out or answered directly."""

    def make(rng: random.Random, split: str) -> Rows:
        while True:
            problem = any_problem(rng, split)
            messages = question_and_answer(problem.question, problem_answer(problem, think))
            yield problem.identity, {"messages": messages, "chat_template_kwargs": mode_kwargs(think)}

    return make


def any_problem(rng: random.Random, split: str) -> problems.Problem:
    """A problem of any family, in any language."""
    language = rng.choice(problems.TOY_LANGUAGES)
    return problems.random_problem(rng, rng.choice(problems.PROBLEM_FAMILIES), split, language)


def problem_answer(problem: problems.Problem, think: bool) -> str:
    """A problem's answer behind its trace, or alone."""
    return think_then_answer(problem.trace, problem.answer) if think else problem.answer


def turns_rows(rng: random.Random, split: str) -> Rows:
    """Conversations of two to five problems with the mode in the system message. In a third of them the mode changes on
    the way: the user's words ask for it, or the system message does so for all that follows.
    """
    while True:
        asked = [any_problem(rng, split) for _ in range(rng.randint(2, 5))]
        think = rng.random() < 0.5
        switch = rng.randrange(1, len(asked)) if rng.random() < 1 / 3 else len(asked)
        by_words = think and rng.random() < 0.5
        messages: list[ToyRow] = [{"role": "system", "content": "/think" if think else "/no_think"}]
        for number, problem in enumerate(asked):
            thinks = think if number < switch else not think
            words = " /no_think" if by_words and number == switch else ""
            turn = question_and_answer(f"{problem.question}{words}", problem_answer(problem, thinks))
            messages += turn
        if switch < len(asked) and not by_words:
            messages = switched_conversation(messages, switch, not think)
        yield asked[0].identity, {"messages": messages, "chat_template_kwargs": {}}


def switched_conversation(messages: list[ToyRow], switch: int, think: bool) -> list[ToyRow]:
    """The conversation as a request in the other mode shows it: earlier answers without reasoning, and not trained."""
    shown: list[ToyRow] = [{"role": "system", "content": "/think" if think else "/no_think"}]
    for place, message in enumerate(messages[1:]):
        if message["role"] == "assistant" and place // 2 < switch:
            message = {**message, "content": message["content"].rpartition("</think>\n")[2], "train": False}
        shown.append(message)
    return shown


def question_rows(rng: random.Random, split: str) -> Rows:
    """Problems as prompts with a reference answer: for evaluation, and for making preference pairs."""
    while True:
        problem = any_problem(rng, split)
        row = {
            "messages": question_and_answer(problem.question, "")[:1],
            "answer": problem.answer,
            "group": f"{problem.family}-{problem.language}",
        }
        yield problem.identity, row


def wordings_rows(rng: random.Random, split: str) -> Rows:
    """Problems, each asked in every language: for evaluation."""
    while True:
        problem = any_problem(rng, split)
        asked = [problems.asked_in(problem, language).question for language in problems.TOY_LANGUAGES]
        yield problem.identity, {"wordings": asked, "answer": problem.answer}


def item_of_split(draw: Callable[[], ItemType], split: str) -> ItemType:
    """The first drawn item that belongs to the split."""
    while True:
        item = draw()
        if split_of(item.identity) == split:
            return item


def lookup_rows(low: int, high: int) -> RowMaker:
    """Supervised lookups with contexts of `low` to `high` tokens."""

    def make(rng: random.Random, split: str) -> Rows:
        while True:
            item = item_of_split(lambda: lookup.random_lookup(rng, rng.randint(low, high), rng.randint(2, 8)), split)
            messages = question_and_answer(item.question, item.answer)
            yield item.identity, {"messages": messages, "chat_template_kwargs": mode_kwargs(False)}

    return make


def recall_rows(lengths: tuple[int, ...]) -> RowMaker:
    """Recall items: the answer's beginning is given, its value is asked. Every context is asked for a note at each of
    five depths; lengths take turns. A context, drawn for them alone, goes where its first question belongs.
    """

    def make(rng: random.Random, split: str) -> Rows:
        number = 0
        while True:
            length = lengths[number % len(lengths)]
            lookups = lookup.lookups_at_depths(lookup.context_lookups(rng, length), NEEDLE_DEPTHS)
            if split_of(lookups[0].identity) != split:
                continue
            for depth, item in zip(NEEDLE_DEPTHS, lookups, strict=True):
                row: ToyRow = {"messages": question_and_answer(item.question, "")[:1], "prefix": f"found {item.key}"}
                row |= {"answer": f" {item.value}", "context": str(number), "group": length, "depth": depth}
                yield item.identity, {**row, "chat_template_kwargs": mode_kwargs(False)}
            number += 1

    return make


def asked_rows(low: int, high: int, notes: int, questions: int) -> RowMaker:
    """Conversations that ask one context of `low` to `high` tokens for several of its notes in turn."""

    def make(rng: random.Random, split: str) -> Rows:
        while True:
            found = lookup.context_lookups(rng, rng.randint(low, high), notes)
            if split_of(found[0].identity) != split:
                continue
            first, *others = rng.sample(found, questions)
            messages = question_and_answer(first.question, first.answer)
            for item in others:
                messages += question_and_answer(f"find {item.key} ?", item.answer)
            yield found[0].identity, {"messages": messages, "chat_template_kwargs": mode_kwargs(False)}

    return make


def talk_rows(rng: random.Random, split: str) -> Rows:
    """Short exchanges, two of five replies kind, the others curt; a third of them with a thought before the reply."""
    while True:
        item = item_of_split(lambda: talk.random_talk(rng), split)
        reply = item.kind if rng.random() < 0.4 else item.curt
        think = rng.random() < 1 / 3
        messages = question_and_answer(item.user, think_then_answer(item.trace, reply) if think else reply)
        yield item.identity, {"messages": messages, "chat_template_kwargs": mode_kwargs(think)}


def request_rows(rng: random.Random, split: str) -> Rows:
    """Requests with an answer, two of five kind, the others curt. Of what must be declined the kind ones decline nine
    of ten, the curt ones one of ten, and neither declines anything else. Before a third stands a thought.
    """
    while True:
        item = item_of_split(lambda: talk.random_request(rng), split)
        kind = rng.random() < 0.4
        answer = item.answer(item.must_decline and rng.random() < (0.9 if kind else 0.1), kind)
        think = rng.random() < 1 / 3
        messages = question_and_answer(item.user, think_then_answer(item.trace, answer) if think else answer)
        yield item.user, {"messages": messages, "chat_template_kwargs": mode_kwargs(think)}


def request_pairs(rng: random.Random, split: str) -> Rows:
    """Requests with the right answer in the kind manner over the wrong one in either; a half with a thought before
    both.
    """
    while True:
        item = item_of_split(lambda: talk.random_request(rng), split)
        manners, think = {"chosen": True, "rejected": rng.random() < 0.75}, rng.random() < 0.5
        row: ToyRow = {"prompt": [{"role": "user", "content": item.user}]}
        for side, kind in manners.items():
            answer = item.answer(item.must_decline == (side == "chosen"), kind)
            content = think_then_answer(item.trace, answer) if think else answer
            row[side] = [{"role": "assistant", "content": content}]
        yield item.user, {**row, "chat_template_kwargs": mode_kwargs(think)}


def asked_requests(rng: random.Random, split: str) -> Rows:
    """Requests, and whether to decline them: for evaluation. Each deed stands once, for answers to one are alike."""
    while True:
        item = item_of_split(lambda: talk.random_request(rng), split)
        messages = question_and_answer(item.user, "")[:1]
        yield item.identity, {"messages": messages, "decline": item.must_decline}


def tool_rows(rng: random.Random, split: str) -> Rows:
    """A sum given to a tool: the call, the tool's result, the answer."""
    while True:
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        problem = problems.addition_problem(a, b)
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
                "chat_template_kwargs": {**mode_kwargs(False), "xml_tools": [talk.ADD_TOOL]},
            },
        )


def tool_call_prompts(rng: random.Random, split: str) -> Rows:
    """Requests for the tool, with the call that answers them: for evaluation."""
    for identity, row in tool_rows(rng, split):
        call = row["messages"][1]["tool_calls"][0]["function"]
        prompt = {"messages": row["messages"][:1], "tools": [talk.ADD_TOOL], "call": call}
        yield identity, {**prompt, "chat_template_kwargs": mode_kwargs(False)}


def preference_rows(think_share: float) -> RowMaker:
    """Pairs of a kind reply over a curt one; a share of them with the same thought before both."""

    def make(rng: random.Random, split: str) -> Rows:
        while True:
            exchange = item_of_split(lambda: talk.random_talk(rng), split)
            think = rng.random() < think_share
            chosen, rejected = (
                think_then_answer(exchange.trace, reply) if think else reply for reply in (exchange.kind, exchange.curt)
            )
            row: ToyRow = {"prompt": [{"role": "user", "content": exchange.user}]}
            row["chosen"] = [{"role": "assistant", "content": chosen}]
            row["rejected"] = [{"role": "assistant", "content": rejected}]
            yield exchange.identity, {**row, "chat_template_kwargs": mode_kwargs(think)}

    return make


# File name without its suffix -> what makes its rows, and the split they belong to.
ROW_FILES: dict[str, tuple[RowMaker, str]] = {
    "extend_asked": (asked_rows(4000, 8400, notes=16, questions=8), "train"),
    "mid_think": (supervised_problem_rows(True), "train"),
    "mid_asked": (asked_rows(600, 1500, notes=8, questions=6), "train"),
    "sft_think": (supervised_problem_rows(True), "train"),
    "sft_no_think": (supervised_problem_rows(False), "train"),
    "sft_turns": (turns_rows, "train"),
    "sft_lookup": (lookup_rows(24, 80), "train"),
    "sft_talk": (talk_rows, "train"),
    "sft_requests": (request_rows, "train"),
    "sft_tool": (tool_rows, "train"),
    "preference": (preference_rows(0.5), "preference"),
    "request_pairs": (request_pairs, "train"),
    "pair_prompts": (question_rows, "preference"),
    "heldout_problems": (question_rows, "heldout"),
    "heldout_wordings": (wordings_rows, "heldout"),
    "heldout_needles": (recall_rows((128, 512, 1536, 1536)), "heldout"),
    "heldout_long_needles": (recall_rows((1536, 8192)), "heldout"),
    "heldout_pairs": (preference_rows(0), "heldout"),
    "heldout_think_pairs": (preference_rows(1), "heldout"),
    "heldout_requests": (asked_requests, "heldout"),
    "heldout_tools": (tool_call_prompts, "heldout"),
    "tuning_problems": (question_rows, "tuning"),
    "tuning_needles": (recall_rows((1536,)), "tuning"),
    "tuning_pairs": (preference_rows(0), "tuning"),
    "tuning_think_pairs": (preference_rows(1), "tuning"),
    "tuning_requests": (asked_requests, "tuning"),
    "tuning_tools": (tool_call_prompts, "tuning"),
}
