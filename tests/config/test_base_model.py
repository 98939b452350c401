"""The file of the base model: what its keys say alone and together."""

import pytest
from helpers import ROOT

from apo_soup.config.load import load
from apo_soup.errors import UserError

TEXT = (ROOT / "recipes" / "tiny" / "base.yaml").read_text()


def test_the_shipped_file_is_right():
    recipe = load(ROOT / "recipes" / "tiny" / "base.yaml", "base")
    assert recipe.steps == 7125
    assert [phase.length for phase in recipe.phases] == [64, 128, 256, 512, 1024, 256, 512, 1024]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "hidden_size",
            "hiden_size",
            "hiden_size: expected a known key, got an unknown one; the nearest is hid",
        ),
        ("echo: 0.3,", "ecko: 0.3,", "phases.0.ecko: expected a known key, got an unknown one; the nearest is echo"),
        ("echo: 0.3, other: 0.0", "echo: 0.3, other: 0.8", "phases.0.other: expected shares of 1 together with echo"),
        ("length: 64", "length: 8", "phases.0.length: expected a whole number of 48 or more, got 8"),
        ("length: 64", "length: 4096", r"phases.0.length: expected at most max_position_embeddings \(2048\), got 4096"),
        ("size: 128", "size: 130", r"hidden_size: expected a multiple of twice num_attention_heads \(4\), got 130"),
        ("value_heads: 2", "value_heads: 3", r"num_attention_heads: expected a multiple of num_key_value_heads \(3\)"),
    ],
)
def test_a_wrong_key_is_told_with_its_line(old, new, told, tmp_path):
    file = tmp_path / "base.yaml"
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"{file}:\d+: {told}"):
        load(file, "base")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--config: expected a configuration file, got .*gone.yaml, which is not"):
        load(tmp_path / "gone.yaml", "base")
