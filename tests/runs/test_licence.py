"""The licence that a model's card names."""

import pytest

from apo_soup.runs.licence import licence_of


@pytest.mark.parametrize(
    ("front", "licence", "note"),
    [
        (b"license: mit", "mit", ""),
        (b"tags: [a]", None, ""),
        (b"license: [mit", None, "README.md cannot be read (while parsing a flow sequence"),
        (b"license: 2024-13-45", None, "README.md cannot be read (month must be in 1..12"),
        (b"license: \xff", None, "README.md cannot be read ('utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_card_that_cannot_be_read_ends_nothing_and_is_told(front, licence, note, tmp_path, capsys):
    (tmp_path / "README.md").write_bytes(b"---\n" + front + b"\n---\n# A model\n")
    assert licence_of(str(tmp_path)) == licence
    said = capsys.readouterr().out
    assert note in said
    assert said.endswith(f", so the licence of {tmp_path} is not known\n" if note else "")
    assert bool(said) == bool(note)
