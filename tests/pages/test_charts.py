"""Charts: what their lines, dots and names come to in pixels."""

from apo_soup.pages.charts import HEIGHT, WIDTH, Dot, Line, dot_chart, line_chart, thinned_line
from apo_soup.pages.drawing import COLOURS, Drawing, Spot, Stroke, Words, legend_marks, series_style, svg_file


def words(drawing: Drawing) -> list[str]:
    return [mark.text for mark in drawing.marks if isinstance(mark, Words)]


def strokes(drawing: Drawing, style: str) -> list[str]:
    return [mark.path for mark in drawing.marks if isinstance(mark, Stroke) and mark.style.startswith(style)]


def test_a_loss_falls_to_a_zero_that_is_drawn_and_its_ticks_are_round():
    drawing = line_chart([Line("mid", [(float(n), 7.3 / n) for n in range(1, 301)])], "step")
    assert words(drawing) == ["0", "2", "4", "6", "8", "100", "200", "300", "step"]
    assert strokes(drawing, "axis")[0] == "M40 160.0H328", "zero is the line that is stronger than the others"
    assert drawing.height == HEIGHT, "one line needs no legend"
    assert len(strokes(drawing, "line")[0].split("L")) <= 300


def test_a_range_far_from_zero_keeps_its_own_ends_and_margins_cross_zero():
    near = line_chart([Line("apo", [(0.0, 0.923), (50.0, 0.998)])], "step")
    assert words(near)[:5] == ["0.92", "0.94", "0.96", "0.98", "1.00"]
    assert not [path for path in strokes(near, "axis") if "H" in path]
    margins = line_chart([Line("apo", [(0.0, -0.1), (50.0, 0.3)])], "step")
    assert words(margins)[:5] == ["-0.1", "0", "0.1", "0.2", "0.3"]


def test_the_chosen_weight_is_marked_where_it_stands():
    line = Line("recall", [(0.8, 0.86), (0.85, 0.85), (1.0, 0.8)], [(0.8, 0.82, 0.9)])
    drawing = line_chart([line], "weight of soup", None, (0.85, "chosen 0.85"))
    assert strokes(drawing, "marked") == ["M112.0 14V160"], "a quarter of the way from 40 to 328"
    assert "chosen 0.85" in words(drawing)
    assert len(strokes(drawing, "band s0")) == 1
    assert sum(isinstance(mark, Spot) for mark in drawing.marks) == 3, "few points are dots too"


def test_what_is_no_number_is_left_out():
    drawing = line_chart([Line("a", [(0, 1.0), (1, float("nan")), (2, 3.0)]), Line("<b>", [(0, 2.0)])], "step")
    assert "nan" not in svg_file(drawing)
    assert "&lt;b&gt;" in svg_file(drawing)
    assert words(line_chart([Line("a", [(0, float("nan"))])], "step")) == ["no finite value"]
    assert len(thinned_line([(float(n), 1.0) for n in range(5000)])) <= 300


def test_dots_of_members_stand_above_that_of_the_soup():
    rows = [
        ("a name that is far too long for its row", [Dot(0.5, "member", small=True), Dot(0.5, "s0", "", (0.4, 0.6))])
    ]
    drawing = dot_chart(rows, "scores", [("s0", "soup")], (0.0, 1.0))
    member, soup = (mark for mark in drawing.marks if isinstance(mark, Spot))
    assert member.x == soup.x == (128 + WIDTH - 12) / 2, "half is the middle of the plot"
    assert member.y < soup.y
    (name,) = [mark for mark in drawing.marks if isinstance(mark, Words) and mark.told]
    assert name.text.endswith("…")
    assert name.told == rows[0][0]


def test_a_long_legend_wraps_and_colours_begin_anew():
    marks, bottom = legend_marks([(series_style(n), f"a long name {n}") for n in range(12)], 0, 0, WIDTH)
    assert bottom > 32
    assert max(mark.x for mark in marks) < WIDTH
    assert series_style(COLOURS) == series_style(0)
