"""The mask check of pairs names each fault."""

import re

import pytest
from conftest import CHATML, QWEN3_LIKE
from data_helpers import CALL, options, shipped_tokenizer
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
        check_pair(CheckedPair("f:1", parse_pair(row, {}), texts), ids, tokenizer)

    texts = ["Q:", "Q: yes", "Q: no"]
    check(texts, ([5], [6, end], [7, end]))
    faults = [
        (
            texts,
            [700],
            False,
            "field rejected: expected the end-of-turn token <.im_end.> at the end, got none; correct",
        ),
        (
            ["Q:", "Q:<think>\n\n</think>\nyes", "Q: no"],
            [7, end],
            False,
            "field chosen: expected words first, got an empty think block",
        ),
        (
            ["Q:", "Q:<think>\nhm\n</think>\nyes", "Q: no"],
            [7, end],
            False,
            "field chosen: expected no reasoning in a no-think pair",
        ),
        (texts, [7, end], True, "field chosen: expected reasoning in a think pair, got none"),
    ]
    for faulty, rejected, think, reason in faults:
        with pytest.raises(UserError, match=reason):
            check(faulty, ([5], [6, end], rejected), think)


def test_an_answer_ends_with_the_token_that_stops_generation_and_a_call_with_any(tokenizer):
    row = preference("Q", "yes", "no", False)
    texts, other = ["Q:", "Q: yes", "Q: no"], tokenizer.convert_tokens_to_ids("<|im_start|>")
    ids = ([5], [6, other], [7, tokenizer.eos_token_id])
    pair = CheckedPair("f:1", parse_pair(row, {}), texts)
    fault = pair_fault(pair, ids, tokenizer)
    assert fault.startswith(
        "field chosen: expected <|im_end|>, at which generation stops, at the end, got <|im_start|>, so the first"
    )
    call = {"role": "assistant", "tool_calls": [CALL]}
    pair = CheckedPair("f:1", parse_pair({**row, "chosen": [call]}, {}), ["Q:", "Q: add a 1 b 2", "Q: no"])
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
        (
            CHATML,
            (FULL, CLOSED),
            None,
            "field rejected: expected <think> before the </think> of an answer, got none; write",
        ),
        (
            CHATML,
            (CLOSED, FULL),
            None,
            "field chosen: expected <think> before the </think> of an answer, got none; write",
        ),
        (
            OPENS_THINK,
            (FULL, CLOSED),
            None,
            "field rejected: expected <think> before the </think> of an answer, got none",
        ),
        (OPENS_THINK, (FULL, "5"), None, "field rejected: expected reasoning, as the chat template's prompt opens a"),
        (
            OPENS_THINK,
            (FULL, "<think>hm</think>5"),
            None,
            r"field rejected: expected '\\n' before the answer, with which the chat template asks for it, got 'hm<",
        ),
        (
            CHATML,
            ("<think>\n</think>\n4", "5"),
            False,
            "field chosen: expected words first, got an empty think block; remove it",
        ),
        (
            CHATML,
            (FULL, "5"),
            False,
            "field chosen: expected no reasoning in a no-think pair, got some; .*, or mode: by_row",
        ),
        (
            CHATML,
            ("4", FULL),
            False,
            "field rejected: expected no reasoning in a no-think pair, got some; take it off, or",
        ),
        (
            CHATML,
            ("4", "5"),
            True,
            "field chosen: expected reasoning in a think pair, got none; .*, or mode: by_row where",
        ),
        (
            SYSTEM_LAST,
            ("4", "5"),
            None,
            "field chosen: expected the system text before the answer where the prompt has it",
        ),
        (QWEN3_LIKE, (f"So {FULL}", "5"), False, "field chosen: expected no reasoning in a no-think pair"),
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


def test_reasoning_is_known_however_a_template_marks_it():
    """Gemma 4 writes it as a channel."""
    encoder = PairEncoder(shipped_tokenizer("gemma4_v5", "<turn|>"), options(pairs=True))
    (shape,) = (f for f in formats_of(pairs=True) if f.name == "preference")

    def made(think):
        row = preference("2 + 2?", "4", "5", think)
        for side, thought in (("chosen", "Two and two."), ("rejected", "A guess.")):
            row[side][0]["reasoning_content"] = thought
        return encoder([RowToEncode(Source("rows"), SourceRow("rows:9", row), shape, 1, checked=False)]).results[0]

    assert "expected no reasoning in a no-think pair, got some" in made(think=False).reason
    ((_, chosen, rejected),) = made(think=True).parts
    assert "Two and two." in encoder.tokenizer.decode(chosen)
    assert "A guess." in encoder.tokenizer.decode(rejected)
