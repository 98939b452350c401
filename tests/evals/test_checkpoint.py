"""A model folder as an evaluation loads it."""

import shutil

import pytest

from apo_soup.config.load import load
from apo_soup.models.generation import end_ids

WITHOUT_END = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize("template", ["apo-soup", WITHOUT_END])
def test_an_answer_ends_where_the_template_ends_a_turn(template, tiny_model, write_rows, write_recipe, tmp_path):
    """A base whose tokenizer and generation settings know the end of a text alone, as Qwen2.5's do."""
    from transformers import AutoTokenizer, GenerationConfig

    from apo_soup.evals.checkpoint import load_checkpoint

    folder = shutil.copytree(tiny_model, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    end_of_text, end_of_turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    GenerationConfig(eos_token_id=end_of_text).save_pretrained(folder)
    task = {"name": "a", "kind": "answer", "data": str(write_rows("rows.jsonl", [])), "verifier": "number"}
    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task], "chat_template": template}), "eval")
    checkpoint = load_checkpoint(suite, folder)
    expected = {end_of_text, end_of_turn} if template == "apo-soup" else {end_of_text}
    assert end_ids(checkpoint.model, checkpoint.tokenizer) == expected
