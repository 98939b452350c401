"""A model whose answers are a function of its prompt, in the place of transformers' own."""

import json
from types import SimpleNamespace

import torch

from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.evals.checkpoint import Checkpoint


class ScriptedModel:
    """Answers by `answer(prompt)`, and keeps the prompts."""

    device = torch.device("cpu")
    generation_config = SimpleNamespace(eos_token_id=None)

    def __init__(self, tokenizer, answer):
        self.tokenizer, self.answer, self.prompts = tokenizer, answer, []

    def generate(self, input_ids, attention_mask, **settings):
        rows = []
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            prompt = self.tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
            self.prompts.append(prompt)
            said = self.tokenizer(self.answer(prompt), add_special_tokens=False).input_ids
            rows.append([*said, self.tokenizer.eos_token_id])
        width = max(map(len, rows))
        padded = [row + [self.tokenizer.pad_token_id] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)


def scripted_checkpoint(suite, tokenizer, answer):
    """A checkpoint of a scripted model."""
    model = ScriptedModel(tokenizer, answer)
    return Checkpoint(suite, None, model, tokenizer, Renderer(tokenizer), 8, 8192, 3, 0)


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
