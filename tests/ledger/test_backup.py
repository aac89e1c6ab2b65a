"""The backup of vouchers: whole, one wallet's, and never the worse for being old."""

from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ledger import backup, coins
from ledger.backup import Backup, Promise
from ledger.keys import Master
from ledger.lane import Account, LaneConfig, Phase
from ledger.money import ZERO, Nano
from ledger.restoring import Restoring
from ledger.store import Store, in_memory
from ledger.voucher import sign
from p2p.entropy import seeded
from p2p.errors import BadSignature, CodecError
from tests.ledger.test_lanes import two

OURS, PAYER = Master(b"o" * 32), Master(b"p" * 32)
CONFIG = LaneConfig(
    payer_key=PAYER.payer(7).public,
    payee_key=OURS.payee.public,
    payer=Account(b"1" * 32),
    payee=Account(b"2" * 32),
    network=-4242,
    lane_id=7,
    close_delay=86_400,
    min_claim=ZERO,
)
VOUCHER = sign(PAYER.payer(7), b"l" * 32, Nano(5_000))
KEPT = Backup(
    promises=(
        Promise(config=CONFIG, voucher=VOUCHER, peer=None),
        Promise(config=CONFIG, voucher=VOUCHER, peer=b"m" * 32),
    ),
    counters=((b"m" * 32, 2_952, 44), (b"n" * 32, 0, 2**40)),
)
FILE = backup.seal(KEPT, OURS, seeded(1))


def test_a_backup_comes_back_as_it_was():
    assert backup.unseal(FILE, OURS) == KEPT
    assert KEPT.promised == Nano(10_000)


def test_it_is_one_wallets_and_shows_nothing():
    with pytest.raises(BadSignature, match="another wallet"):
        backup.unseal(FILE, PAYER)
    assert VOUCHER.sig not in FILE
    assert CONFIG.payee not in FILE


@given(at=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_no_bit_of_it_can_be_changed(at, bit):
    file = bytearray(FILE)
    file[at] ^= 1 << bit
    with pytest.raises((BadSignature, CodecError)):
        backup.unseal(bytes(file), OURS)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"TSBK\x01" + rest))
def test_what_is_no_backup_is_refused(file):
    with pytest.raises((BadSignature, CodecError)):
        backup.unseal(file, OURS)


def test_a_voucher_that_its_payer_did_not_sign_is_refused():
    forged = replace(KEPT.promises[0], voucher=replace(VOUCHER, cumulative=Nano(5_001)))
    with pytest.raises(BadSignature):
        backup.unseal(backup.seal(replace(KEPT, promises=(forged,)), OURS, seeded(1)), OURS)


def test_numbers_never_run_back():
    connection = in_memory()
    for counters in (((b"m" * 32, 7, 30),), ((b"m" * 32, 7, 20),), ((b"m" * 32, 8, 1),)):
        coins.counted(connection, counters)
    assert backup.read(connection).counters == ((b"m" * 32, 7, 30), (b"m" * 32, 8, 1))


async def test_a_payee_that_lost_its_disk_gets_all_that_its_backup_knows(autojump_clock):
    """It claims from the lane of before; a lane that is gone by now does no harm."""
    async with two() as (there, payer, payee), Store.open(None) as empty:
        lane, gone = await there.open(payer, payee), await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        kept = await payee.store.read(backup.read)
        assert await payee.lanes.outcome(await payee.lanes.close(gone), whole=True)
        payee.stop.cancel()

        again = await there.party(2, empty)
        restoring = Restoring(
            *(None, there.chain, empty, again.lanes, again.lanes._master, None, NoMints()),
            entropy=seeded(1),
            relays=0,
        )
        with trio.fail_after(60):
            await restoring.run(kept)
            await restoring.run(kept)
        (story,) = await again.lanes.snapshot()
        assert (story.row.lane, story.row.phase) == (lane, Phase.OPEN)
        assert story.row.due == Nano(300_000_000)
        before = await again.balance()
        assert await again.lanes.outcome(await again.lanes.claim(lane), whole=True)
        assert await again.balance() > before + Nano(290_000_000)


class NoMints:
    trusted = ()
