"""Lines of finite speed: first in, first out, and a queue that overflows at its tail."""

from collections.abc import Callable
from typing import Final, final

QUEUE: Final = 0.2
"""seconds that wait on a line at most, as in a home router; then it drops"""


@final
class Lines:
    """The line of each node, in one direction; `speed` gives its bits per second."""

    def __init__(self, speed: Callable[[int], float], queue: float = QUEUE) -> None:
        self._speed = speed
        self._queue = queue
        self._free: dict[int, float] = {}

    def carry(self, now: float, node: int, size: int) -> float | None:
        """When so many bytes are through; None if too much waits before them."""
        start = max(now, self._free.get(node, now))
        if start - now > self._queue:
            return None
        through = self._free[node] = start + 8.0 * size / self._speed(node)
        return through


def megabits(speeds: Callable[[int], float]) -> Callable[[int], float]:
    """Bits per second of speeds in megabits."""
    return lambda node: 1e6 * speeds(node)
