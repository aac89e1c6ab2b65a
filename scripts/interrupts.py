"""Ctrl-C where something must be whole: processes started and noted, directories made and removed.

SIGINT and SIGTERM become `KeyboardInterrupt` only in the stretches that let them in; elsewhere they
are remembered. One that this process ignores stays ignored.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held() -> Iterator["Interrupts"]:
    """Hold interrupts back in this block, for the main thread. One that came is not lost."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    interrupts = Interrupts()
    for number in ours:
        signal.signal(number, interrupts.arrive)
    try:
        yield interrupts
    finally:
        for number in ours:
            signal.signal(number, before[number])
    interrupts.check()


@final
class Interrupts:
    """See the module."""

    def __init__(self) -> None:
        self._let_in = False
        self.came = False
        """Whether one waits: it was held back."""

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal."""
        if self._let_in:
            raise KeyboardInterrupt
        self.came = True

    def check(self) -> None:
        """Raise `KeyboardInterrupt` for one that was held back."""
        if self.came:
            self.came = False
            raise KeyboardInterrupt

    @contextmanager
    def let_in(self) -> Iterator[None]:
        """They interrupt this block; one that waits does at its begin."""
        try:
            self._let_in = True
            self.check()
            yield
        finally:
            self._let_in = False

    @contextmanager
    def shut_out(self) -> Iterator[None]:
        """They wait for the end of this block, inside one that lets them in."""
        before, self._let_in = self._let_in, False
        try:
            yield
        finally:
            self._let_in = before
        if before:
            self.check()
