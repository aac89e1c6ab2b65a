"""The store: durable when it says so, one fsync for many, and whole under every kind of end."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from ledger import store as store_module
from ledger.store import BATCH, Connection, Store, first, integer
from p2p.errors import LocalError, NoCapacity


def owe(worker: bytes, amount: int):
    def work(connection: Connection) -> int:
        connection.execute(
            "INSERT INTO iou VALUES (?, ?) ON CONFLICT DO UPDATE SET owed = owed + excluded.owed",
            (worker, amount),
        )
        return amount

    return work


def total(connection: Connection) -> int:
    row = first(connection, "SELECT coalesce(sum(owed), 0) FROM iou")
    assert row is not None
    return integer(row[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_what_write_returned_is_there_after_it_is_opened_again(path: Path):
    async with Store.open(path) as store:
        assert await store.write(owe(b"w", 5)) == 5
        assert await store.read(total) == 5
    async with Store.open(path) as store:
        assert await store.read(total) == 5


async def test_an_exception_undoes_its_own_work_alone(path: Path):
    def fails(connection: Connection) -> None:
        owe(b"bad", 100)(connection)
        raise ValueError("no")

    async with Store.open(path) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.write, owe(b"a", 1))
        nursery.start_soon(store.write, owe(b"b", 2))
        await wait_all_tasks_blocked()
        with pytest.raises(ValueError, match="no"):
            await store.write(fails)
        await store.write(owe(b"c", 4))
        assert await store.read(total) == 7


async def test_writes_that_wait_share_one_commit(path: Path):
    async with Store.open(path, window=0.05) as store:
        await store.write(owe(b"first", 1))
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(store.write, owe(b"w", 1))
        assert await store.read(total) == 201
        assert store.statistics().writes == 201
        assert store.statistics().commits <= 3


async def test_a_full_commit_is_waited_for_by_nobody(path: Path, autojump_clock: MockClock):
    async with Store.open(path, window=1_000.0) as store:
        began = trio.current_time()
        for _ in range(2 * BATCH - 1):
            store.post(owe(b"p", 1))
        await store.write(owe(b"last", 1))
        assert trio.current_time() - began < 1_000.0
        assert await store.read(total) == 2 * BATCH
        assert store.statistics().commits == 2


async def test_writes_happen_in_the_order_they_were_asked(path: Path):
    seen: list[int] = []
    async with Store.open(path) as store:
        for n in range(50):
            store.post(lambda _, n=n: seen.append(n))
        await store.write(lambda _: seen.append(50))
    assert seen == list(range(51))


async def test_a_cancelled_writer_leaves_whole_work_or_none(path: Path):
    def two(connection: Connection) -> None:
        owe(b"x", 1)(connection)
        owe(b"y", 1)(connection)

    async with Store.open(path) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.write(two)
        assert await store.read(total) in (0, 2)
        await store.write(owe(b"z", 10))


async def test_a_cancelled_block_commits_what_was_queued_and_closes_the_file(path: Path):
    with trio.CancelScope() as scope:
        async with Store.open(path) as store:
            store.post(owe(b"w", 7))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not path.with_name("ledger.db-wal").exists()
    async with Store.open(path) as store:
        assert await store.read(total) == 7


async def test_what_a_block_raises_leaves_it_as_it_is(path: Path):
    async def fails() -> None:
        async with Store.open(path) as store:
            store.post(owe(b"w", 7))
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await fails()
    async with Store.open(path) as store:
        assert await store.read(total) == 7


async def test_a_closed_store_takes_nothing(path: Path):
    async with Store.open(path) as store:
        pass
    with pytest.raises(LocalError, match="closed"):
        await store.write(total)


async def test_reads_see_one_moment_and_cannot_write(path: Path):
    async with Store.open(path) as store:
        with pytest.raises(LocalError, match="cannot be written"):
            await store.read(owe(b"w", 1))
        assert await store.read(total) == 0


async def test_a_full_disk_is_said_once_and_nothing_of_the_batch_happened(path: Path):
    async with Store.open(path) as store:
        await store.write(owe(b"w", 1))
        await store.write(lambda c: list(c.execute("PRAGMA max_page_count=60")))
        with capture_logs() as logs, pytest.raises(LocalError, match="the disk is full"):
            await store.write(owe(bytes(1_000_000), 1))
        assert [entry["event"] for entry in logs] == ["store.failed"]
        await store.write(lambda c: list(c.execute("PRAGMA max_page_count=100000")))
        await store.write(owe(b"w", 1))
        assert await store.read(total) == 2


async def test_a_full_disk_fails_everybody_in_the_batch(path: Path):
    refused: list[str] = []

    async def attempt(store: Store, worker: bytes) -> None:
        try:
            await store.write(owe(worker, 1))
        except LocalError as error:
            refused.append(str(error))

    async with Store.open(path) as store:
        await store.write(lambda c: list(c.execute("PRAGMA max_page_count=60")))
        with capture_logs():
            async with trio.open_nursery() as nursery:
                for worker in (b"a", b"b", bytes(1_000_000)):
                    nursery.start_soon(attempt, store, worker)
        written = await store.read(total)
    assert written + len(refused) == 3
    assert refused


async def test_a_file_that_cannot_be_written_is_one_clear_error(path: Path):
    async with Store.open(path) as store:
        await store.write(lambda c: list(c.execute("PRAGMA query_only=1")))
        with capture_logs(), pytest.raises(LocalError, match="cannot be written; check the disk"):
            await store.write(owe(b"w", 1))


def test_a_damaged_file_is_one_clear_error(path: Path):
    path.write_bytes(b"this is not a database" * 300)
    with pytest.raises(LocalError, match="damaged"):
        trio.run(_open_once, path)


async def test_a_path_that_is_none_is_one_clear_error(tmp_path: Path):
    with pytest.raises(LocalError, match="No such file or directory"):
        async with Store.open(tmp_path / "missing" / "ledger.db"):
            pass


async def test_a_store_of_a_newer_version_is_left_alone(path: Path):
    async with Store.open(path) as store:
        await store.write(lambda c: c.execute("PRAGMA user_version=99"))
    with pytest.raises(LocalError, match="newer"):
        async with Store.open(path):
            pass


async def test_a_store_of_an_older_version_is_made_one_of_this(path: Path):
    """What an accused mint had said moves; the rest stays as it was."""
    async with Store.open(path) as store:
        fresh = await store.read(tables)
        await store.write(lambda c: c.execute(OLDER))
    for _ in range(2):
        async with Store.open(path) as store:
            assert await store.read(tables) == fresh
            frauds = await store.read(lambda c: list(c.execute("SELECT * FROM fraud")))
            assert frauds == [(b"m" * 32, b"r" * 16, b"proof")]
            owed = await store.read(lambda c: list(c.execute("SELECT * FROM iou")))
            assert owed == [(b"w", 1)]


OLDER = """
ALTER TABLE lane DROP COLUMN lt; ALTER TABLE lane DROP COLUMN returned;
DROP TABLE errand; DROP TABLE owner; DROP TABLE bill; DROP TABLE guarded; DROP TABLE chain_also;
DROP TABLE pin; DROP TABLE fraud; ALTER TABLE outbox ADD COLUMN reply BLOB;
INSERT INTO outbox VALUES (x'72', x'6d', 1, x'', 1, x'', 1, 1, NULL);
INSERT INTO outbox VALUES (CAST('rrrrrrrrrrrrrrrr' AS BLOB), CAST(replace(hex(zeroblob(16)), '0',
    'm') AS BLOB), 1, x'', 1, x'', 1, 3, CAST('proof' AS BLOB));
INSERT INTO iou VALUES (CAST('w' AS BLOB), 1);
PRAGMA user_version=1;
"""


def tables(connection):
    """Every table with its columns."""
    named = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
    return sorted(connection.execute(f"{named} WHERE m.type = 'table'"))


async def test_only_the_owner_can_read_it_and_its_log(path: Path):
    async with Store.open(path) as store:
        await store.write(owe(b"w", 1))
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0


async def test_too_many_waiting_writes_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "WAITING", 3)
    async with Store.open(path) as store:
        for _ in range(3):
            store.post(owe(b"w", 1))
        with pytest.raises(NoCapacity):
            store.post(owe(b"w", 1))


async def test_a_posted_work_that_fails_is_in_the_log(path: Path):
    def fails(_: Connection) -> None:
        raise ValueError("no")

    with capture_logs() as logs:
        async with Store.open(path) as store:
            store.post(fails)
    assert [entry["event"] for entry in logs] == ["store.work.failed"]


async def test_money_is_synced_at_every_commit(path: Path):
    async with Store.open(path) as store:
        assert await store.write(lambda c: list(c.execute("PRAGMA synchronous"))) == [(2,)]
        assert await store.write(lambda c: list(c.execute("PRAGMA journal_mode"))) == [("wal",)]


async def test_in_memory_a_virtual_clock_stands_still(autojump_clock: MockClock):
    async with Store.open(None) as store:
        before = trio.current_time()
        for _ in range(10):
            await store.write(owe(b"w", 1))
            assert await store.read(total) > 0
        assert trio.current_time() == before


CHILD = """
import os, sys, trio
from pathlib import Path
from ledger.store import Store

async def main():
    async with Store.open(Path(sys.argv[1])) as store:
        for n in range(int(sys.argv[2])):
            await store.write(lambda c: c.execute("INSERT INTO iou VALUES (?, 1)", (b"%d" % n,)))
            print(n, flush=True)
        store.post(lambda c: (c.execute("INSERT INTO iou VALUES (?, 1)", (b"lost",)), os._exit(9)))
        await trio.sleep_forever()

trio.run(main)
"""


async def test_a_killed_process_has_kept_all_it_was_told_is_durable(path: Path):
    ended = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(path), "20"],
            capture_output=True,
            timeout=60,
            env=dict(os.environ),
            cwd=Path(__file__).parents[2],
        )
    )
    assert ended.returncode == 9, ended.stderr.decode()
    assert len(ended.stdout.split()) == 20
    async with Store.open(path) as store:
        assert await store.read(total) == 20


def test_every_table_is_strict_and_no_column_is_a_float_of_money(path: Path):
    trio.run(_open_once, path)
    connection = apsw.Connection(str(path))
    tables = list(
        connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema='main'")
    )
    assert all(strict for name, strict in tables if not name.startswith("sqlite_"))
    floats = {
        column
        for name, _ in tables
        for (column,) in connection.execute(
            "SELECT name FROM pragma_table_info(?) WHERE type='REAL'", (name,)
        )
    }
    assert floats <= {"seen_at", "opened_at", "claimed_at", "poor_since", "made_at", "due", "at"}
    connection.close()


async def _open_once(path: Path) -> None:
    async with Store.open(path):
        pass
