"""An asker that dies before or after any of its writes: no credit is lost, none is spent twice.

With `test_crashes.py`, where mint and worker die, these are all fault points of the ledger: F1
counter raised, F2 purchase sent, F3 committed, F4 its answer lost, F5 credits live, F6 credits
reserved, F7 spend sent, F8 locked, F9 receipt lost, F10 tick sent, F11 settled, F12 its answer
lost, F13 final, F14 change signed, F15 change fetched, F16 voucher stored, F21 a new week's keyset.
F17 to F20, what goes to the chain, are in `test_fault_points_on_chain.py`.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from ledger import lane_rows, wire
from ledger.credit import LEAST
from ledger.keys import Master
from ledger.lane import Role as LaneRole
from ledger.line import Refused
from ledger.messages import Err, Lock, Locked, Settle, Settled
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, PayTerms
from ledger.policy import DEV
from ledger.purse import Purse
from ledger.store import Store
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.errors import Unreachable
from p2p.overlay.advert import Role
from tests.ledger.life import Crash, Fragile, no_more, whole
from tests.ledger.parties import MINT, NOW, WORKER
from tests.ledger.street import DEPOSIT, FakeLanes, Street
from tests.ledger.village import TICK

WHENS = ("before", "after")

WRITES = 12
"""of an asker's life, at least as many as there are"""

PAID = 7
"""ticks"""


class Line:
    """A circuit to the mint, which may lose a request or its answer."""

    def __init__(self, mint, lost):
        self._mint = mint
        self._lost = lost

    async def call(self, body):
        lost = self._lost.pop(0) if self._lost else None
        if lost == "request":
            raise Unreachable("lost")
        answer = await self._mint.service.answer_customer(body)
        if lost == "answer":
            raise Unreachable("lost")
        return answer

    async def ask(self, request, kind):
        reply = wire.answer(await self.call(wire.encode(request)), kind)
        if isinstance(reply, Err):
            raise Refused(reply)
        return reply


class Node:
    """What a purse sees of the network: one mint."""

    def __init__(self, mint):
        self.directory = self
        self._mint = mint

    def find(self, peer):
        fields = SimpleNamespace(mint=self._mint.service.digest)
        advert = SimpleNamespace(roles=Role.MINT, fields=fields, public=MINT.public)
        return SimpleNamespace(advert=advert) if peer == MINT.id else None


@dataclass
class Asker:
    """A life from an empty purse to change that has come back, lived on until it is whole."""

    street: Street
    mint: object
    store: object
    lost: list
    session: int = 0
    paid: int = 0
    accidents: int = 0

    async def live(self):
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await self._once(nursery)
                    nursery.cancel_scope.cancel()
            except* Crash:
                self.accidents += 1
                self.store = whole(self.store)
            else:
                return

    async def _once(self, nursery):
        """Everything that a restarted asker does, which begins with what it left."""
        master = Master(b"A" * 32)
        entropy = seeded(self.street.starts())
        lanes = FakeLanes(self.street.ground, self.store, master, entropy)
        self.purse = Purse(
            *(Node(self.mint), self.store, lanes, master, DEV),
            mints=[MINT.id],
            entropy=entropy,
        )
        await nursery.start(self.purse.run)
        await self._find_lanes(lanes)
        while not self.paid:
            await self._pay()
        while (await self.purse.holdings()).in_flight:  # noqa: ASYNC110 - virtual time
            await trio.sleep(1)

    async def _find_lanes(self, lanes):
        """What the real `Lanes` do by themselves: a deposit on its way arrives, and is seen."""
        rows = await self.store.read(lambda c: list(lane_rows.every(c, LaneRole.PAYER)))
        for row in rows:
            self.street.ground.coins.setdefault(row.lane, DEPOSIT)
            await lanes.look(row.lane)

    async def _pay(self):
        self.session += 1
        terms = PayTerms(
            mints=(MINT.id,),
            payee=WORKER.id,
            session=self.session.to_bytes(32, "big"),
            tick=TICK,
            ticks=40,
            expiry=int(self.street.ground.clock.now()) + 60,
        )
        try:
            payment = await self.purse.prepare(terms)
        except CannotPay:
            await trio.sleep(1)
            return
        await self._ask(Lock(payment.spend), Locked)
        x = payment.chain.reveal(PAID)
        await self._ask(Settle(lock=payment.lock_id, i=PAID, x=x, final=True), Settled)
        self.paid += 1
        self.purse.collect(payment, locked=True, revealed=PAID, owed=PAID)

    async def _ask(self, request, kind):
        reply = wire.read_reply(
            await self.mint.service.answer_peer(WORKER.id, wire.encode(request))
        )
        assert isinstance(reply, kind), reply


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    """Circuits to the mint are calls."""
    current = {}

    @asynccontextmanager
    async def opened(node, mint, *, relays=3):
        await trio.lowlevel.checkpoint()
        yield Line(current["mint"], current["lost"])

    for module in ("buying", "collecting"):
        monkeypatch.setattr(f"ledger.{module}.opened", opened)
    start = {"wall": lambda: NOW + trio.current_time(), "monotonic": trio.current_time}
    monkeypatch.setattr(SystemClock.__init__, "__kwdefaults__", start)
    return current


async def lived(lines, at=0, when="", lost=()):
    """An asker's life, dead once at a write; and the mint that it dealt with."""
    async with Store.open(None) as ours, Store.open(None) as theirs:
        street = Street(replace(DEV, iou_limit=TICK * 10_000))  # a worker without a lane is owed
        mint = street.mint(theirs)
        lines.update(mint=mint, lost=list(lost))
        async with trio.open_nursery() as nursery:
            await nursery.start(mint.run)
            store = Fragile(ours, at, when, no_more)
            asker = Asker(street, mint, store, lines["lost"])
            with trio.fail_after(600):
                await asker.live()
            await is_whole(asker)
            nursery.cancel_scope.cancel()
    return asker, store


async def is_whole(asker):
    """Asker and mint agree to the nano, and the worker has what it was shown."""
    sheet = await asker.mint.service.audit()
    held = await asker.purse.holdings()
    assert sheet.difference == 0
    assert sheet.locked == ZERO
    assert sheet.outstanding == held.value
    rest = sheet.owed + sheet.given - TICK * PAID
    assert rest < Nano(1 << LEAST), "what is below the least credit is the worker's, no more"
    states = await asker.store.read(lambda c: set(c.execute("SELECT DISTINCT state FROM credit")))
    assert states <= {("live",), ("spent",)}


async def test_a_life_without_accidents_has_fewer_writes_than_are_tried(lines, autojump_clock):
    asker, store = await lived(lines)
    assert 6 <= store.writes <= WRITES
    assert (asker.session, asker.accidents) == (1, 0)


def dies(lines, when, points):
    """How many of these lives had an accident."""
    died = 0
    for at in points:
        with capture_logs() as logs:
            asker, _ = trio.run(lived, lines, at, when, clock=MockClock(autojump_threshold=0))
        died += asker.accidents
        assert not [entry for entry in logs if entry["log_level"] == "error"]
    return died


@pytest.mark.parametrize("when", WHENS)
def test_an_asker_dies_at_some_of_its_writes(lines, when):
    assert dies(lines, when, range(1 + len(when) % 2, WRITES, 3)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("when", WHENS)
def test_an_asker_dies_at_any_of_its_writes(lines, when):
    assert dies(lines, when, range(1, WRITES + 1)) >= 8


def loses(lines, call, lost):
    with capture_logs():
        losses = [None] * call + [lost]
        trio.run(lived, lines, 0, "", losses, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(("call", "lost"), [(3, "answer"), (4, "request"), (5, "answer")])
def test_a_purchase_or_change_is_lost_on_its_way(lines, call, lost):
    loses(lines, call, lost)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("call", range(6))
def test_any_call_to_the_mint_is_lost_on_its_way(lines, call, lost):
    loses(lines, call, lost)
