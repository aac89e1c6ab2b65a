"""A network with several mints: credits of any that both sides take, bought where they are sold."""

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from ledger.keys import Master
from ledger.mintkeys import MintKeys
from ledger.payee import Payee
from ledger.payment import CannotPay, PayTerms, Unpaid
from ledger.policy import DEV
from ledger.purse import Purse
from ledger.service import MintService
from ledger.store import Store
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.errors import Unreachable
from p2p.identity import Identity
from p2p.overlay.advert import Role
from tests.ledger.parties import NOW, WORKER
from tests.ledger.street import FakeLanes, Ground
from tests.ledger.test_fault_points import Line
from tests.ledger.village import TICK

POLICY = replace(DEV, bundle="S", float_cap=TICK * 1_360)

FIRST, SECOND, OTHER = (Identity(letter * 32) for letter in (b"1", b"2", b"3"))


class Town:
    """Mints that may be down, and an asker who knows the first two."""

    def __init__(self, ground, services):
        self.ground = ground
        self.services = services
        self.directory = self
        self.down = set()
        self.asked = []

    def find(self, peer):
        service = self.services.get(peer)
        if service is None:
            return None
        fields = SimpleNamespace(mint=service.digest)
        public = next(i.public for i in (FIRST, SECOND, OTHER) if i.id == peer)
        return SimpleNamespace(
            advert=SimpleNamespace(roles=Role.MINT, fields=fields, public=public)
        )


@pytest.fixture
async def town(monkeypatch, autojump_clock):
    start = {"wall": lambda: NOW + trio.current_time(), "monotonic": trio.current_time}
    monkeypatch.setattr(SystemClock.__init__, "__kwdefaults__", start)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(Store.open(None)) for _ in range(4)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        ground = Ground()
        town = Town(ground, {})
        for identity, store in zip((FIRST, SECOND, OTHER), stores[1:], strict=True):
            town.services[identity.id] = await mint(ground, store, identity, nursery)

        @asynccontextmanager
        async def opened(node, mint, *, relays=3):
            town.asked.append(mint)
            await trio.lowlevel.checkpoint()
            if mint in town.down:
                raise Unreachable("down")
            yield Line(SimpleNamespace(service=town.services[mint]), [])

        for module in ("buying", "collecting"):
            monkeypatch.setattr(f"ledger.{module}.opened", opened)
        master = Master(b"A" * 32)
        lanes = FakeLanes(ground, stores[0], master, seeded(1))
        town.purse = Purse(
            *(town, stores[0], lanes, master, POLICY),
            mints=[FIRST.id, SECOND.id],
            entropy=seeded(2),
        )
        await nursery.start(town.purse.run)
        yield town
        nursery.cancel_scope.cancel()


async def mint(ground, store, identity, nursery):
    master = Master(identity.public)
    lanes = FakeLanes(ground, store, master, seeded(identity.public[0]))
    payee = Payee(lanes, store)
    policy = replace(DEV, iou_limit=TICK * 10_000)
    keys = MintKeys(master, identity)
    service = MintService(keys, store, lanes, payee, policy, ground.clock, fee_bp=50)
    node = SimpleNamespace(incoming=silence(), queries=silence())
    await nursery.start(service.run, node)
    return service


def silence():
    sender, receiver = trio.open_memory_channel(0)
    ENDS.append(sender)
    return receiver


ENDS = []
"""Of channels on which nothing comes; closed, they would say that the node has ended."""


def terms(number, mints):
    return PayTerms(
        mints=tuple(identity.id for identity in mints),
        payee=WORKER.id,
        session=number.to_bytes(32, "big"),
        tick=TICK,
        ticks=40,
        expiry=int(NOW) + 600,
    )


async def test_credits_at_hand_are_spent_first_up_to_a_days_limit(town):
    """What is under way counts in full; so does what is held at any mint, against the float."""
    await town.purse.buy(mint=SECOND.id)
    payment = await town.purse.prepare(terms(1, [FIRST, SECOND]))
    assert payment.mint == SECOND.id
    assert set(town.asked) == {SECOND.id}
    with pytest.raises(CannotPay, match="are never held at a time") as caught:
        await town.purse.buy("L", mint=FIRST.id)
    assert caught.value.reason is Unpaid.NO_CREDITS

    most = town.purse._per_day = TICK * 100
    await town.purse.prepare(terms(2, [SECOND]))
    with pytest.raises(CannotPay, match=f"{most} may be spent a day") as caught:
        await town.purse.prepare(terms(3, [SECOND]))
    assert caught.value.reason is Unpaid.LIMIT
    town.purse.release(payment)
    await town.purse.prepare(terms(4, [SECOND]))


async def test_a_mint_that_is_down_is_passed_over_and_one_not_shared_is_not_asked(town):
    town.down = {FIRST.id}
    payment = await town.purse.prepare(terms(1, [OTHER, FIRST, SECOND]))
    assert payment.mint == SECOND.id
    town.down = {FIRST.id, SECOND.id}
    with pytest.raises(CannotPay) as caught:
        await town.purse.prepare(replace(terms(2, [FIRST, SECOND]), ticks=300))
    assert caught.value.reason is Unpaid.MINT_DOWN
    with pytest.raises(CannotPay) as caught:
        await town.purse.prepare(terms(3, [OTHER]))
    assert caught.value.reason is Unpaid.NO_MINT
    assert OTHER.id not in town.asked


async def test_a_purchase_that_nobody_agrees_to_is_not_tried_elsewhere(town):
    def refuse(purchase):
        raise CannotPay(Unpaid.NOT_AGREED)

    with pytest.raises(CannotPay) as caught:
        await town.purse.prepare(terms(1, [FIRST, SECOND]), refuse)
    assert caught.value.reason is Unpaid.NOT_AGREED
    assert town.asked == [FIRST.id]
