"""When a request may start again: Retry-After in every form, and the pace behind it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from apo_soup.models.endpoint.pace import LONGEST_HOLD, RequestPace, retry_after_seconds


def seconds(**headers):
    return retry_after_seconds(SimpleNamespace(headers={k.replace("_", "-"): v for k, v in headers.items()}))


def test_a_wait_is_read_as_seconds_and_none_is_without_bound():
    assert retry_after_seconds(None) is None
    assert seconds() is None
    assert seconds(retry_after="soon") is None
    assert seconds(retry_after="2.5") == 2.5
    assert seconds(retry_after="-1") == 0.0
    assert seconds(retry_after_ms="1500", retry_after="9") == 1.5
    assert seconds(retry_after="inf") == LONGEST_HOLD


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S -0000"])
def test_a_wait_is_read_as_a_date(form):
    when = datetime.now(UTC) + timedelta(seconds=90)
    assert 85 < seconds(retry_after=when.strftime(form)) <= 90


def test_behind_a_wait_requests_start_further_apart_until_they_go_through():
    async def starts(pace, count):
        begun, times = time.monotonic(), []
        for _ in range(count):
            await pace.wait_for_turn()
            times.append(time.monotonic() - begun)
        return times

    pace = RequestPace(None)
    assert max(asyncio.run(starts(pace, 20))) < 0.1, "nobody waits without a reason"
    pace.hold(0.2)
    first, second, third = asyncio.run(starts(pace, 3))
    assert first + 0.01 >= 0.2
    assert second - first >= 0.045
    assert third - second >= 0.045
    for _ in range(50):
        pace.request_succeeded()
    assert max(asyncio.run(starts(pace, 20))) < 0.2
