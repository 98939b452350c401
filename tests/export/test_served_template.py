"""A chat template as servers get it, beside the one that was trained with."""

import json

from apo_soup.data.rendering.template import ChatTemplate
from apo_soup.export.probes import prompts
from apo_soup.export.served_template import served_template, trained_dates


def test_a_served_template_writes_what_was_trained_whatever_the_day(tokenizer):
    """llama.cpp's server gives every template the day's date; a row had the pinned one, or none."""
    text = tokenizer.chat_template
    ours = ChatTemplate(text)
    for pinned in ({}, {"date_string": "01 July 2025", "knowledge_cutoff": "June 2025"}):
        plain = served_template(text, pinned)
        assert "generation -" in text
        assert "endgeneration" not in plain
        theirs = ChatTemplate(plain)
        for prompt in prompts(knows_modes=True):
            given = {**prompt.arguments, "add_generation_prompt": True}
            want = ours.render(prompt.messages, {**given, **pinned})[0]
            assert theirs.render(prompt.messages, {**given, "date_string": "30 Nov 2026"}) == (want, [])
            assert ("Today Date: 01 July 2025" in want) == bool(pinned)


def test_the_dates_of_training_are_read_up_the_line(tmp_path):
    made = {
        "sft": {"config": {"chat_template_kwargs": {"date_string": "01 July 2025", "enable_thinking": True}}},
        "soup": {"config": {"merge_method": "linear"}, "metrics": {"models": ["sft"]}},
    }
    for name, manifest in made.items():
        (tmp_path / name).mkdir()
        whole = {"stage": name, "inputs": {}, "metrics": {}} | manifest
        (tmp_path / name / "manifest.json").write_text(json.dumps(whole))
    assert trained_dates(tmp_path / "soup") == {"date_string": "01 July 2025"}
    assert trained_dates(tmp_path) == {}
