"""A chat template's texts around turns, and the Modelfile that is made of them."""

import re

import pytest
from conftest import CHATML, LLAMA_LIKE, QWEN3_LIKE, SMOLLM2
from data_helpers import published_template

from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.export.modelfile import go_template, modelfile
from apo_soup.export.turn_format import ChatFormat, chat_format, thinks_in_tags

USER, AGAIN = {"role": "user", "content": "How many?"}, {"role": "user", "content": "And then?"}
THREE = {"role": "assistant", "content": "Three.", "reasoning_content": "One and two."}
STOPS = ["<|im_end|>"]


@pytest.fixture
def format_of(tokenizer):
    """The format of a template; of ours without one."""
    ours = tokenizer.chat_template

    def found(text: str | None = None) -> ChatFormat | None:
        tokenizer.chat_template = text or ours
        return chat_format(Renderer(tokenizer))

    yield found
    tokenizer.chat_template = ours


def test_our_template_is_written_in_both_modes_as_jinja_writes_it(format_of, tokenizer):
    found = format_of()
    assert set(found.modes) == {"think", "no_think"}
    assert found.reads_word
    assert thinks_in_tags(found)
    renderer = Renderer(tokenizer)
    for mode, think in (("think", True), ("no_think", False)):
        for messages in ([USER], [{"role": "system", "content": "Be brief."}, USER, THREE, AGAIN]):
            assert found.modes[mode].render(messages) == renderer.prompt(messages, {"enable_thinking": think})
    assert found.modes["think"].prompt == "<|im_start|>assistant\n"
    assert found.modes["no_think"].prompt == "<|im_start|>assistant\n<think>\n\n</think>\n"
    assert found.modes["think"].user == ("<|im_start|>user\n", "<|im_end|>\n")


@pytest.mark.parametrize("text", [CHATML, SMOLLM2, LLAMA_LIKE])
def test_a_template_without_modes_has_one_format(format_of, text):
    found = format_of(text)
    assert list(found.modes) == ["think"]
    assert not found.reads_word
    assert "think" not in go_template(found)


@pytest.mark.parametrize("text", [QWEN3_LIKE, published_template()])
def test_modes_without_think_tags_around_earlier_reasoning_are_left_to_the_file(format_of, text):
    """Ollama would take the model for one that does not think, and refuse to be told the mode."""
    assert go_template(format_of(text)) is None


def test_a_template_that_does_more_has_no_format(format_of):
    assert format_of(CHATML.replace("{%- for message", "{{- strftime_now('%d %B') -}}{%- for message")) is None, (
        "the day's date"
    )
    assert format_of(CHATML.replace("message.content", "message.content | upper")) is None


def test_a_modelfile_holds_template_stops_sampling_and_how_the_mode_is_set(format_of):
    text = modelfile("merged-q8_0.gguf", format_of(), STOPS, {"temperature": 0.6, "top_p": 0.95, "do_sample": True})
    assert text.startswith('FROM ./merged-q8_0.gguf\nTEMPLATE """{{ $think := true }}')
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER temperature 0.6\nPARAMETER top_p 0.95\n' in text
    assert "/set nothink" in text
    assert "or /no_think as the first word of the system message" in text
    # By these Ollama knows that the model thinks, and leaves tools to the template in the file.
    assert "{{ .Thinking }}\n</think>\n" in text
    assert ".Tools" not in text
    # Every block is closed.
    template = re.search('"""(.*)"""', text, re.DOTALL)[1]
    words = re.findall(r"{{ (if|range|end)\b", template)
    assert words.count("end") == len(words) - words.count("end")


def test_a_modelfile_without_a_template_asks_for_an_ollama_that_reads_the_files(format_of):
    text = modelfile("m.gguf", None, STOPS, {})
    assert "REQUIRES 0.30.0\n" in text
    assert "TEMPLATE" not in text


def test_texts_that_would_end_the_template_are_not_written_into_it(format_of):
    broken = CHATML.replace("<|im_end|>", '"""')
    assert go_template(format_of(broken)) is None
    braces = go_template(format_of(CHATML.replace("<|im_start|>", "<|im_start|>{{")))
    assert '<|im_start|>{{ "{{" }}user\n' in braces


def test_a_beginning_of_text_that_llama_cpp_adds_is_left_out(format_of):
    found = format_of(LLAMA_LIKE)
    begin = "<|endoftext|>"
    assert found.modes["think"].render([USER]).startswith(begin)
    rest = found.without_begin(begin).modes["think"].render([USER])
    assert begin + rest == found.modes["think"].render([USER])
