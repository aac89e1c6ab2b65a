"""Relays and workers of one party, which put together what they see of circuits.

Who has the first hop sees the asker; who has the last relay sees the worker; who has the worker
reads the prompt. Two ends of a circuit are joined by the timing of its cells, surely and at once:
an attacker that errs learns less. What it cannot join it may kill, so that the asker tries again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, final

from p2p.identity import AdnlId
from simulations.reading import Between

Kill: TypeAlias = Literal["none", "build", "open"]
"""What becomes of circuits that touch the coalition and that it cannot join: they stand; their
set-up is not passed on; or they are ended once they stand. `p2p.onion.guards` counts both."""

Goal: TypeAlias = Literal["worker", "prompt"]
"""What the coalition wants to join the asker with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relays:
    """What an experiment says of bad relays."""

    kill: Kill = "none"
    goal: Goal = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What an experiment says of bad workers: nothing but how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """What an experiment says of relays that keep askers from one worker."""

    worker: Annotated[int, Between(0, 50_000)] = 0
    """its place among the workers"""
    once_open: bool = False
    """Whether they end circuits that stand; else they say that it cannot be reached."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What the coalition knows of one circuit."""

    worker: bool
    """who asks which worker"""
    prompt: bool
    """who asks what"""


@final
class Coalition:
    """See the module."""

    def __init__(
        self,
        relays: Iterable[AdnlId] = (),
        workers: Iterable[AdnlId] = (),
        *,
        kill: Kill = "none",
        goal: Goal = "worker",
        denied: AdnlId | None = None,
    ) -> None:
        self._relays = dict.fromkeys(relays)
        self._workers = dict.fromkeys(workers)
        self._kill = kill
        self._goal = goal
        self.denied = denied
        """The worker that its last relays keep askers from, by word or by deed."""

    @property
    def kill(self) -> Kill:
        """What it does with circuits that it cannot join."""
        return self._kill

    def has_relay(self, peer: AdnlId) -> bool:
        """Whether a relay is one of it."""
        return peer in self._relays

    def has_worker(self, peer: AdnlId) -> bool:
        """Whether a worker is one of it."""
        return peer in self._workers

    def sees_asker(self, path: Sequence[AdnlId]) -> bool:
        """Whether the asker's neighbour is one of it. Of a path: relays, then the worker."""
        return self._has(path, 0)

    def joins(self, path: Sequence[AdnlId]) -> Joined:
        """What it knows of a circuit that stands."""
        last = max(0, len(path) - 2)
        sees, reads = self.sees_asker(path), self._has(path, len(path) - 1)
        return Joined(worker=sees and (reads or self._has(path, last)), prompt=sees and reads)

    def killer(self, path: Sequence[AdnlId]) -> int | None:
        """The place of who ends a circuit, as far as the asker can tell; None: it stands.

        The first of the coalition on the way does it, when none of it at the end has seen it come.
        Of a worker that a last relay denies, it says that the worker did.
        """
        last = len(path) - 1
        if path[last] == self.denied:
            return last if last and self._has(path, last - 1) else None
        if self._kill == "none":
            return None
        joined = self.joins(path)
        if joined.prompt if self._goal == "prompt" else joined.worker:
            return None
        return next((place for place in range(len(path)) if self._has(path, place)), None)

    def _has(self, path: Sequence[AdnlId], place: int) -> bool:
        if place == len(path) - 1:
            return self.has_worker(path[place])
        return self.has_relay(path[place])
