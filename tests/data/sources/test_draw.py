"""The seeded draw of rows by weight."""

import pytest

from apo_soup.data.sources.draw import weighted_draw
from apo_soup.data.sources.rows import SourceRow


@pytest.mark.parametrize("weight", [0.02, 0.25, 0.5, 0.999, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("count", [1, 10, 1023, 1025, 5000])
def test_the_draw_takes_exactly_its_share_seeded(weight, count):
    rows = [SourceRow(str(n), {}) for n in range(count)]
    taken = [times for _, times in weighted_draw(iter(rows), weight, 7, 0)]
    assert len(taken) == count
    assert sum(taken) == int(weight) * count + round(weight % 1 * count)
    assert set(taken) <= {int(weight), int(weight) + 1}
    assert taken == [times for _, times in weighted_draw(rows, weight, 7, 0)]
    if weight % 1 > 0.1 and count > 1000:
        assert taken != [times for _, times in weighted_draw(rows, weight, 8, 0)]
        assert taken != [times for _, times in weighted_draw(rows, weight, 7, 1)]
