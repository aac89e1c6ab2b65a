"""Somebody who watches links, and joins a client's with a worker's by when cells pass.

Cells of an answer leave the worker when tokens come or, on a shaped circuit, in the slots of
`p2p.onion.shaping`, to the end of its bucket; at the client they are one passage later. The
observer counts cells in quarters of a second at both ends, and takes for one conversation what
rises and falls together: Spearman's rank correlation, at the best of a few lags. A simple one: what
it misses, better ones may find.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Final, final

from p2p.entropy import Entropy
from p2p.onion.shaping import Pacer, answer_bucket
from simulations.metrics import Meter
from simulations.reading import Between
from simulations.samplers import gamma

BIN: Final = 0.25
"""seconds that are counted together"""

LAGS: Final = 6
"""bins by which a passage may be late: 1.5 s"""

MARGIN: Final = 2.0
"""seconds of silence before and after that are looked at, too: a beginning and an end tell much"""

STEADINESS: Final = 4.0
"""shape of the gaps between tokens: they vary by half of their mean"""

WANDER: Final = 0.1
"""share of a passage by which a cell is late at most: the jitter of links"""

MOST: Final = 400
"""conversations that are compared, each with each: the first ones"""

FALSE: Final = 1e-3
"""share of the wrong pairs that are let pass for right ones"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """What an experiment says of it: how the circuits are shaped that it looks at."""

    rate: Annotated[int, Between(0, 10)] = 0
    """cells a second of an answer; 0: a cell for each token, when it comes"""


@dataclass(frozen=True, slots=True)
class Flow:
    """When cells of one conversation passed, at both ends."""

    worker: Sequence[float]
    client: Sequence[float]

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last of them."""
        return self.worker[0], self.client[-1]


@final
class Watch:
    """All conversations that were seen; `judge` says at the end how many were joined."""

    def __init__(self, observer: Observer, entropy: Entropy) -> None:
        self._observer = observer
        self._entropy = entropy
        self._flows: list[Flow] = []

    def see(self, began: float, passage: float, tokens: int, token_rate: float) -> None:
        """An answer of so many tokens whose worker begins at an instant."""
        if len(self._flows) < MOST and tokens:
            gaps = [self._gap(token_rate) for _ in range(tokens)]
            leaving = [began + since for since in accumulate(gaps)]
            if self._observer.rate:
                leaving = self._slots(began, leaving[-1])
            self._flows.append(Flow(leaving, self._arriving(leaving, passage)))

    def judge(self, meter: Meter) -> None:
        """Compare what was under way at one time, and say of each pair if it is found."""
        right = [score(flow, flow) for flow in self._flows]
        wrong = [
            score(one, other)
            for one in self._flows
            for other in self._flows
            if one is not other and _meet(one, other)
        ]
        bar = threshold(wrong)
        for found in right:
            meter.observe("true_positive", found > bar)

    def _gap(self, rate: float) -> float:
        return gamma(self._entropy, STEADINESS) / (STEADINESS * rate)

    def _slots(self, began: float, said: float) -> list[float]:
        """Slots from the prompt's end on, to the end of the bucket in which all has been said."""
        pacer, bucket = Pacer(self._observer.rate, began), answer_bucket(said - began)
        slots = []
        while pacer.due <= began + bucket:
            slots.append(pacer.due)
            pacer.take(pacer.due)
        return slots

    def _arriving(self, leaving: Sequence[float], passage: float) -> list[float]:
        late = (when + passage * (1.0 + WANDER * self._entropy.uniform()) for when in leaving)
        return [*accumulate(late, max)]


def score(worker: Flow, client: Flow) -> float:
    """How much the cells that leave a worker look like those that reach a client."""
    start = min(worker.worker[0], client.client[0]) - MARGIN
    size = 1 + int((max(worker.worker[-1], client.client[-1]) + MARGIN - start) / BIN)
    here, there = counts(worker.worker, start, size), counts(client.client, start, size)
    return max(correlation(here[: size - lag], there[lag:]) for lag in range(min(LAGS, size)))


def counts(times: Sequence[float], start: float, size: int) -> list[int]:
    """Cells in each bin."""
    found = [0] * size
    for when in times:
        found[int((when - start) / BIN)] += 1
    return found


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's: that of the ranks, equal values sharing theirs; 0 if one side never changes."""
    x, y = ranks(xs), ranks(ys)
    middle = (len(x) + 1) / 2.0
    both = math.fsum((a - middle) * (b - middle) for a, b in zip(x, y, strict=True))
    spread = math.sqrt(
        math.fsum((a - middle) ** 2 for a in x) * math.fsum((b - middle) ** 2 for b in y)
    )
    return both / spread if spread else 0.0


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the least; equal ones have the mean of the places that they take."""
    order = sorted(range(len(values)), key=lambda at: (values[at], at))
    found = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            found[order[place]] = (first + last) / 2.0 + 1.0
        first = last + 1
    return found


def threshold(wrong: Sequence[float]) -> float:
    """The score that `FALSE` of the wrong pairs are above; of few ones, the best score of all."""
    allowed = int(FALSE * len(wrong))
    return sorted(wrong, reverse=True)[allowed] if wrong else -1.0


def _meet(one: Flow, other: Flow) -> bool:
    (first, last), (begin, end) = one.ends, other.ends
    return first < end and begin < last
