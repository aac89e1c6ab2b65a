"""A run of trio whose order of tasks a seed decides, and that stops wherever one likes.

Purse, till and mint are tasks, not cores, so they need trio; and trio runs tasks that are ready at
one moment in an order of its own. Here that order is drawn from the seed: the same seed, the same
run, and another seed tries another interleaving. It takes trio's private switch for that, which
exists for Hypothesis. The run is a guest of ours and goes on only while we pump it.
"""

import math
import random
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, final

import outcome
import trio
from trio.lowlevel import start_guest_run

from p2p.errors import LocalError


class _Scheduler(Protocol):
    """What of trio's scheduler is ours for the time being."""

    _ALLOW_DETERMINISTIC_SCHEDULING: bool
    _r: random.Random


_SCHEDULER: Final[_Scheduler] = trio._core._run  # type: ignore[attr-defined]  # noqa: SLF001 - see the module

_CONTEXT: Final[threading.local] = trio._core._run.GLOBAL_RUN_CONTEXT  # type: ignore[attr-defined]  # noqa: SLF001 - see `_inside`


@final
class Jumps(trio.abc.Clock):
    """A clock that is at the next deadline as soon as no task can go on.

    Trio asks how long to sleep only then, and here nothing comes from outside meanwhile: what
    `MockClock` finds out by a task that waits for all others to be blocked, a tick for each jump.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """See `Clock`."""

    def current_time(self) -> float:
        """See `Clock`."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Never any time: it is that late already. What has no deadline stays as it is."""
        if deadline < math.inf:
            self._now = max(self._now, deadline)
            return 0.0
        return math.inf


@final
class SteppedRun:
    """`main` on trio under a virtual clock that begins at 0. `pump` it, and `close` it."""

    def __init__(self, main: Callable[[], Awaitable[None]], seed: int) -> None:
        self.clock = Jumps()
        self._random = random.Random(seed)  # noqa: S311 - of an order of tasks
        self._queue: deque[Callable[[], object]] = deque()
        self._outcome: outcome.Outcome[None] | None = None
        self._scope: trio.CancelScope | None = None
        self._context: dict[str, object] = {}
        self._main = main
        self._started = False

    @property
    def is_over(self) -> bool:
        """Whether `main` has returned or raised."""
        return self._outcome is not None

    def pump(self, enough: Callable[[], bool]) -> None:
        """Go on until `enough`, or to the end. Raises what `main` does."""
        with _ordered(self._random), _inside(self._context):
            if not self._started:
                self._begin()
            while self._outcome is None and not enough():
                if not self._queue:
                    raise LocalError("every task waits, and for nothing that time brings")
                self._queue.popleft()()
        if self._outcome is not None:
            _unwrap(self._outcome)

    def close(self) -> None:
        """Cancel it where it stands, and wait until it is over."""
        if self._started and self._scope is not None and not self.is_over:
            with _inside(self._context):
                self._scope.cancel()
            self.pump(lambda: False)

    def _begin(self) -> None:
        self._started = True
        start_guest_run(
            self._run,
            run_sync_soon_threadsafe=self._queue.append,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            clock=self.clock,
        )

    async def _run(self) -> None:
        with trio.CancelScope() as self._scope:
            await self._main()

    def _done(self, result: "outcome.Outcome[None]") -> None:
        self._outcome = result


@contextmanager
def _ordered(draws: random.Random) -> Iterator[None]:
    """Inside, the order of tasks is the seed's; after it, trio's own again."""
    allowed, own = _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING, _SCHEDULER._r  # noqa: SLF001
    _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    _SCHEDULER._r = draws  # noqa: SLF001
    try:
        yield
    finally:
        _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # noqa: SLF001
        _SCHEDULER._r = own  # noqa: SLF001


@contextmanager
def _inside(context: dict[str, object]) -> Iterator[None]:
    """Which run a thread is in is trio's one global: ours while we pump, and then again theirs."""
    theirs, hooks = dict(_CONTEXT.__dict__), sys.get_asyncgen_hooks()
    _CONTEXT.__dict__.clear()
    _CONTEXT.__dict__.update(context)
    try:
        yield
    finally:
        context.clear()
        context.update(_CONTEXT.__dict__)
        _CONTEXT.__dict__.clear()
        _CONTEXT.__dict__.update(theirs)
        sys.set_asyncgen_hooks(*hooks)


def _unwrap(result: "outcome.Outcome[None]") -> None:
    """The one exception in a nest of groups, or the nest."""
    try:
        result.unwrap()
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
