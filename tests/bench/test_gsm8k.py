"""GSM8K's two files as rows."""

from bench.gsm8k import conversations, files, pairs


def problem(number: int) -> dict:
    return {
        "question": f"What is {number} + 1?",
        "answer": f"It is {number} + 1 = <<{number}+1={number + 1}>>{number + 1}.\n#### {number + 1}",
    }


def solution(*, chosen: bool = True, rejected: bool = False, end: str = "\nA: 3") -> dict:
    return {
        "question": "What is 1 + 1?",
        "175b_verification": {"is_correct": chosen, "solution": "1 + 1 = <<1+1=2>>2\nA: 2"},
        "6b_finetuning": {"is_correct": rejected, "solution": f"1 + 1 = <<1+1=3>>3{end}"},
    }


def test_every_third_conversation_has_the_answer_alone():
    rows = list(conversations(problem(number) for number in range(6)))
    assert [row["chat_template_kwargs"]["enable_thinking"] for row in rows] == [True, True, False] * 2
    assert rows[1]["messages"] == [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "<think>\nIt is 1 + 1 = 2.\n</think>\n2"},
    ]
    assert rows[2]["messages"][1]["content"] == "3"


def test_a_pair_is_a_right_solution_over_a_wrong_one_both_to_the_end():
    refused = [solution(chosen=False), solution(rejected=True), solution(end="33333")]
    (row,) = pairs([*refused, solution()])
    assert row["chosen"] == [{"role": "assistant", "content": "<think>\n1 + 1 = 2\n</think>\n2"}]
    assert row["rejected"] == [{"role": "assistant", "content": "<think>\n1 + 1 = 3\n</think>\n3"}]


def test_what_is_held_out_is_trained_nowhere():
    made = files([problem(number) for number in range(7_473)], [solution() | {"question": f"{n}?"} for n in range(950)])
    assert {name: len(rows) for name, rows in made.items()} == {
        "gsm8k_sft.jsonl": 3_000, "think.jsonl": 1_960, "no_think.jsonl": 980, "heldout.jsonl": 60,
        "gsm8k_pairs.jsonl": 900, "pairs.jsonl": 800, "heldout_pairs.jsonl": 100,
        "questions.jsonl": 4_000, "eval.jsonl": 200,
    }  # fmt: skip
    asked = {name: {row["messages"][0]["content"] for row in made[name]} for name in ("think.jsonl", "no_think.jsonl")}
    asked |= {name: {row["question"] for row in made[name]} for name in ("questions.jsonl", "eval.jsonl")}
    asked["heldout.jsonl"] = {row["messages"][0]["content"] for row in made["heldout.jsonl"]}
    assert len(set.union(*asked.values())) == sum(len(questions) for questions in asked.values()) == 7_200
    prompts = [{row["prompt"][0]["content"] for row in made[name]} for name in ("pairs.jsonl", "heldout_pairs.jsonl")]
    assert not prompts[0] & prompts[1]
