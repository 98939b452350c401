"""When the requests to one endpoint may start: a given rate, and the waits that its server asks for."""

import asyncio
import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

# The longest wait, in seconds, that a server may put all requests off by at a time.
LONGEST_HOLD = 600.0
# Seconds between two requests behind a wait: at first, and at most.
FIRST_GAP, WIDEST_GAP = 0.05, 2.0


class RequestPace:
    """`requests_per_minute` requests evenly spread, and none while the server asked for quiet.

    Each time the server asks, the requests behind its wait are spread further apart, until they go through; when many
    would start in the same instant, most of them would be sent away again.
    """

    def __init__(self, requests_per_minute: float | None):
        self._given_gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._gap = self._given_gap
        self._next_start = 0.0

    def hold(self, seconds: float) -> None:
        """Let no request start for so long, and those behind it start further apart."""
        until = time.monotonic() + min(seconds, LONGEST_HOLD)
        if until > self._next_start + self._gap:  # the first of a crowd that is told the same
            self._gap = min(max(FIRST_GAP, 2 * self._gap), WIDEST_GAP)
        self._next_start = max(self._next_start, until)

    def request_succeeded(self) -> None:
        """Spread requests a little less from here on, down to the rate that was given."""
        self._gap = max(self._given_gap, self._gap * 0.98 if self._gap > 0.02 else 0.0)

    async def wait_for_turn(self) -> None:
        """Return when a request may start."""
        while True:
            now = time.monotonic()
            if now >= self._next_start:
                self._next_start = now + self._gap
                return
            await asyncio.sleep(self._next_start - now)


def retry_after_seconds(response: Any) -> float | None:
    """Seconds that a reply's Retry-After header (RFC 9110, section 10.2.3) asks for, as a number or as a date, or None.

    `retry-after-ms`, which some servers send in milliseconds, comes first. A number that is not finite is LONGEST_HOLD.

    Args:
        response: whatever has `headers`, or None where no reply came.
    """
    headers = response.headers if response is not None else {}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else LONGEST_HOLD
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    # The older forms of the date name no zone and mean UTC.
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())
