"""Templates that open the think block in the prompt, as Qwen3 Thinking 2507's does."""

import copy

from eval_helpers import CUT_OFF, scripted_checkpoint
from helpers import chat

from apo_soup.config.load import load
from apo_soup.evals.answers import answer_task
from apo_soup.evals.metrics import ItemRow


def test_an_opening_in_the_prompt_is_the_answer_s_own(write_recipe, tokenizer):
    """Its mode was never kept, and a reasoning that did not end was read for an answer."""
    opening = copy.deepcopy(tokenizer)
    opening.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
    )
    task = {"name": "sums", "kind": "answer", "data": "q.jsonl", "modes": "think", "verifier": "exact"}
    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
    checkpoint = scripted_checkpoint(suite, opening, lambda p: CUT_OFF if "9" in p else "I add.\n</think>\n4")
    rows = [ItemRow({"messages": chat(q, "")["messages"][:1], "answer": "4"}) for q in ("2 + 2?", "9 + 9?")]
    result = answer_task(checkpoint, suite.tasks[0], rows)
    found = {name: list(metric.items) for name, metric in result.metrics.items() if "tokens" not in name}
    assert found == {"sums/think": [1, 0], "sums/obedience": [1, 0], "sums/closed": [1, 0]}
    assert result.samples[0].answer == "<think>I add.\n</think>\n4"
