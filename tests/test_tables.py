"""Tables in plain text."""

from apo_soup.tables import text_table


def test_columns_are_as_wide_as_their_widest_cell():
    assert text_table(["a", "bb"], [["ccc", "d"]]) == "a    bb\n---  --\nccc  d"


def test_a_name_moves_no_cursor():
    assert text_table(["a"], [["x\x1b[2J\x9b"]]).splitlines()[-1] == "x\ufffd[2J\ufffd"
