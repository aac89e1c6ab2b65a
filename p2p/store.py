"""What a node keeps over restarts: its start, its seq, its guards, nodes it knew, adverts it had.

One SQLite file. A lost or corrupt one costs a bootstrap, never a start: it is put aside and begun
anew. Only the start and the seq are relied on: they must grow, so they are durable before they are
used. All here blocks, for milliseconds; callers use a thread where that matters.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Final, TypeVar, final

import apsw
import structlog

from p2p import defaults
from p2p.errors import LocalError
from p2p.kept import Kept as Kept
from p2p.kept import KeptGuard as KeptGuard

_VERSION: Final = 2

_TABLES: Final = """
CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE node (position INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE advert (position INTEGER PRIMARY KEY, seen REAL NOT NULL, buffer BLOB NOT NULL) STRICT;
"""

_GUARD: Final = """
CREATE TABLE guard (
    position INTEGER PRIMARY KEY, id BLOB NOT NULL, since REAL NOT NULL, until REAL NOT NULL,
    banned REAL NOT NULL, tries INTEGER NOT NULL, passed INTEGER NOT NULL, ended INTEGER NOT NULL,
    killed INTEGER NOT NULL
) STRICT;
"""
"""Since version 2."""

NODES: Final = 1_024
"""DHT nodes kept: four from each bucket that a network of millions fills."""

SEQ_BITS: Final = 20
"""low bits of a seq, for the adverts of one start; in JSON, 2^53 is not passed before 2240"""

_PATIENCE: Final = 2_000
"""milliseconds to wait for another process that holds the file, such as a backup"""

_GREATEST: Final = 2**63 - 1
"""of SQLite's integers"""

T = TypeVar("T")

log = structlog.get_logger()


@final
class NodeStore:
    """See the module. Made by `with NodeStore.open(path) as store`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator["NodeStore"]:
        """Open or make the file, readable by its owner alone; None: in memory, for tests.

        Raises `LocalError` if neither the file nor a new one in its place can be used.
        """
        connection = _opened(path)
        try:
            yield cls(connection)
        finally:
            connection.close()

    def start(self, now: float) -> int:
        """The time of this start: later than any that a peer believed. Durable when returned.

        No peer whose clock is right believes one further ahead, so that a start whose clock was
        years ahead is forgotten as soon as the clock is right.
        """
        return self._raised("started", int(now), most=int(now) + defaults.CLOCK_SLACK - 1)

    def next_seq(self, now: float) -> int:
        """The first seq for our adverts of this start, above all before. Durable when returned.

        It counts starts in the high bits, no fewer than seconds, so that those that follow it need
        no writing down: a start would have to issue a million a second to come to the next one's.
        """
        return self._raised("seq", int(now)) << SEQ_BITS

    def load(self) -> Kept:
        """What was saved last."""
        return replace(self._hints(), guards=self.guards())

    def guards(self) -> tuple[KeptGuard, ...]:
        """The guards that were saved last, in order."""
        columns = ", ".join(_COLUMNS)
        rows = self._rows(f"SELECT {columns} FROM guard ORDER BY position")  # noqa: S608 - our names
        return tuple(guard for row in rows if (guard := _guard_of(row)) is not None)

    def save_guards(self, guards: Sequence[KeptGuard]) -> None:
        """Replace the guards alone. Durable when returned. Raises `LocalError`."""
        self._do(lambda: self._replace_guards(guards))

    def _hints(self) -> Kept:
        nodes = self._rows("SELECT record FROM node ORDER BY position")
        adverts = self._rows("SELECT seen, buffer FROM advert ORDER BY position")
        return Kept(
            nodes=tuple(record for (record,) in nodes if isinstance(record, bytes)),
            adverts=tuple(
                (seen, buffer)
                for seen, buffer in adverts
                if isinstance(seen, float) and isinstance(buffer, bytes)
            ),
        )

    def save(self, kept: Kept) -> None:
        """Replace what was saved before, whole or not at all. Raises `LocalError`."""
        self._do(lambda: self._replace(kept))

    def _raised(self, name: str, least: int, most: int = _GREATEST) -> int:
        """The number of this name, made greater than it was, between `least` and `most`."""
        statement = (
            "INSERT INTO number VALUES (:name, :least) ON CONFLICT (name)"
            " DO UPDATE SET value = min(max(value + 1, :least), :most) RETURNING value"
        )
        bindings = {"name": name, "least": least, "most": most}
        ((value,),) = self._do(lambda: list(self._connection.execute(statement, bindings)))
        assert isinstance(value, int)
        return value

    def _replace(self, kept: Kept) -> None:
        adverts = kept.adverts[: defaults.MAX_ADVERTS]
        with self._connection:
            self._connection.execute("DELETE FROM node; DELETE FROM advert")
            self._connection.executemany(
                "INSERT INTO node (record) VALUES (?)", [(record,) for record in kept.nodes[:NODES]]
            )
            self._connection.executemany("INSERT INTO advert (seen, buffer) VALUES (?, ?)", adverts)
            self._replace_guards(kept.guards)

    def _replace_guards(self, guards: Sequence[KeptGuard]) -> None:
        columns = ", ".join(_COLUMNS)
        places = ", ".join("?" * len(_COLUMNS))
        statement = f"INSERT INTO guard ({columns}) VALUES ({places})"  # noqa: S608 - our names
        with self._connection:
            self._connection.execute("DELETE FROM guard")
            self._connection.executemany(statement, [astuple(guard) for guard in guards])

    def _rows(self, statement: str) -> list[tuple[object, ...]]:
        return self._do(lambda: list(self._connection.execute(statement)))

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except apsw.Error as error:
            raise LocalError(f"the node's store cannot be used: {error}") from error


def _opened(path: Path | None) -> apsw.Connection:
    if path is None:
        return _prepared(":memory:")
    try:
        return _prepared(os.fspath(path))
    except apsw.Error as error:
        log.warning("store.replaced", file=path.name, reason=type(error).__name__)
    _set_aside(path)
    try:
        return _prepared(os.fspath(path))
    except apsw.Error as error:
        raise LocalError(f"{path} cannot be used: {error}") from error


def _prepared(name: str) -> apsw.Connection:
    if name != ":memory:":
        with suppress(OSError):  # what is wrong with the place, SQLite says better
            os.close(os.open(name, os.O_RDWR | os.O_CREAT, 0o600))
    with ExitStack() as opened:
        connection = opened.enter_context(closing(apsw.Connection(name)))
        _prepare(connection)
        opened.pop_all()
    return connection


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_PATIENCE)
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
    version = connection.pragma("user_version")
    if version not in (0, 1, _VERSION):
        raise apsw.MismatchError(f"a store of version {version}")
    if version < _VERSION:
        missing = _GUARD if version else _TABLES + _GUARD
        with connection:
            connection.execute(f"{missing} PRAGMA user_version = {_VERSION}")
    if list(connection.execute("PRAGMA quick_check(1)")) != [("ok",)]:
        raise apsw.CorruptError("the file is damaged")


_COLUMNS: Final = tuple(field.name for field in fields(KeptGuard))


def _guard_of(row: tuple[object, ...]) -> KeptGuard | None:
    """A row as it was written; types are the table's, worth is for its reader to judge."""
    match row:
        case (
            bytes(id_),
            float(since),
            float(until),
            float(banned),
            int(tries),
            int(passed),
            int(ended),
            int(killed),
        ):
            return KeptGuard(
                id=id_,
                since=since,
                until=until,
                banned=banned,
                tries=tries,
                passed=passed,
                ended=ended,
                killed=killed,
            )
        case _:
            return None


def _set_aside(path: Path) -> None:
    """Keep the file for whoever wants to look, out of the way; the one from before goes."""
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(OSError):
            name.replace(name.with_name(f"{name.name}.bad"))
