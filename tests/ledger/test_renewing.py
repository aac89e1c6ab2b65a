"""Old credits become new ones: once, whatever is lost on the way, and spent ones become nothing."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from ledger import coins, credit, pins
from ledger.credit import BUNDLES, EPOCH_SECONDS, worth
from ledger.keys import Master
from ledger.mints import Mints
from ledger.money import Nano
from ledger.policy import DEV
from ledger.renewing import Renewing
from ledger.store import Store
from p2p.entropy import seeded
from tests.ledger.parties import MINT
from tests.ledger.street import Street, newest
from tests.ledger.test_fault_points import Line, Node

SEED = Master(b"A" * 32).credit_seed
BUNDLE = worth(BUNDLES["S"])


@dataclass
class Scene:
    """An asker with a bundle of this week, and what renews it."""

    street: Street
    mint: object
    store: object
    renewing: Renewing
    mints: Mints
    lost: list = field(default_factory=list)
    opened: int = 0

    async def weeks_pass(self, count):
        self.street.ground.clock._start += count * EPOCH_SECONDS
        await self.mint.service.expire()

    async def coins(self, state="live"):
        rows = await self.store.read(
            lambda c: list(c.execute("SELECT epoch, j FROM credit WHERE state = ?", (state,)))
        )
        return {epoch for epoch, _ in rows}, Nano(sum(1 << j for _, j in rows))

    async def renewed(self):
        """Until nothing is left to be swapped, or a mint did not answer."""
        return await self.renewing._renew(MINT.id)

    async def balances(self, value):
        sheet = await self.mint.service.audit()
        assert (sheet.difference, sheet.outstanding) == (0, value)


@pytest.fixture
async def scene(monkeypatch, autojump_clock):
    async with Store.open(None) as ours, Store.open(None) as theirs, trio.open_nursery() as nursery:
        street = Street(DEV)
        mint = street.mint(theirs)
        await nursery.start(mint.run)
        clock, entropy = street.ground.clock, seeded(3)
        mints = Mints(Node(mint), [MINT.id])
        renewing = Renewing(*(Node(mint), ours, SEED, DEV, mints, clock), entropy=entropy, relays=3)
        scene = Scene(street, mint, ours, renewing, mints)

        @asynccontextmanager
        async def opened(node, mint, *, relays):
            scene.opened += 1
            await trio.lowlevel.checkpoint()
            yield Line(scene.mint, scene.lost)

        monkeypatch.setattr("ledger.renewing.opened", opened)
        await stock(scene)
        yield scene
        nursery.cancel_scope.cancel()


async def stock(scene):
    """Buy as a purse does, without a purse."""
    customer = await scene.street.customer(scene.mint)
    keyset = await newest(scene.mint)
    voucher = customer.voucher(keyset.price(BUNDLES["S"]))
    request = await scene.store.write(
        lambda c: coins.order(c, SEED, keyset, rid=b"r" * 16, bundle="S", voucher=voucher)
    )
    sigs = await scene.mint.ask(request)
    await scene.store.write(lambda c: coins.sold(c, SEED, keyset, b"r" * 16, sigs))


async def test_credits_in_their_last_week_become_new_ones(scene):
    (epoch,), _ = await scene.coins()
    for weeks in (1, 1):
        await scene.weeks_pass(weeks)
        await scene.renewed()
        assert await scene.coins() == ({epoch}, BUNDLE), "there is time"
    await scene.weeks_pass(1)
    await scene.renewed()
    assert await scene.coins() == ({epoch + 3}, BUNDLE)
    assert await scene.coins("spent") == ({epoch}, BUNDLE)
    assert scene.opened == 1
    await scene.balances(BUNDLE)
    await scene.renewed()
    assert scene.opened == 1, "nothing is left to be swapped"


async def test_credits_too_old_to_be_spent_are_swapped_all_the_same(scene):
    (epoch,), _ = await scene.coins()
    await scene.weeks_pass(7)
    await scene.renewed()
    assert await scene.coins() == ({epoch + 7}, BUNDLE)


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_swap_that_is_lost_on_its_way_is_sent_again(scene, lost):
    await scene.weeks_pass(3)
    scene.lost += [None, lost]
    await scene.renewed()
    assert await scene.coins() == (set(), Nano(0))
    await scene.balances(BUNDLE)
    await scene.weeks_pass(1)  # another keyset is on sale by then
    await scene.renewed()
    assert (await scene.coins())[1] == BUNDLE
    await scene.balances(BUNDLE)


async def test_those_that_were_spent_are_told_from_the_rest(scene):
    """After a loss: an old copy of a store knows not what was spent since."""
    await scene.weeks_pass(3)
    async with Store.open(None) as other:
        image = await scene.store.read(lambda c: list(c.execute("SELECT * FROM credit")))
        for row in image:
            await other.write(
                lambda c, row=row: c.execute(
                    f"INSERT INTO credit VALUES ({','.join('?' * 9)})", row
                )
            )
        await other.write(lambda c: c.execute("UPDATE credit SET state = 'found'"))
        keep = await scene.store.read(
            lambda c: list(c.execute("SELECT i FROM credit WHERE j <> 12 ORDER BY i"))
        )
        for (i,) in keep:  # these alone are not spent
            await scene.store.write(
                lambda c, i=i: c.execute("UPDATE credit SET state = 'reserved' WHERE i = ?", (i,))
            )
        await scene.renewed()
        scene.renewing._store, scene.store = other, other
        await scene.renewed()
        assert (await scene.coins())[1] == BUNDLE - worth([12, 12])
        assert (await scene.coins("spent"))[1] == BUNDLE
        assert (await scene.coins("found"))[1] == Nano(0)
        await scene.balances(BUNDLE)


async def test_a_mint_that_signs_with_another_key_is_accused(scene, monkeypatch):
    await scene.weeks_pass(3)
    sign = credit.sign

    def other(k, K, B):  # noqa: N803
        return sign(k[:-1] + bytes([k[-1] ^ 1]), K, B)

    monkeypatch.setattr("ledger.mintkeys.sign", other, raising=False)
    monkeypatch.setattr(credit, "sign", other)
    await scene.renewed()
    assert scene.mints.accused == {MINT.id}
    assert (await scene.coins())[1] == Nano(0)
    assert scene.mints.usable() == ()


async def test_a_second_keyset_of_a_week_is_kept_as_proof(scene):
    """What is shown to who swaps must be what was shown to who bought."""
    await scene.weeks_pass(3)
    keyset = await newest(scene.mint)
    await scene.store.write(
        lambda c: c.execute("INSERT INTO pin VALUES (?, ?, ?)", (MINT.id, keyset.epoch, b"other"))
    )
    await scene.renewed()
    assert scene.mints.accused == {MINT.id}
    assert await scene.store.read(pins.accused) == {MINT.id}
    assert (await scene.coins())[1] == BUNDLE, "they are still there"
