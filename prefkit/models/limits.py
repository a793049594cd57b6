"""How many calls an endpoint gets at a time: as many as make it faster, fewer when it says that it is crowded.

The limit starts low and doubles for as long as a doubling raises the rate of answers by a tenth at least; what did not
is taken back, and tried again some rounds later. ``429`` and ``503`` halve the limit, at most once a second, after
which it grows by an eighth at a time. An endpoint that turns away more than half of what it is asked and says how long
to wait is left alone for so long.
"""

from __future__ import annotations

import math

START = 64
WORTH_IT = 0.1
"""How much faster the answers must come for a larger limit to stay, as a share of how much larger it is."""
HELD = 4
"""Rounds after which a limit that did not pay is tried again."""
COOL_DOWN = 1.0
"""Seconds between two halvings."""


class Throttle:
    """The limit of one endpoint; times are the event loop's, in seconds.

    Args:
        most: the limit is never higher.
    """

    def __init__(self, most: int) -> None:
        self.limit = min(START, most)
        self.in_flight = 0
        self.paused_until = 0.0
        self._most = most
        self._answered = 0
        self._since = -1.0
        self._smaller: tuple[int, float] | None = None
        self._held = HELD
        self._was_full = False
        self._doubling = True
        self._cut = -math.inf
        self._turned_away = 0.0

    def free(self, now: float) -> bool:
        """Whether a call may begin."""
        return self.in_flight < self.limit and now >= self.paused_until

    def begin(self, now: float) -> None:
        """A call begins."""
        self.in_flight += 1
        self._was_full |= self.in_flight >= self.limit
        if self._since < 0:
            self._since = now

    def end(self) -> None:
        """A call is over, one way or another."""
        self.in_flight -= 1

    def answered(self, now: float) -> None:
        """A call was answered; after a round of as many as the limit, the limit may grow."""
        self._turned_away *= 0.9
        self._answered += 1
        if self._answered >= self.limit:
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        rate = self._answered / max(now - self._since, 1e-9)
        if self._was_full:
            if self._smaller is not None:
                before, rate_before = self._smaller
                if rate > rate_before * (1 + WORTH_IT * (self.limit / before - 1)):
                    self._grow(rate)
                else:
                    self.limit, self._smaller, self._held = before, None, 0
            elif self._held >= HELD:
                self._grow(rate)
            else:
                self._held += 1
        self._answered, self._since, self._was_full = 0, now, False

    def _grow(self, rate: float) -> None:
        """Try a larger limit, and remember this one and its rate."""
        self._smaller = (self.limit, rate) if self.limit < self._most else None
        self.limit = min(self._most, self.limit + (self.limit if self._doubling else max(1, self.limit // 8)))

    def crowded(self, now: float, after: float | None) -> None:
        """The endpoint turned a call away, and perhaps said how long to wait."""
        self._turned_away = 0.9 * self._turned_away + 0.1
        if now - self._cut >= COOL_DOWN:
            self._cut, self._doubling = now, False
            self.limit = max(1, self.limit // 2)
            self._smaller, self._held, self._answered, self._since = None, 0, 0, now
        if after is not None and self._turned_away > 0.5:
            self.paused_until = max(self.paused_until, now + after)
