"""The mask check of pairs names each fault."""

import re

import pytest
from conftest import CHATML, QWEN3_LIKE
from data_helpers import CALL, options
from helpers import preference

from apo_soup.data.checks.pair_check import CheckedPair, check_pair, pair_fault
from apo_soup.data.conversations.formats import formats_of
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


def test_the_mask_check_looks_at_pairs(tokenizer):
    end = tokenizer.eos_token_id

    def check(texts, ids, think=False):
        row = preference("Q", "yes", "no", think)
        check_pair(CheckedPair("s", "f:1", parse_pair(row, {}), texts), ids, tokenizer)

    texts = ["Q:", "Q: yes", "Q: no"]
    check(texts, ([5], [6, end], [7, end]))
    faults = [
        (texts, [700], False, "the rejected answer does not end with the end-of-turn token"),
        (["Q:", "Q:<think>\n\n</think>\nyes", "Q: no"], [7, end], False, "the chosen answer trains on an empty think"),
        (["Q:", "Q:<think>\nhm\n</think>\nyes", "Q: no"], [7, end], False, "chosen answer of a no-think pair has"),
        (texts, [7, end], True, "the chosen answer of a think pair has no reasoning"),
    ]
    for faulty, rejected, think, reason in faults:
        with pytest.raises(UserError, match=reason):
            check(faulty, ([5], [6, end], rejected), think)


def test_an_answer_ends_with_the_token_that_stops_generation_and_a_call_with_any(tokenizer):
    row = preference("Q", "yes", "no", False)
    texts, other = ["Q:", "Q: yes", "Q: no"], tokenizer.convert_tokens_to_ids("<|im_start|>")
    ids = ([5], [6, other], [7, tokenizer.eos_token_id])
    pair = CheckedPair("s", "f:1", parse_pair(row, {}), texts)
    fault = pair_fault(pair, ids, tokenizer)
    assert fault.startswith(
        "the chosen answer ends with <|im_start|> and generation stops at <|im_end|>, which is never"
    )
    call = {"role": "assistant", "tool_calls": [CALL]}
    pair = CheckedPair("s", "f:1", parse_pair({**row, "chosen": [call]}, {}), ["Q:", "Q: add a 1 b 2", "Q: no"])
    assert pair_fault(pair, ids, tokenizer) is None


OPENS_THINK = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}"
)
# Mistral's: the system text stands in the last user turn, if that is the last turn of all.
SYSTEM_LAST = (
    "{%- for m in messages if m.role != 'system' -%}{%- if m.role == 'user' -%}{{- '[INST]' -}}"
    "{%- if loop.last and messages[0].role == 'system' -%}{{- messages[0].content + '\n\n' -}}{%- endif -%}"
    "{{- m.content + '[/INST]' -}}{%- else -%}{{- m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
)
FULL, CLOSED = "<think>\nhm\n</think>\n\n4", "hm\n</think>\n\n5"


@pytest.mark.parametrize(
    ("template", "answers", "kwargs", "reason"),
    [
        (CHATML, (FULL, CLOSED), None, "the rejected answer: an answer closes a think block that nothing opens; write"),
        (CHATML, (CLOSED, FULL), None, "the chosen answer: an answer closes a think block that nothing opens; write"),
        (OPENS_THINK, (FULL, CLOSED), None, "the rejected answer: an answer closes a think block that nothing opens"),
        (OPENS_THINK, (FULL, "5"), None, "prompt opens a think block before every answer, and the rejected one has no"),
        (
            OPENS_THINK,
            (FULL, "<think>hm</think>5"),
            None,
            r"asks with '\\n' before the rejected answer and writes 'hm<",
        ),
        (CHATML, ("<think>\n</think>\n4", "5"), False, "the chosen answer trains on an empty think block; remove it"),
        (CHATML, (FULL, "5"), False, "the chosen answer of a no-think pair has reasoning; .*, or mode: by_row where"),
        (CHATML, ("4", FULL), False, "the rejected answer of a no-think pair has reasoning; take it off, or leave the"),
        (CHATML, ("4", "5"), True, "the chosen answer of a think pair has no reasoning; .*, or mode: by_row where"),
        (
            SYSTEM_LAST,
            ("4", "5"),
            None,
            "writes the system text elsewhere, or not at all, once the chosen answer follows",
        ),
        (QWEN3_LIKE, (f"So {FULL}", "5"), False, "the chosen answer of a no-think pair has reasoning"),
    ],
)
def test_a_pair_is_refused_for_what_is_wrong_with_it(tokenizer, use, template, answers, kwargs, reason):
    use(template)
    row = {"system": "Be brief.", "prompt": "2 + 2?", **dict(zip(("chosen", "rejected"), answers, strict=True))}
    row |= {} if kwargs is None else {"chat_template_kwargs": {"enable_thinking": kwargs}}
    encoder = PairEncoder(tokenizer, options(pairs=True))
    (shape,) = (f for f in formats_of(pairs=True) if f.name == "preference")
    (result,) = encoder([RowToEncode(Source("rows"), SourceRow("rows:9", row), shape, 1, checked=False)]).results
    assert re.search(reason, result.reason)
