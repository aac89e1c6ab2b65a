"""What a mint may and may not do to who buys of it."""

import pytest
import trio

from ledger import pins
from ledger.credit import BUNDLES, EPOCH_SECONDS, worth
from ledger.line import Line
from ledger.payment import CannotPay, Unpaid
from p2p.errors import Unreachable
from p2p.overlay.advert import Role
from tests.ledger.tagging import Tagging
from tests.ledger.village import Village


def lose_first_order(monkeypatch):
    """The first purchase does not arrive."""
    call, lost = Line.call, []

    async def cut(self, body):
        if b"mint.buy" in body and not lost:
            lost.append(body)
            raise Unreachable("cut")
        return await call(self, body)

    monkeypatch.setattr(Line, "call", cut)


async def lives(village):
    """Credits that a customer counts as coins."""
    count = "SELECT count(*) FROM credit WHERE state = 'live'"
    ((number,),) = await village.customer.store.read(lambda c: list(c.execute(count)))
    return number


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
async def test_keys_that_a_mint_shows_after_an_order_are_not_taken_for_its_own(
    village, autojump_clock, monkeypatch, restart
):
    """It shows the true ones, as the directory has them, and others when asked once more."""
    lose_first_order(monkeypatch)
    tagging = Tagging(village.mint, village.now, monkeypatch)
    with pytest.raises(CannotPay):
        await village.customer.purse.buy()
    if restart:
        await village.restart()
    tagging.on, tagging.honest = True, 1
    with pytest.raises(CannotPay) as caught:
        await village.customer.purse.buy()
    assert caught.value.reason is Unpaid.NO_MINT
    assert await lives(village) == 0
    assert village.customer.purse.mints() == ()
    assert await village.customer.store.read(pins.accused) == {village.mint.node.id}


async def test_a_second_keyset_of_a_week_ends_all_purchases_whoever_else_sees_it(
    village, autojump_clock, monkeypatch
):
    """It changes the directory as well, for everybody."""
    tagging, purse = Tagging(village.mint, village.now, monkeypatch), village.customer.purse
    await purse.buy("S")
    bought = await lives(village)
    tagging.on = True
    await village.readvertise(tagging.keys.keyset(tagging.epoch, 50).digest)
    with pytest.raises(CannotPay) as caught:
        await purse.buy("S")
    assert caught.value.reason is Unpaid.NO_MINT
    assert await lives(village) == bought
    assert await village.customer.store.read(pins.accused) == {village.mint.node.id}


# --- its fee ---


async def charge(village, fee_bp):
    """The mint takes another fee, and says so to everybody."""
    keys, epoch = village.mint.mint._keys, int(village.now) // EPOCH_SECONDS
    keyset, update = keys.keyset(epoch, fee_bp), "UPDATE keyset SET signed = ?"
    await village.mint.store.write(lambda c: c.execute(update, (keyset.signed,)))
    await village.readvertise(keyset.digest)


@pytest.mark.parametrize("fee_bp", [0, 200])
async def test_a_fee_of_up_to_two_percent_is_paid(village, autojump_clock, fee_bp):
    await charge(village, fee_bp)
    await village.customer.purse.buy("S")
    (story,) = await village.customer.lanes.snapshot()
    value = worth(BUNDLES["S"])
    assert story.row.cumulative == value + (value * fee_bp).ceil_div(10_000)


@pytest.mark.parametrize("fee_bp", [201, 10_000])
async def test_a_mint_that_wants_more_is_refused_before_anything_is_paid(
    village, autojump_clock, fee_bp
):
    await charge(village, fee_bp)
    with pytest.raises(CannotPay, match=r"2\.00 % at most") as caught:
        await village.customer.purse.buy("S")
    assert caught.value.reason is Unpaid.DEAR
    assert await village.customer.lanes.snapshot() == ()


# --- relays ---


async def test_a_mint_that_is_one_of_three_relays_cannot_be_reached_through_three(autojump_clock):
    async with trio.open_nursery() as nursery:
        village = await Village(nursery).built(relays=2, mint=Role.MINT | Role.RELAY)
        with pytest.raises(CannotPay, match="takes 3 relays and 2 can be used") as caught:
            await village.customer.purse.buy()
        assert caught.value.reason is Unpaid.NO_PATH
        village.customer.purse._buying._relays = 2
        assert await village.customer.purse.buy()
        nursery.cancel_scope.cancel()
    village.chain.close()
