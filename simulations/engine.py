"""How long answers take: a machine that computes several at once, and the exponential of theory.

An engine reads a prompt, then writes the answer. Answers side by side share the machine, which does
more in all the more of them there are: by 1, 1.21, 1.47 and 1.65 for 1, 4, 8 and 16 (measured:
SmolLM2-135M Q4_1 on two cores). A fluid model: shares change at the moment a job begins or ends.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol, final

SPEEDUP: Final = ((1, 1.0), (4, 1.21), (8, 1.47), (16, 1.65))
"""Answers side by side, and tokens a second of all together, of those of one alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one worker computes with."""

    slots: int = 4
    prompt_rate: float = 315.0
    answer_rate: float = 140.0
    """tokens a second of one job alone; measured as above"""
    speedup: Sequence[tuple[int, float]] = SPEEDUP

    def factor(self, active: int) -> float:
        """Of one job's speed, what so many have together; linear between what was measured."""
        if active <= self.speedup[0][0]:
            return self.speedup[0][1]
        for (fewer, slow), (more, fast) in pairwise(self.speedup):
            if active <= more:
                return slow + (fast - slow) * (active - fewer) / (more - fewer)
        return self.speedup[-1][1]

    def alone(self, prompt: float, answer: float) -> float:
        """Seconds of a job that has the machine to itself."""
        return prompt / self.prompt_rate + answer / self.answer_rate


NOTHING: Final = 2.0**-19
"""seconds of work that are as good as none: two steps of the grid of virtual time"""


class Engine(Protocol):
    """What runs the jobs of one worker."""

    def begin(self, now: float, job: int, seconds: float) -> None:
        """Start a job that would take so long alone."""

    def next_end(self) -> float | None:
        """When the next one is done, if nothing begins before."""

    def take(self, now: float) -> list[int]:
        """Those that are done by now."""


@final
class Apart:
    """Jobs do not slow each other down: the servers of queueing theory."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, int]] = []

    def begin(self, now: float, job: int, seconds: float) -> None:
        """See `Engine`."""
        heapq.heappush(self._ends, (now + seconds, job))

    def next_end(self) -> float | None:
        """See `Engine`."""
        return self._ends[0][0] if self._ends else None

    def take(self, now: float) -> list[int]:
        """See `Engine`."""
        done = []
        while self._ends and self._ends[0][0] <= now:
            done.append(heapq.heappop(self._ends)[1])
        return done


@final
class Batching:
    """Jobs share a machine evenly.

    All that run have had the same share since they began, so their ends are kept by how much one
    job is served in all: those of a heap, however often the share changes.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ends: list[tuple[float, int]] = []
        """By how much will have been served at the end."""
        self._served = 0.0
        """seconds of work done for each that ran all the time"""
        self._since = 0.0

    def begin(self, now: float, job: int, seconds: float) -> None:
        """See `Engine`."""
        self._serve(now)
        heapq.heappush(self._ends, (self._served + seconds, job))

    def next_end(self) -> float | None:
        """See `Engine`."""
        if not self._ends:
            return None
        return self._since + (self._ends[0][0] - self._served) / self._share()

    def take(self, now: float) -> list[int]:
        """See `Engine`."""
        self._serve(now)
        done = []
        while self._ends and self._ends[0][0] <= self._served + NOTHING:
            done.append(heapq.heappop(self._ends)[1])
        if not self._ends:
            self._served = 0.0
        return done

    def _serve(self, now: float) -> None:
        if self._ends:
            self._served += max(0.0, now - self._since) * self._share()
        self._since = now

    def _share(self) -> float:
        active = len(self._ends)
        return self._machine.factor(active) / active
