"""The prompt beside two whole conversations: copies are taken in every form, another prompt is refused."""

import json

import pytest
from data_helpers import parsed_row

from apo_soup.data.sources.rows import RowError

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST, LAST = {"role": "user", "content": "What is 1?"}, {"role": "user", "content": "a"}
SHARED = [SYSTEM, FIRST, {"role": "assistant", "content": "One."}, LAST]


def pair_of(prompt: object):
    sides = {name: [*SHARED, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    return parsed_row({"prompt": prompt, **sides}, pairs=True)[1]


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "What is 1?",
        "a\n",
        "What is 1?\na",
        "What is 1? a",
        "\n\nHuman: What is 1?\n\nAssistant: One.\n\nHuman: a\n\nAssistant:",
        "USER: What is 1? ASSISTANT: One. USER: a ASSISTANT:",
        "<|im_start|>user\nWhat is 1?<|im_end|>\n<|im_start|>assistant\nOne.<|im_end|>\n<|im_start|>user\na<|im_end|>",
        [FIRST],
        [LAST],
        [SYSTEM, LAST],
        SHARED,
        json.dumps(SHARED),
    ],
)
def test_a_copy_of_the_prompt_says_nothing_new(prompt):
    assert pair_of(prompt).prompt == SHARED


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (
            "What is a cat?",
            "expected the text that chosen and rejected have, str 'a', got str 'What is a cat\\?'; remove",
        ),
        (
            [{"role": "user", "content": "b"}],
            "expected the user turn that chosen and rejected have, str 'a', got str 'b'",
        ),
        (
            [{**SYSTEM, "content": "Be long."}, LAST],
            "expected the system turn that chosen and rejected have, str 'Be brief.', got str 'Be long.'; remove the",
        ),
    ],
)
def test_another_prompt_is_refused_with_both(prompt, reason):
    with pytest.raises(RowError, match="field prompt: " + reason):
        pair_of(prompt)
