"""Token buckets: how much of something may be had at once, and how fast it comes back."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar, final


@dataclass(slots=True)
class Bucket:
    """Allows `burst` at once, then `rate` a second."""

    rate: float
    burst: float
    level: float
    at: float

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether so much more is allowed; if not, nothing is taken."""
        self.level = min(self.burst, self.level + self.rate * (now - self.at))
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


def full_bucket(rate: float, burst: float, now: float) -> Bucket:
    """A bucket of which nothing has been taken."""
    return Bucket(rate, burst, burst, now)


K = TypeVar("K", bound=Hashable)


@final
class Buckets(Generic[K]):
    """A bucket for each of `size` keys; the one unheard of for longest is forgotten when full."""

    def __init__(self, rate: float, burst: float, size: int) -> None:
        self._rate, self._burst = rate, burst
        self._size = size
        self._buckets: dict[K, Bucket] = {}

    def take(self, now: float, key: K, amount: float = 1.0) -> bool:
        """Whether so much more is allowed of this key."""
        bucket = self._buckets.pop(key, None) or full_bucket(self._rate, self._burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._size:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now, amount)

    def left(self, now: float, key: K) -> float:
        """How much may be taken of this key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._burst
        bucket.take(now, 0.0)
        return bucket.level

    def __len__(self) -> int:
        return len(self._buckets)
