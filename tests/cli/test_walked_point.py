"""What a point of a walk lays over its training file."""

import pytest

from apo_soup.cli.walked_point import yaml_word
from apo_soup.config.yaml_lines import read_value

VALUES = [1e-7, "1e-7", "a, b", [{"seed": 1}], None, "true", True, "x\ny", "[", "", {"a": 1e-9}]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_through_the_command_line_as_it_is(value):
    assert read_value(yaml_word(value)) == value
