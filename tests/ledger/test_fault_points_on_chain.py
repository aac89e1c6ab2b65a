"""Both sides of a lane die before or after any write, and end with the same coins, to the nano.

F17 claim signed, F18 claim sent, F19 claim seen, F20 lane opened and not recorded; F1 to F16 and
F21 are in `test_fault_points.py`.
"""

from contextlib import suppress

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from ledger import lane_rows
from ledger.externals import Kind
from ledger.lane import Phase, Role
from ledger.lane_writes import stories
from ledger.money import ZERO, Nano
from ledger.store import Store
from p2p.errors import Closing
from tests.ledger.life import Crash, Fragile, no_more, whole
from tests.ledger.test_lanes import BLOCK, DEPOSIT, START, World, until, world

PROMISED = Nano(300_000_000)

WRITES = {"payer": 20, "payee": 16}
"""of a lane's life, at least as many as there are"""

WHENS = ("before", "after")


class Lives:
    """A lane from its opening to its close, lived on over accidents."""

    def __init__(self, chain, stores):
        self.chain = chain
        self.stores = stores
        self.accidents = 0

    async def live(self):
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await self._once(World(self.chain, nursery))
                    nursery.cancel_scope.cancel()
            except* Crash:
                self.accidents += 1
                self.stores = {name: whole(store) for name, store in self.stores.items()}
            else:
                return

    async def _once(self, there):
        """What both do when they start, however far they were."""
        payer = self.payer = await there.party(1, self.stores["payer"])
        payee = self.payee = await there.party(2, self.stores["payee"])
        rows = await payer.store.read(lambda c: list(lane_rows.every(c, Role.PAYER)))
        if rows:
            lane = rows[0].lane
            await until(lambda: self._is_there(payer, lane))
        else:
            lane = (await payer.lanes.open(payee.lanes.offer(), DEPOSIT)).lane
        await self._trade(payer, payee, lane)
        await payer.phase(lane, Phase.CLOSED)
        await payee.phase(lane, Phase.CLOSED)
        await payer.quiet()
        await payee.quiet()

    async def _trade(self, payer, payee, lane):
        row = await payee.row(lane)
        if row is None or row.phase is Phase.OPEN:
            proposal = await payer.lanes.proposal(lane)
            row = await payee.lanes.propose(proposal.config, proposal.voucher)
            promised = (await payer.row(lane)).cumulative
            await payee.lanes.receive(await payer.lanes.pay(lane, PROMISED - promised))
        await payee.quiet()  # what was sent before the accident
        if not (await payee.lanes.look(lane)).claimed:
            await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
        with suppress(Closing):  # it was closed in another life
            await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)

    async def _is_there(self, payer, lane):
        return (await payer.row(lane)).phase not in (Phase.PROPOSED, Phase.OPENING)


async def lived(victim="payer", at=0, when=""):
    """A life with one accident, and how many writes each side did."""
    async with Store.open(None) as ours, Store.open(None) as theirs, world() as there:
        stores = {"payer": ours, "payee": theirs}
        stores = {
            name: Fragile(store, at if name == victim else 0, when, no_more)
            for name, store in stores.items()
        }
        fragile = dict(stores)
        account = (await there.party(1, ours, running=False)).lanes.account
        await there.chain.fund(account, START)
        await trio.sleep(2 * BLOCK)
        lives = Lives(there.chain, stores)
        with trio.fail_after(2_000):
            await lives.live()
        await no_nano_is_lost(lives)
    return lives, {name: store.writes for name, store in fragile.items()}


async def no_nano_is_lost(lives):
    """What both hold, and what every external of theirs cost, is what there was; one deposit."""
    payer, payee = lives.payer, lives.payee
    told = [story for party in (payer, payee) for story in await party.store.read(stories)]
    sent = [external for story in told for external, _ in story.externals]
    fees = sum((external.fees for external in sent), ZERO)
    assert await payer.balance() + await payee.balance() + fees == START
    assert await payee.balance() > PROMISED - Nano(20_000_000)
    assert [one.kind for one in sent].count(Kind.OPEN) == 1


def test_a_life_without_accidents_has_fewer_writes_than_are_tried():
    with capture_logs():
        lives, writes = trio.run(lived, clock=MockClock(autojump_threshold=0))
    assert lives.accidents == 0
    assert all(5 < writes[name] <= most for name, most in WRITES.items()), writes


def dies(victim, when, points):
    for at in points:
        with capture_logs() as logs:
            trio.run(lived, victim, at, when, clock=MockClock(autojump_threshold=0))
        assert not [entry for entry in logs if entry["log_level"] == "error"]


@pytest.mark.parametrize(("victim", "at"), [("payer", 2), ("payee", 4)])
@pytest.mark.parametrize("when", WHENS)
def test_both_die_at_some_of_their_writes(victim, at, when):
    dies(victim, when, [at])


@pytest.mark.slow
@pytest.mark.parametrize("victim", WRITES)
@pytest.mark.parametrize("when", WHENS)
def test_both_die_at_any_of_their_writes(victim, when):
    dies(victim, when, range(1, WRITES[victim] + 1))
