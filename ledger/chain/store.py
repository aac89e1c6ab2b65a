"""What an embedded chain keeps: accounts, transactions, blocks, messages; one SQLite file.

A block is one transaction of the database, durable when `commit` returns, so that a crash leaves
the chain at the end of one block or of the one before, with every coin in exactly one place.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, final

import apsw

from ledger.lane import Account
from ledger.money import Nano
from p2p.errors import LocalError

_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    address BLOB PRIMARY KEY,
    boc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tx (
    address BLOB NOT NULL,
    lt INTEGER NOT NULL,
    seqno INTEGER NOT NULL,
    boc BLOB NOT NULL,
    PRIMARY KEY (address, lt)
) STRICT, WITHOUT ROWID;
CREATE TABLE block (
    seqno INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    lt INTEGER NOT NULL
) STRICT;
CREATE TABLE queue (n INTEGER PRIMARY KEY AUTOINCREMENT, boc BLOB NOT NULL) STRICT;
"""

_VERSION: Final = 1

TOTALS: Final = ("genesis", "giver", "fees", "astray")
"""nano: all coins there ever were; not given out yet; paid to validators, of whom there are none;
sent to other workchains, of which there are none. The rest is in accounts and messages."""

Value: TypeAlias = int | bytes | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block with something in it, or one at which time or rules changed."""

    seqno: int
    time: int
    """milliseconds since 1970"""
    lt: int
    """The logical time that the next transaction will exceed."""


@dataclass(slots=True, kw_only=True)
class Changes:
    """All that a block changes."""

    block: Block
    accounts: dict[Account, bytes] = field(default_factory=dict)
    """Each a bag of cells of a `ShardAccount`."""
    transactions: list[tuple[Account, int, bytes]] = field(default_factory=list)
    """Whose, logical time, bag of cells."""
    taken: list[int] = field(default_factory=list)
    """Queued messages that are not queued any more."""
    queued: list[bytes] = field(default_factory=list)
    """Messages for the next block."""
    totals: Counter[str] = field(default_factory=Counter)
    """Changes of totals, in nano."""
    meta: dict[str, int | bytes] = field(default_factory=dict)
    """Settings that hold from this block on."""


@final
class ChainStore:
    """See the module. Calls block for the milliseconds that SQLite takes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path | None) -> "ChainStore":
        """The file at `path`, made if need be; None: in memory. Raises `LocalError`."""
        with ExitStack() as undone:
            try:
                connection = apsw.Connection(":memory:" if path is None else str(path))
                undone.callback(connection.close)
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
                connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
                _migrate(connection)
            except apsw.Error as error:
                raise LocalError(f"the chain {path} cannot be opened: {error}") from error
            undone.pop_all()
            return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def found(self, genesis: Block, supply: Nano, meta: dict[str, int | bytes]) -> None:
        """The first block, with all coins at the giver."""
        totals = dict.fromkeys(TOTALS, 0) | {"genesis": supply.value, "giver": supply.value}
        with self._transaction():
            for key, value in (totals | meta).items():
                self._set(key, value)
            self._add(genesis)

    def commit(self, changes: Changes) -> None:
        """Make a block durable, whole or not at all."""
        with self._transaction():
            self._add(changes.block)
            self._run_many(
                "INSERT OR REPLACE INTO account VALUES (?, ?)", [*changes.accounts.items()]
            )
            rows = [(at, lt, changes.block.seqno, boc) for at, lt, boc in changes.transactions]
            self._run_many("INSERT INTO tx VALUES (?, ?, ?, ?)", rows)
            self._run_many("DELETE FROM queue WHERE n = ?", [(n,) for n in changes.taken])
            queued = [(boc,) for boc in changes.queued]
            self._run_many("INSERT INTO queue (boc) VALUES (?)", queued)
            for key, change in changes.totals.items():
                self._set(key, self.total(key) + change)
            for key, value in changes.meta.items():
                self._set(key, value)

    def newest(self) -> Block | None:
        """The newest block; None before the first."""
        return self._block("ORDER BY seqno DESC LIMIT 1")

    def block(self, seqno: int) -> Block | None:
        """The newest block up to `seqno`."""
        return self._block("WHERE seqno <= ? ORDER BY seqno DESC LIMIT 1", seqno)

    def meta(self, key: str) -> int | bytes | None:
        """A setting."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else _unpack(_bytes(row[0]))

    def account(self, address: Account) -> bytes | None:
        """The bag of cells of its `ShardAccount`."""
        row = self._one("SELECT boc FROM account WHERE address = ?", address)
        return None if row is None else _bytes(row[0])

    def after(self, address: Account, lt: int, limit: int) -> list[bytes]:
        """Transactions later than `lt`, oldest first."""
        statement = "SELECT boc FROM tx WHERE address = ? AND lt > ? ORDER BY lt LIMIT ?"
        rows = self._connection.execute(statement, (address, lt, limit))
        return [_bytes(boc) for (boc,) in rows]

    def before(self, address: Account, lt: int, limit: int) -> list[tuple[Block, bytes]]:
        """Transactions at `lt` and before, newest first, each with its block."""
        statement = (
            "SELECT seqno, time, block.lt, boc FROM tx JOIN block USING (seqno)"
            " WHERE address = ? AND tx.lt <= ? ORDER BY tx.lt DESC LIMIT ?"
        )
        rows = self._connection.execute(statement, (address, lt, limit))
        return [(_row_block(row), _bytes(row[3])) for row in rows]

    def queue(self, limit: int = -1) -> list[tuple[int, bytes]]:
        """The oldest messages on their way: number, bag of cells. Negative: all."""
        rows = self._connection.execute("SELECT n, boc FROM queue ORDER BY n LIMIT ?", (limit,))
        return [(_int(n), _bytes(boc)) for n, boc in rows]

    def total(self, key: str) -> int:
        """One of `TOTALS`, in nano."""
        return _int(self.meta(key))

    def accounts(self) -> Iterator[tuple[Account, bytes]]:
        """Every account there has been. Nothing may be committed meanwhile."""
        for address, boc in self._connection.execute("SELECT address, boc FROM account"):
            yield Account(_bytes(address)), _bytes(boc)

    def sizes(self) -> dict[str, int]:
        """Rows of each table."""
        tables = ("account", "tx", "block", "queue")
        return {table: self._count(table) for table in tables}

    # --- SQL ---

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            raise LocalError(f"the chain's file failed: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _run_many(self, statement: str, rows: Sequence[tuple[Value, ...]]) -> None:
        if rows:
            self._connection.executemany(statement, rows)

    def _add(self, block: Block) -> None:
        row = (block.seqno, block.time, block.lt)
        self._connection.execute("INSERT INTO block VALUES (?, ?, ?)", row)

    def _set(self, key: str, value: int | bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _pack(value)))

    def _count(self, table: str) -> int:
        row = self._one(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours
        return 0 if row is None else _int(row[0])

    def _block(self, clause: str, *bindings: int) -> Block | None:
        row = self._one(f"SELECT seqno, time, lt FROM block {clause}", *bindings)  # noqa: S608
        return None if row is None else _row_block(row)

    def _one(self, statement: str, *bindings: Value) -> tuple[object, ...] | None:
        return next(iter(self._connection.execute(statement, bindings)), None)


def _migrate(connection: apsw.Connection) -> None:
    version = next(iter(connection.execute("PRAGMA user_version")))[0]
    if version == _VERSION:
        return
    if version != 0:
        raise LocalError(f"the chain's file has version {version}, this program {_VERSION}")
    connection.execute(f"BEGIN; {_TABLES}; PRAGMA user_version={_VERSION}; COMMIT")


def _row_block(row: Sequence[object]) -> Block:
    return Block(seqno=_int(row[0]), time=_int(row[1]), lt=_int(row[2]))


def _pack(value: int | bytes) -> bytes:
    """Settings are bytes, or integers as text, so that neither is taken for the other."""
    return b"b" + value if isinstance(value, bytes) else b"i%d" % value


def _unpack(raw: bytes) -> int | bytes:
    return raw[1:] if raw[:1] == b"b" else int(raw[1:])


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"a column of integers holds {type(value).__name__}")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"a column of bytes holds {type(value).__name__}")
    return value
