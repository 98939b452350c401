"""Answers that are a function of their prompt, in the place of a model's own, and problems of a contest."""

import json

from apo_soup.config.load import load
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.models.completion import Completion

# An answer that a limit of tokens ends.
CUT_OFF = "So I think"


class ScriptedAnswers:
    """An engine that answers by `answer(prompt)`, and keeps the prompts."""

    name = "transformers"

    def __init__(self, tokenizer, answer):
        self.tokenizer, self.answer, self.prompts = tokenizer, answer, []

    def answers(self, prompts, sampling):
        self.prompts += prompts
        texts = [self.answer(prompt) for prompt in prompts]
        return [Completion(text, len(self.tokenizer(text).input_ids), text != CUT_OFF) for text in texts]


def scripted_checkpoint(suite, tokenizer, answer):
    """A checkpoint whose answers are scripted."""
    engine, renderer = ScriptedAnswers(tokenizer, answer), Renderer(tokenizer)
    return Checkpoint(suite, None, None, tokenizer, renderer, 8, 3, 0, engine, None, renderer)


def scripted_task(write_recipe, tokenizer, answer, task):
    """The keys of a task, which is a suite's only one, and a checkpoint with scripted answers."""
    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
    return scripted_checkpoint(suite, tokenizer, answer), suite.tasks[0]


def contest_problem(number: int, day: str, starter: str = "") -> dict:
    """A problem in the columns of LiveCodeBench's data set: N plus the number that is given, on stdin or by a call."""
    tests = [
        {"input": str(n), "output": str(n + number), "testtype": "functional" if starter else "stdin"} for n in (1, 5)
    ]
    return {
        "question_title": f"Add {number}",
        "question_content": f"Add {number} to what you are given.",
        "platform": "leetcode" if starter else "atcoder",
        "question_id": f"q{number}",
        "contest_id": "c",
        "contest_date": f"{day}T00:00:00",
        "starter_code": starter,
        "difficulty": "easy" if number < 3 else "hard",
        "public_test_cases": json.dumps(tests[:1]),
        "private_test_cases": json.dumps(tests[1:]),
        "metadata": json.dumps({"func_name": "add"} if starter else {}),
    }
