"""All is lost but the wallet's words: lanes come back from the chain, credits from the mint."""

from dataclasses import replace

import trio

from ledger.credit import BUNDLES, worth
from ledger.lane import Phase
from ledger.money import ZERO, Nano
from ledger.renewing import Renewing
from ledger.restoring import Restoring, begun, find_lanes
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.overlay.advert import Role
from tests.ledger.village import POLICY, TICK, locked, settled, terms, until_value

BUNDLE = worth(BUNDLES["M"])


async def forget(village):
    """The customer's disk is gone; its words are not."""
    party = village.customer
    party.stop.cancel()
    del village.stores[party.number]
    village.customer = await village.up(Role(0), number=party.number)
    await village.met(village.customer)
    return village.customer


def parts(village, nursery):
    """What a node that was restored runs besides its purse."""
    party, entropy = village.customer, seeded(9)
    shared = {"entropy": entropy, "relays": 3}
    known = party.purse.known
    renewing = Renewing(
        *(party.node, party.store, party.master.credit_seed, POLICY, known, SystemClock()),
        **shared,
    )
    restoring = Restoring(
        *(party.node, village.chain, party.store, party.lanes, party.master, POLICY, known),
        **shared,
    )
    nursery.start_soon(renewing.run)
    return renewing, restoring


async def test_words_bring_back_every_nano_that_was_not_spent(
    village, autojump_clock, nursery, monkeypatch
):
    monkeypatch.setattr("ledger.restoring.GAP", 128)
    customer, worker = village.customer, await village.worker()
    await customer.purse.buy()
    payment = await customer.purse.prepare(terms(village, worker))
    await locked(village, worker, payment)
    await settled(village, worker, payment, 7)
    customer.purse.collect(payment, locked=True, revealed=7, owed=7)
    held = Nano((BUNDLE - TICK * 7).value >> 10 << 10)
    await until_value(village, held)
    (story,) = await customer.lanes.snapshot()
    await only_our_lanes_are_found(village, story.row)

    customer = await forget(village)
    assert (await customer.purse.holdings()).value == ZERO
    renewing, restoring = parts(village, nursery)
    with trio.fail_after(600):
        await restoring.run()
    assert (await customer.purse.holdings()).value == ZERO, "they may be spent: a swap tells"
    renewing.wake()
    await until_value(village, held)

    (found,) = await customer.lanes.snapshot()
    assert found.row.lane == story.row.lane
    with trio.fail_after(600):
        while (row := (await customer.lanes.snapshot())[0].row).live:  # noqa: ASYNC110
            await trio.sleep(1)
    assert row.phase is Phase.CLOSED
    assert row.claimed == story.row.cumulative, "the mint took what it was promised"
    assert row.returned > story.row.deposit - row.claimed - Nano(30_000_000)
    sheet = await village.mint.mint.audit()
    assert (sheet.difference, sheet.outstanding) == (0, held)

    await customer.purse.buy("S")
    held += worth(BUNDLES["S"])
    assert (await customer.purse.holdings()).value == held

    with trio.fail_after(600):
        await restoring.run()
    renewing.wake()
    await until_value(village, held)  # done again, it finds the same and changes nothing
    assert len(await customer.lanes.snapshot()) == 2


async def only_our_lanes_are_found(village, row):
    """Not those of who has other words, nor a message that only looks like an opening."""
    customer, mint = village.customer, village.mint
    wallet = customer.lanes.account
    assert set(await find_lanes(village.chain, customer.master, wallet)) == {row.lane}
    assert await find_lanes(village.chain, mint.master, wallet) == {}
    assert await find_lanes(village.chain, mint.master, mint.lanes.account) == {}
    (tx,) = [tx for tx in await village.chain.transactions(wallet, 0) if tx.outgoing]
    (message,) = tx.outgoing
    elsewhere = replace(tx, outgoing=(replace(message, dest=wallet),))
    assert list(begun([tx], customer.master, wallet)) == [row.config]
    assert list(begun([elsewhere], customer.master, wallet)) == []
