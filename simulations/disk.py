"""A disk in virtual time: what was committed is there after a crash, what was not is not.

A `Disk` outlives the stores that are opened over it, one after the other, as a file does the
processes. The database in it is real, and so are transactions; only when a write becomes durable,
and whether, is virtual: a node that goes down meanwhile finds all of it done, or nothing.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar, final

import trio

from ledger.store import Connection, Database, in_memory
from p2p.errors import LocalError
from simulations.faults import Kind

SYNC: Final = 0.004
"""seconds from a commit's begin to its end: an SSD's fsync"""

T = TypeVar("T")


@final
class Disk:
    """A `ledger.store.File`. `fate` says what happens to a write; `committed` hears of each."""

    def __init__(
        self,
        fate: Callable[[], Kind | None],
        committed: Callable[[Connection], object],
    ) -> None:
        self._database = in_memory(_empty())
        self._fate = fate
        self._committed = committed
        self._life = 0
        self._opened = 0
        self._gone = trio.Event()
        self.commits = 0

    async def open(self) -> None:
        """For a new process on the same disk."""
        self._opened = self._life
        self._gone = trio.Event()

    async def close(self) -> None:
        """Nothing: the disk stays."""

    def crash(self) -> None:
        """The process is gone: what it still writes reaches nothing."""
        self._life += 1
        self._gone.set()

    def erase(self) -> None:
        """All is lost; for a process that is gone already."""
        self._database.close()
        self._database = in_memory(_empty())

    def backup(self) -> bytes:
        """An image of what is durable."""
        return self._database.serialize("main") or b""

    def put_back(self, image: bytes) -> None:
        """What an image had is there again, and nothing else."""
        self._database.close()
        self._database = in_memory(image)

    async def write(self, work: Callable[[Database], None]) -> LocalError | None:
        """Now durable before its time has passed, now only then: a crash may come between."""
        life = self._opened
        early = self.commits % 2
        await trio.sleep(0.0 if early else SYNC)
        fate = self._fate()
        if life != self._life:
            return LocalError("the process is gone")
        match fate:
            case Kind.DISK_FULL:
                return LocalError("the disk is full")
            case Kind.DISK_SHORT:
                return LocalError("a write stopped half way")
            case Kind.DISK_LOST:
                await self._gone.wait()
                return LocalError("the process is gone")
            case _:
                work(self._database)
        self.commits += 1
        self._committed(self._database)
        if early:
            await trio.sleep(SYNC)
        return None if life == self._life else LocalError("the process is gone")

    async def read(self, work: Callable[[Database], T]) -> T:
        """At once, as from a cache."""
        await trio.lowlevel.checkpoint()
        if self._opened != self._life:
            raise LocalError("the process is gone")
        return work(self._database)

    def look(self, work: Callable[[Connection], T]) -> T:
        """What is durable, for who watches from outside."""
        return work(self._database)


@cache
def _empty() -> bytes:
    """Of a new store: its tables take longer to make than to copy."""
    return in_memory().serialize("main") or b""
