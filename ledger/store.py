"""A node's store: one SQLite file, one writer, durable when it says so.

Every write is a function that runs in the writer's thread, inside a savepoint of a transaction that
it shares with whatever else is waiting: one fsync serves them all (group commit; Gray and Reuter,
*Transaction Processing*, section 9.4.7.2). `Store.write` returns after that fsync. WAL with
`synchronous=NORMAL` would lose the last commits at a power loss: money gets FULL.
"""

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, final

import apsw
import structlog
import trio

from ledger import schema
from ledger.money import Nano
from p2p.errors import LocalError, NoCapacity

T = TypeVar("T")

WINDOW: Final = 0.005
"""seconds from the end of a commit to the begin of the next: what comes meanwhile shares it. The
first write after a quiet time does not wait, nor does a commit that is full already."""

BATCH: Final = 256
"""writes that share a commit, at most"""

WAITING: Final = 4_096
"""writes that wait for a commit; more are refused"""

_PATIENCE: Final = 5_000
"""milliseconds to wait for another process that holds the file, such as a backup"""

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Value, ...]

log = structlog.get_logger()


class Connection(Protocol):
    """What the work of a write or read gets; valid until it returns."""

    def execute(self, statements: str, bindings: Sequence[Value] = ..., /) -> Iterator[Row]:
        """Run SQL; rows come as the result is iterated."""

    def changes(self) -> int:
        """Rows that the last INSERT, UPDATE or DELETE touched."""


Work: TypeAlias = Callable[[Connection], T]

Database: TypeAlias = apsw.Connection
"""All of a database, for who keeps a `File`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """A snapshot of a store's counters."""

    writes: int
    """works that became durable"""
    commits: int
    failed: int
    """commits that failed; none of their works happened"""
    waiting: int


@final
class Store:
    """See the module. Made by `async with Store.open(path) as store`."""

    def __init__(self, file: "File", *, window: float) -> None:
        self._file = file
        self._window = window
        self._queue: deque[_Item] = deque()
        self._more = trio.Event()
        self._closing = False
        self._writes = self._commits = self._failed = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path | None, *, window: float = WINDOW) -> AsyncIterator["Store"]:
        """Open or make the file, readable by its owner alone; None: in memory, for tests.

        In memory, the loop stands still while a work runs, and a virtual clock with it. Leaving
        the block, cancelled or not, commits what was queued and closes the file. Raises
        `LocalError` if the file cannot be used.
        """
        threads = None if path is None else (trio.CapacityLimiter(1), trio.CapacityLimiter(1))
        async with cls.over(_File(path, threads), window=0.0 if path is None else window) as store:
            yield store

    @classmethod
    @asynccontextmanager
    async def over(cls, file: "File", *, window: float = WINDOW) -> AsyncIterator["Store"]:
        """As `open`, over what does the work of a file: a simulation's disk, which may fail."""
        try:
            await file.open()
            store = cls(file, window=window)
            async with _whole(store):
                yield store
        finally:
            with trio.CancelScope(shield=True):  # milliseconds: one checkpoint of the log
                await file.close()

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction, and return what it returned once that is durable.

        An exception of `work` undoes what it did, alone, and is raised here. Cancelled, the work is
        done whole or not at all, and nobody is told which. Raises `LocalError` if the disk is full
        or cannot be written, then nothing was done; `NoCapacity` if too many writes wait.
        """
        item = _Write(work)
        self._add(item)
        await item.done.wait()
        return item.outcome()

    def post(self, work: Work[object]) -> None:
        """Have `work` done in the order of writes, without waiting; if it fails, the log says so.

        Raises `NoCapacity` if too many writes wait.
        """
        self._add(_Write(work, posted=True))

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent view of everything that was durable when it began.

        It must not write. Raises what `work` raises, `LocalError` if the disk does.
        """
        if self._closing:
            raise LocalError("the store is closed")
        return await self._file.read(lambda connection: _snapshot(connection, work))

    def statistics(self) -> StoreStatistics:
        """A snapshot."""
        return StoreStatistics(
            writes=self._writes,
            commits=self._commits,
            failed=self._failed,
            waiting=len(self._queue),
        )

    # --- the writer ---

    def _add(self, item: "_Item") -> None:
        if self._closing:
            raise LocalError("the store is closed")
        if len(self._queue) >= WAITING:
            raise NoCapacity("too many writes wait for the disk")
        self._queue.append(item)
        self._more.set()

    def close(self) -> None:
        """Take no more writes; those that wait are still done."""
        self._closing = True
        self._more.set()

    async def run(self) -> None:
        """Commit, until closed. A commit that has begun is finished whatever is cancelled."""
        with trio.CancelScope(shield=True):
            while not self._closing or self._queue:
                await self._more.wait()
                self._more = trio.Event()
                while self._queue:
                    await self._commit()
                    full = self._closing or len(self._queue) >= BATCH
                    await trio.sleep(0.0 if full else self._window)

    async def _commit(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        error = await self._file.write(lambda connection: _transaction(connection, batch))
        if error is None:
            self._commits += 1
            self._writes += sum(not item.failed for item in batch)
        else:
            self._failed += 1
            log.error("store.failed", reason=str(error), works=len(batch))
        for item in batch:
            item.finish(error)


@asynccontextmanager
async def _whole(store: Store) -> AsyncIterator[None]:
    """The writer runs until the block is left and everything queued is done."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            try:
                yield
            finally:
                store.close()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] if len(group.exceptions) == 1 else group from None


class _Item(Protocol):
    """A write of any type."""

    @property
    def failed(self) -> bool: ...

    def run(self, connection: apsw.Connection) -> None: ...

    def finish(self, error: LocalError | None) -> None: ...


@final
@dataclass(slots=True, eq=False)
class _Write(Generic[T]):
    """A work on its way through the writer."""

    work: Work[T]
    posted: bool = False
    done: trio.Event = field(default_factory=trio.Event)
    result: list[T] = field(default_factory=list)
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None

    def run(self, connection: apsw.Connection) -> None:
        """In a savepoint. Raises `apsw.Error` only if the whole transaction is lost."""
        connection.execute("SAVEPOINT work")
        try:
            self.result.append(self.work(connection))
        except Exception as error:  # whatever the work raises belongs to its caller
            if not connection.in_transaction or isinstance(error, _BROKEN):
                raise
            self.error = error
            connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")

    def finish(self, error: LocalError | None) -> None:
        if error is not None:
            self.error = error
        elif self.posted and self.error is not None:
            log.error("store.work.failed", exc_info=self.error)
        self.done.set()

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result[0]


# --- SQLite ---

_BROKEN: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.NoMemError,
)
"""What the disk is to blame for, or the file."""


class File(Protocol):
    """What a store writes to and reads from. A write that was answered is durable."""

    async def open(self) -> None:
        """Make the tables if need be. Raises `LocalError`."""

    async def close(self) -> None:
        """Nothing is asked of it after this."""

    async def write(self, work: Callable[[Database], None]) -> LocalError | None:
        """Do the work whole, or not at all; an error of the disk is a value."""

    async def read(self, work: Callable[[Database], T]) -> T:
        """Show the work what is durable. Raises what it raises, and `LocalError`."""


def in_memory(image: bytes = b"") -> Database:
    """A store that is nowhere else, for who makes a `File` of it: empty, or a copy of another."""
    database = apsw.Connection(":memory:")
    if image:
        database.deserialize("main", image)
    return _prepared(database)


@final
class _File:
    """The file's two connections, each used by one thread at a time."""

    def __init__(
        self, path: Path | None, threads: tuple[trio.CapacityLimiter, trio.CapacityLimiter] | None
    ) -> None:
        self._path = path
        self._threads = threads
        # In memory: another thread as well, so that a work that touches trio fails here, too; but
        # the loop stands still meanwhile.
        self._alone = ThreadPoolExecutor(1)
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None

    async def open(self) -> None:
        """Make the tables if need be. Raises `LocalError`."""
        await self._run(0, self._open)

    async def close(self) -> None:
        """Close both; the last one moves the log into the file."""
        await self._run(1, lambda: _close(self._reader))
        await self._run(0, lambda: _close(self._writer))
        self._alone.shutdown()

    async def write(self, work: Callable[[apsw.Connection], None]) -> LocalError | None:
        """Run in the writer's thread; an error of the disk is a value."""
        connection = self._writer
        assert connection is not None
        try:
            await self._run(0, lambda: work(connection))
        except LocalError as error:
            return error
        return None

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        connection = self._reader
        assert connection is not None
        return await self._run(1, lambda: work(connection))

    async def _run(self, thread: int, work: Callable[[], T]) -> T:
        def told() -> T:
            try:
                return work()
            except _BROKEN as error:
                raise LocalError(_advice(self._path, error)) from error

        if self._threads is None:
            await trio.lowlevel.checkpoint()
            return self._alone.submit(told).result()
        return await trio.to_thread.run_sync(told, limiter=self._threads[thread])

    def _open(self) -> None:
        if self._path is None:
            self._writer = self._reader = in_memory()
            return
        _make_private(self._path)
        self._writer = _prepared(apsw.Connection(str(self._path)))
        self._reader = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(_PATIENCE)


def _make_private(path: Path) -> None:
    """SQLite gives the log beside it the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise LocalError(f"the store {path} cannot be used: {error.strerror}") from error


def _prepared(connection: apsw.Connection) -> apsw.Connection:
    connection.set_busy_timeout(_PATIENCE)
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")
    _migrate(connection)
    return connection


_WHOLE: Final = "".join(
    (schema.NODE, schema.PEOPLE, schema.FRIENDS, schema.BATCHES, schema.PINS, schema.MINT)
)


def _migrate(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = integer(one(connection, "PRAGMA user_version")[0])
        if version > schema.VERSION:
            raise LocalError("the store is of a newer Tussah; update this one")
        if version == 0:
            connection.execute(_WHOLE)
        else:
            for older in range(version, schema.VERSION):
                connection.execute(schema.UPGRADES[older])
        connection.execute(f"PRAGMA user_version={schema.VERSION}")
    except BaseException:  # whatever it was: half a schema must not stay
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _transaction(connection: apsw.Connection, batch: Sequence[_Item]) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for item in batch:
            item.run(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(*_BROKEN):  # what made this necessary is raised
                connection.execute("ROLLBACK")


def _snapshot(connection: apsw.Connection, work: Work[T]) -> T:
    if connection.in_transaction:  # in memory, from within a write
        return work(connection)
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        connection.execute("ROLLBACK")


def _close(connection: apsw.Connection | None) -> None:
    if connection is not None:
        connection.close()


def _advice(path: Path | None, error: apsw.Error) -> str:
    """What happened and what to do, for people."""
    match error:
        case apsw.FullError():
            why = "the disk is full; nothing was lost or spent; free some space"
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            why = "it cannot be written; check the disk and who owns the file"
        case apsw.BusyError():
            why = "another process holds it; end that one first"
        case apsw.CorruptError() | apsw.NotADBError():
            why = "the file is damaged; restore it from the wallet's words and a backup"
        case _:
            why = f"the disk failed ({error})"
    return f"the store {path or 'in memory'} cannot be used: {why}"


# --- what a row holds ---


def one(connection: Connection, statement: str, *bindings: Value) -> Row:
    """The only row. Raises `KeyError` if there is none."""
    row = first(connection, statement, *bindings)
    if row is None:
        raise KeyError(statement)
    return row


def first(connection: Connection, statement: str, *bindings: Value) -> Row | None:
    """The first row, None if there is none."""
    return next(iter(connection.execute(statement, bindings)), None)


def integer(value: Value) -> int:
    """A column of integers. Raises `TypeError` for another: a statement of ours is wrong."""
    if type(value) is not int:
        raise TypeError(f"a column of integers holds {type(value).__name__}")
    return value


def nano(value: Value) -> Nano:
    """A column of amounts."""
    return Nano(integer(value))


def number(value: Value) -> float:
    """A column of times."""
    if type(value) is not float:
        raise TypeError(f"a column of times holds {type(value).__name__}")
    return value


def blob(value: Value) -> bytes:
    """A column of bytes."""
    if type(value) is not bytes:
        raise TypeError(f"a column of bytes holds {type(value).__name__}")
    return value


def text(value: Value) -> str:
    """A column of words."""
    if type(value) is not str:
        raise TypeError(f"a column of words holds {type(value).__name__}")
    return value
