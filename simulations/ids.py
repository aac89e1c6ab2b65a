"""The ids of a population in their order: who is near to what, and whom a node would know."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Final, final

from p2p.entropy import Entropy
from p2p.identity import AdnlId

BITS: Final = 256


@final
class Ids:
    """What an oracle knows of a DHT. Nodes that share a prefix stand side by side."""

    def __init__(self, ids: Mapping[int, AdnlId]) -> None:
        pairs = sorted((int.from_bytes(one, "big"), node) for node, one in ids.items())
        self._sorted = [value for value, _ in pairs]
        self._nodes = [node for _, node in pairs]

    def acquaintances(self, own: AdnlId, k: int, entropy: Entropy) -> Iterator[int]:
        """Whom a node of a converged network knows: of each bucket `k`, or all if it has fewer."""
        key, low, high = int.from_bytes(own, "big"), 0, len(self._sorted)
        for bit in range(BITS - 1, -1, -1):
            if high - low <= 1:
                break
            middle = bisect_left(self._sorted, (key >> bit | 1) << bit, low, high)
            if key >> bit & 1:
                bucket, low = (low, middle), middle
            else:
                bucket, high = (middle, high), middle
            yield from (self._nodes[at] for at in _some(*bucket, k, entropy))
        yield from (self._nodes[at] for at in range(low, high) if self._sorted[at] != key)

    def nearest(self, target: bytes, counts: Callable[[int], bool]) -> int | None:
        """The node nearest to a key among those that count; None if none does."""
        key, spans = int.from_bytes(target, "big"), [(0, len(self._sorted))]
        for bit in range(BITS - 1, -1, -1):
            low, high = spans[-1]
            if high - low <= 1:
                break
            middle = bisect_left(self._sorted, (key >> bit | 1) << bit, low, high)
            spans.append((middle, high) if key >> bit & 1 else (low, middle))
        for low, high in reversed(spans):
            there = [at for at in range(low, high) if counts(self._nodes[at])]
            if there:
                return self._nodes[min(there, key=lambda at: self._sorted[at] ^ key)]
        return None


def _some(low: int, high: int, k: int, entropy: Entropy) -> Iterator[int]:
    """`k` distinct ones of a range that may be long, each as likely."""
    if high - low <= k:
        yield from range(low, high)
        return
    drawn: dict[int, None] = {}
    while len(drawn) < k:
        drawn[low + entropy.below(high - low)] = None
    yield from drawn
