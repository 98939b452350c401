"""GSM8K's own two files as the rows that recipes/smollm2-135m and the benchmarks read.

    git clone https://github.com/openai/grade-school-math
    python -m bench.gsm8k grade-school-math/grade_school_math/data gsm8k

Of `train.jsonl` the first 3 000 questions become conversations, every third with the answer alone, and 200 of its end
are the evaluation's. Of `example_model_solutions.jsonl`, whose questions are none of these, the first 900 give pairs: a
right solution of the 175 B model over a wrong one of the 6 B model. The calculator's marks (`<<48/2=24>>`) are taken
out. The questions between are for `apo.pairs` and `apo.traces`.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CONVERSATIONS = 3_000
HELDOUT_CONVERSATIONS = 60
ASKED = slice(3_000, 7_000)
EVALUATED = slice(7_000, 7_200)
SOLUTIONS = 900
HELDOUT_PAIRS = 100


def main() -> None:
    """Write the files of rows, and print how many each holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder with train.jsonl and example_model_solutions.jsonl")
    parser.add_argument("target", type=Path, help="the folder to write into")
    options = parser.parse_args()
    train = rows_of(options.source / "train.jsonl")
    solutions = rows_of(options.source / "example_model_solutions.jsonl")
    options.target.mkdir(parents=True, exist_ok=True)
    for name, rows in files(train, solutions).items():
        (options.target / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{options.target / name}: {len(rows):,} rows")


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def files(train: list[dict], solutions: list[dict]) -> dict[str, list[dict]]:
    """The rows by the name of their file."""
    chats = list(conversations(train[:CONVERSATIONS]))
    trained, heldout = chats[:-HELDOUT_CONVERSATIONS], chats[-HELDOUT_CONVERSATIONS:]
    preferences = list(pairs(solutions[:SOLUTIONS]))
    return {
        "gsm8k_sft.jsonl": chats,
        "think.jsonl": [row for row in trained if thinks(row)],
        "no_think.jsonl": [row for row in trained if not thinks(row)],
        "heldout.jsonl": heldout,
        "gsm8k_pairs.jsonl": preferences,
        "pairs.jsonl": preferences[:-HELDOUT_PAIRS],
        "heldout_pairs.jsonl": preferences[-HELDOUT_PAIRS:],
        "questions.jsonl": [question(row) for row in train[ASKED]],
        "eval.jsonl": [question(row) for row in train[EVALUATED]],
    }


def conversations(problems: Iterable[dict]) -> Iterator[dict]:
    """Each problem as a conversation: two with the solution as reasoning, then one with the answer alone."""
    for number, problem in enumerate(problems):
        reasoning, answer = parts(problem["answer"], "#### ")
        think = number % 3 != 2
        yield {
            "messages": [user(problem["question"]), assistant(reasoning, answer) if think else said(answer)],
            "chat_template_kwargs": {"enable_thinking": think},
        }


def pairs(solutions: Iterable[dict]) -> Iterator[dict]:
    """A pair for each question that the large model solved and the small one got wrong, both to the end."""
    for row in solutions:
        chosen, rejected = row["175b_verification"], row["6b_finetuning"]
        whole = all("\nA: " in side["solution"] for side in (chosen, rejected))
        if chosen["is_correct"] and not rejected["is_correct"] and whole:
            yield {
                "prompt": [user(row["question"])],
                "chosen": [assistant(*parts(chosen["solution"], "A: "))],
                "rejected": [assistant(*parts(rejected["solution"], "A: "))],
                "chat_template_kwargs": {"enable_thinking": True},
            }


def parts(solution: str, mark: str) -> tuple[str, str]:
    """The steps of a solution, without the calculator's marks, and the answer behind its last line's `mark`."""
    steps, answer = re.sub(r"<<[^>]*>>", "", solution).rsplit(f"\n{mark}", 1)
    return steps, answer


def question(problem: dict) -> dict:
    return {"question": problem["question"], "answer": parts(problem["answer"], "#### ")[1]}


def thinks(row: dict) -> bool:
    return row["chat_template_kwargs"]["enable_thinking"]


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def said(content: str) -> dict:
    return {"role": "assistant", "content": content}


def assistant(reasoning: str, answer: str) -> dict:
    return said(f"<think>\n{reasoning}\n</think>\n{answer}")


if __name__ == "__main__":
    main()
