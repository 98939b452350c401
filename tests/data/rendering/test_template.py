"""Our own template's modes, and templates rendered as transformers renders them."""

import re
import subprocess
import sys
import time

import pytest
from conftest import CHATML
from data_helpers import TEMPLATES, THOUGHT
from helpers import chat, python

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.rendering.template import ChatTemplate
from apo_soup.data.rendering.time_limit import OutOfTime, TimeLimit
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError

ASSISTANT = "<|im_start|>assistant\n"


def rendered(tokenizer, messages, **kwargs) -> str:
    return Renderer(tokenizer).render(messages, kwargs)[0]


def test_our_template_modes(tokenizer):
    user = {"role": "user", "content": "Hi"}
    plain = rendered(tokenizer, [user])
    assert (
        plain == "<|im_start|>system\n## Metadata\n\nReasoning Mode: /think<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )
    assert "/no_think" in rendered(tokenizer, [user], enable_thinking=False)
    flagged = rendered(tokenizer, [{"role": "system", "content": "Be kind. /no_think"}, user])
    assert "Reasoning Mode: /no_think\n\n## Custom Instructions\n\nBe kind.<|im_end|>" in flagged
    override = rendered(tokenizer, [{"role": "system", "content": "Only this. /system_override"}, user])
    assert override.startswith("<|im_start|>system\nOnly this.<|im_end|>\n")
    dated = rendered(tokenizer, [user], date_string="01 July 2025", knowledge_cutoff="June 2025")
    assert "Knowledge Cutoff Date: June 2025\nToday Date: 01 July 2025\n" in dated
    tooled = rendered(tokenizer, [user], python_tools=["def f(): ..."], xml_tools=[{"name": "g"}])
    assert '<tools>\n{"name": "g"}\n</tools>' in tooled
    assert "<tools>\ndef f(): ...\n</tools>" in tooled


def test_generation_prompt_prefills_the_empty_block_only_without_thinking(tokenizer):
    renderer, user = Renderer(tokenizer), [{"role": "user", "content": "Hi"}]
    assert renderer.prompt(user, {"enable_thinking": True}).endswith(ASSISTANT)
    assert renderer.prompt(user, {"enable_thinking": False}).endswith(ASSISTANT + "<think>\n\n</think>\n")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("think", [True, False])
def test_texts_and_marks_are_those_that_transformers_renders(tokenizer, use, name, think):
    """Against `apply_chat_template`, the published template's call of the clock aside."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = TEMPLATES[name] or tokenizer.chat_template
    row = chat("One?", "1 <&> é", think)
    row["messages"] += chat("Two?", THOUGHT)["messages"]
    tools = None if name in ("chatml", "smollm2", "llama", "wide") else [{"name": "f<>", "parameters": {"é": 1}}]
    arguments = {**row["chat_template_kwargs"], "eos_token": "<|im_end|>", "tools": tools}
    ours, spans = use(TEMPLATES[name]).template.render(row["messages"], arguments)
    theirs, marks = render_jinja_template(
        [row["messages"]], chat_template=template, return_assistant_tokens_mask="endgeneration" in template, **arguments
    )
    dates = re.compile(r"Today Date: .*")
    assert dates.sub("", ours) == dates.sub("", theirs[0])
    if marks and "strftime_now" not in template:
        assert spans == [tuple(m) for m in marks[0]]


def test_control_characters_in_a_row_are_refused_by_a_marked_template(use):
    for words in ("\ufdd0", "a \ufdd1", "\ufdd0 \ufdd1"):
        with pytest.raises(RowError, match=r"U\+FDD0|assistant spans for 1"):
            use(None).conversation(parse_conversation(chat(words, f"x {words}", False), {}))


def test_a_template_cannot_reach_out_of_its_sandbox(use):
    renderer = use("{{ messages.__class__.__mro__ }}{{ messages.append(1) }}")
    with pytest.raises(RowError, match="chat_template: expected a row that it takes, got a refusal"):
        renderer.render([{"role": "user", "content": "x"}], {})


DATED = "{{- 'Today: ' + strftime_now('%d %B %Y') + '\n' -}}" + CHATML


def test_a_template_that_asks_for_the_day_is_told_a_fixed_one(use):
    renderer, user = use(DATED), [{"role": "user", "content": "Hi"}]
    assert renderer.render(user, {})[0].startswith("Today: 01 July 2025\n")
    for date in ("02 May 2026", "2026-05-02", "2 May 2026"):
        assert renderer.render(user, {"date_string": date})[0].startswith("Today: 02 May 2026\n")
    assert renderer.render(user, {"date_string": "today"})[0].startswith("Today: today\n")


def test_custom_instructions_reach_the_prompt(tokenizer):
    text = rendered(tokenizer, [{"role": "user", "content": "Hi"}], custom_instructions="Talk like a pirate.")
    assert "## Custom Instructions\n\nTalk like a pirate.<|im_end|>" in text
    assert Renderer(tokenizer).unread({"custom_instructions", "enable_thinking", "colour"}) == {"colour"}


def test_mode_flags_are_whole_words(tokenizer):
    user = {"role": "user", "content": "Hi"}
    text = rendered(tokenizer, [{"role": "system", "content": "See docs/thinking.md"}, user], enable_thinking=False)
    assert "Reasoning Mode: /no_think" in text
    assert "See docs/thinking.md<|im_end|>" in text
    system = {"role": "system", "content": "Read docs/thinking.md and a/think/b first. /think\n/no_think"}
    text = rendered(tokenizer, [system, user])
    assert "Read docs/thinking.md and a/think/b first.<|im_end|>" in text
    item = parse_conversation({**chat("Q", "It opens <think> and never ends", False)}, {})
    assert item.mode == "no_think"


LOOP = "{%- for a in range(99999) -%}{%- for b in range(99999) -%}"


@pytest.mark.parametrize(
    "text",
    [
        LOOP + "{%- endfor -%}{%- endfor -%}",
        "{%- generation -%}" + LOOP + "{{- 'x' if b > 99999 -}}{%- endfor -%}{%- endfor -%}{%- endgeneration -%}",
        "{%- macro f(n) -%}{%- if n -%}{{ f(n - 1) }}{{ f(n - 1) }}{%- endif -%}{%- endmacro -%}{{ f(60) }}",
    ],
)
def test_a_template_without_end_stops_with_a_sentence(monkeypatch, text):
    monkeypatch.setattr("apo_soup.data.rendering.template.TIME_LIMIT", 0.2)
    with pytest.raises(
        UserError, match=r"expected a template that ends, got one that is not done .* after 0.2 seconds"
    ):
        ChatTemplate(text).render([{"role": "user", "content": "x"}], {})


def test_a_template_that_fills_the_memory_stops_with_a_sentence(monkeypatch):
    monkeypatch.setattr("apo_soup.data.rendering.time_limit.LOOK_EVERY", 0.01)
    monkeypatch.setattr("apo_soup.data.rendering.time_limit.MOST_GROWTH", 2**26)
    doubling = (
        "{% set n = namespace(s='x' * 9999) %}{% for i in range(20) %}{% for j in range(9999) %}{% endfor %}"
        "{% set n.s = n.s ~ n.s %}{% endfor %}"
        "{% for j in range(99999) %}{% for k in range(99) %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(UserError, match="expected a template that writes no more than a row holds, got one that took"):
        ChatTemplate(doubling).render([{"role": "user", "content": "x"}], {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{% for n in range(10 ** 9) %}x{% endfor %}", "Range too big"),
        ("{{ 'x' * 10 ** 10 }}", "a repetition longer than 100000"),
        ("{{ 10 ** (10 ** 10) }}", "an exponent above 1000"),
        ("{{ [1] * 10 ** 9 }}", "a repetition longer than 100000"),
        ("{{ lipsum(10000) }}", "'lipsum' is undefined"),
    ],
)
def test_what_would_fill_the_memory_is_refused(text, told):
    with pytest.raises(RowError, match=f"^chat_template: expected a row that it takes, got a refusal: {told}"):
        ChatTemplate(text).render([], {})
    assert ChatTemplate("{{ 'ab' * 3 }}{{ 2 ** 3 * 2 }}").render([], {})[0] == "ababab16"


def test_the_limit_of_one_row_is_none_for_the_next():
    limit = TimeLimit(0.05)
    for _ in range(3):
        with limit:
            time.sleep(0.03)
    with pytest.raises(OutOfTime), limit:
        time.sleep(1)
    time.sleep(0.1)
    with limit:
        pass
    time.sleep(0.1)


def test_a_process_that_rendered_ends_as_it_should():
    """However soon after: the alarm is still set then, and Python gives up its handlers before its last work."""
    code = (
        "import sys, time; from apo_soup.data.rendering.time_limit import TimeLimit\n"
        "class Late:\n    def __del__(self, wait=time.sleep): wait(0.4)\n"
        "sys.late = Late()\n"
        "with TimeLimit(60): pass"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_short_limit_holds_after_a_long_one_and_a_long_one_after_a_short_one():
    with TimeLimit(60):
        pass
    with pytest.raises(OutOfTime), TimeLimit(0.05):
        time.sleep(1)
    with TimeLimit(0.02):
        pass
    with TimeLimit(60):
        time.sleep(0.1)


def test_no_alarm_is_left_for_a_process_that_ends():
    """It would kill an interpreter that takes its time to end, with an exit code that is no success."""
    program = """
import atexit, signal
atexit.register(lambda: print(signal.getitimer(signal.ITIMER_REAL)[0]))
from apo_soup.data.rendering.time_limit import TimeLimit
with TimeLimit(60): pass
print(signal.getitimer(signal.ITIMER_REAL)[0] > 0)"""
    assert python("-c", program).stdout == "True\n0.0\n"


def test_a_fault_of_the_time_limit_is_not_told_as_the_rows(monkeypatch):
    def broken(limit):
        raise ValueError("ours")

    template = ChatTemplate(CHATML)
    monkeypatch.setattr(TimeLimit, "__enter__", broken)
    with pytest.raises(ValueError, match=r"^ours$") as raised:
        template.render([{"role": "user", "content": "Hi"}], {})
    assert not isinstance(raised.value, RowError)
