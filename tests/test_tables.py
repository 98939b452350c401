"""Tables in plain text."""

from apo_soup.tables import text_table


def test_columns_are_as_wide_as_their_widest_cell():
    assert text_table(["a", "bb"], [["ccc", "d"]]) == "a    bb\n---  --\nccc  d"
