"""Charts as SVG."""

from apo_soup.report.charts import COLOURS, Scale, heat_map, legend, line_chart, stacked_bars, thinned_line


def test_charts_hold_what_they_are_given():
    assert Scale(0, 10, 0, 100).at(5) == 50
    assert Scale.over([3.0], 0, 10) == Scale(2.5, 3.5, 0, 10)
    assert len(thinned_line([(float(n), 1.0) for n in range(5000)])) <= 400
    drawing = line_chart(
        {"a": [(0, 1.0), (1, float("nan")), (2, 3.0)], "<b>": [(0, 2.0)]}, "step", {"a": [(2, 1.0, 4.0)]}
    )
    assert "nan" not in drawing
    assert "&lt;b&gt;" in drawing
    assert "0.44" in heat_map("sft", ["128"], ["0%"], {("128", "0%"): 0.44})
    assert "1,234 tokens" in stacked_bars([("rows", [("trained", 1234.0), ("context", 0.0)])], "tokens")
    marks, bottom = legend([f"a long name {n}" for n in range(12)], 0)
    assert bottom > 32, "a long legend wraps"
    assert f"var(--c{COLOURS - 1})" in "".join(marks)
