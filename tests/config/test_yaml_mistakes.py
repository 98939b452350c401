"""Mistakes of YAML are told with the line that they are in, and with what to write."""

import pytest

from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError

ALIKE = "indent the keys of one mapping alike"
BRACKETS = "brackets that are not closed, or in which a comma or a quote is wrong; correct them"
BEHIND = "a text behind the quote that ends a value; put quotes of the other kind around the whole"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: 1\nb:\n\tc: 2\n", 3, "a tab where the line is indented; indent with spaces"),
        ('a: 1\nb: "x\nc: 1\nd: 2\n', 2, "a quotation that does not end; close it"),
        ('a: "C:\\data"\n', 1, "a backslash inside double quotes; put single quotes around the text"),
        ("a: 1\nb: my run: second\n", 2, "a value with ': ' in it; put quotes around it"),
        ("a: 1\nb:\u00a01\nc: 2\n", 2, "a no-break space; write a plain one in its place"),
        ("a:1\nb: 2\n", 1, "a key without a space behind its colon; write one there"),
        ("x: 1\na:1e-5\n\n# note\n", 2, "a key without a space behind its colon; write one there"),
        ("a: 1\n  b: 2\n", 2, f"a line that is indented deeper than the one above it; {ALIKE}"),
        ("a:\n  - b: 1\n   c: 2\n", 3, f"a line that is indented otherwise than those before it; {ALIKE}"),
        ("a: 1\nb: [1, 2\nc: 1\n", 2, BRACKETS),
        ("b: {x: 1\nc: 1\n", 1, BRACKETS),
        ("id: *.jsonl\n", 1, "a value that begins with *; put quotes around it"),
        ("id: @a\n", 1, "a value that begins with @; put quotes around it"),
        ("id: {{name}}\n", 1, "braces in braces; put quotes around a text that holds them"),
        ("a: 1\n---\nb: 2\n", 2, "a second document behind ---; keep one"),
        ("a: 'it's'\n", 1, BEHIND),
        ('a: "x" y\n', 1, BEHIND),
        ('a: 1\nb: "x\n  y" z\n', 3, BEHIND),
        ("a: [1] x\n", 1, "a text behind the end of a value; put quotes around the whole"),
        ("a: |\n  x\n y\n", 3, f"a line that is indented otherwise than those before it; {ALIKE}"),
        ('a: >\n    x\'s "y"\n   z\n', 3, f"a line that is indented otherwise than those before it; {ALIKE}"),
        ("a:\tb\n", 1, "a tab before a value; write a space in its place"),
        ("a:\n  -\tb\n", 2, "a tab before a value; write a space in its place"),
        ("a: - b\n", 1, "a list that begins in its key's line; begin it in the next one"),
        ("model_name_or_path base\nx: 1\n", 1, "a line without a colon; write `key: value`"),
    ],
)
def test_a_mistake_of_yaml_is_told_in_words(text, line, told, tmp_path):
    file = tmp_path / "sft.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read_yaml(file)
    assert str(refused.value) == f"{file}:{line}: expected valid YAML, got {told}"
