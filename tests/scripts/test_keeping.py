"""The file that vouchers are kept in a second time: when it is written, and when it cannot be."""

import trio

from ledger import backup
from ledger.lane import LaneRow, Phase, Role
from ledger.lane_rows import save
from ledger.money import Nano
from ledger.store import Store
from ledger.voucher import sign
from p2p.entropy import seeded
from scripts.keeping import GAINED, LOOK_EVERY, WRITE_EVERY, Keeping
from tests.ledger.test_backup import CONFIG, OURS, PAYER

LANE = b"l" * 32


async def promise(store, amount):
    """Another voucher has come."""
    voucher = sign(PAYER.payer(7), LANE, amount)
    row = LaneRow(
        lane=LANE,
        role=Role.PAYEE,
        config=CONFIG,
        phase=Phase.OPEN,
        cumulative=amount,
        sig=voucher.sig,
    )
    await store.write(lambda c: save(c, row))


async def kept(path):
    return backup.unseal(await trio.Path(path).read_bytes(), OURS).promised


async def test_it_is_written_on_much_gained_and_each_hour_on_less(tmp_path, autojump_clock):
    path, first = tmp_path / "kept", Nano(1_000)
    async with Store.open(None) as store:
        await promise(store, first)
        keeping = Keeping(store, OURS, path, seeded(1))
        for amount, after, then in (
            (first, 0.0, first),
            (first + Nano(1), LOOK_EVERY, first),
            (first + Nano(1), WRITE_EVERY, first + Nano(1)),
            (first + GAINED + Nano(1), LOOK_EVERY, first + GAINED + Nano(1)),
        ):
            await promise(store, amount)
            await trio.sleep(after)
            await keeping.look()
            assert await kept(path) == then


async def test_a_disk_that_takes_nothing_leaves_the_old_one_and_says_so(tmp_path, autojump_clock):
    path = tmp_path / "kept"
    async with Store.open(None) as store:
        await promise(store, Nano(1_000))
        keeping = Keeping(store, OURS, path, seeded(1))
        await keeping.look()
        assert list(keeping.alerts()) == []
        before = path.read_bytes()
        path.unlink()
        path.mkdir()  # what cannot be replaced by a file
        await promise(store, GAINED + Nano(1_000))
        await keeping.look()
        (alert,) = keeping.alerts()
        assert (alert.code, str(path) in alert.message) == ("backup", True)
        path.rmdir()
        path.write_bytes(before)
        await keeping.look()
        assert list(keeping.alerts()) == []
        assert await kept(path) == GAINED + Nano(1_000)
