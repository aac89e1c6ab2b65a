"""A paid session with real lanes: deposit, bundle, lock, ticks, voucher, and coins on the chain."""

import trio
from structlog.testing import capture_logs

from ledger import lane_rows, wire
from ledger.chain.embedded import EmbeddedChain
from ledger.credit import BUNDLES
from ledger.keys import Master
from ledger.lane import Role
from ledger.lanes import Lanes
from ledger.messages import (
    Change,
    Changed,
    KeysetList,
    Keysets,
    LaneAccept,
    LaneOffer,
    LaneTerms,
    Sigs,
)
from ledger.mintkeys import MintKeys
from ledger.money import ZERO, Nano
from ledger.payee import Payee
from ledger.payment import Locked
from ledger.policy import DEV
from ledger.service import MintService
from ledger.store import Store
from ledger.till import Till
from p2p.entropy import seeded
from tests.ledger.parties import MINT, WORKER, Customer, parse_keyset
from tests.ledger.street import Clock, Wires, paid

START = 1_795_000_000.0
FUNDS = Nano(3 * 10**9)


class Party:
    """A wallet and its lanes on the chain."""

    def __init__(self, chain, store, seed):
        self.chain = chain
        self.store = store
        self.master = Master(bytes([seed]) * 32)
        self.lanes = Lanes(chain, store, self.master, DEV, entropy=seeded(seed))

    async def balance(self):
        contract = await self.chain.account(self.lanes.account)
        return ZERO if contract is None else contract.balance

    async def funded(self):
        await self.chain.fund(self.lanes.account, FUNDS)
        while await self.balance() == ZERO:  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.4)


class PaidByLane(Customer):
    """A customer whose vouchers are signed by its real lane."""

    def pays(self, party, lane):
        self._party, self._lane = party, lane

    async def buy_for(self, keyset, bundle):
        price = keyset.price(BUNDLES[bundle])
        voucher = await self._party.lanes.pay(self._lane, price)
        request = self.buy(keyset, bundle)
        return type(request)(
            rid=request.rid,
            voucher=voucher,
            bundle=bundle,
            epoch=keyset.epoch,
            outputs=request.outputs,
        )


async def ask(service, request, kind):
    reply = wire.read_reply(await service.answer_customer(wire.encode(request)))
    assert isinstance(reply, kind), reply
    return reply


async def test_what_an_asker_deposits_a_worker_claims(autojump_clock):
    chain = EmbeddedChain.open(None, block_time=0.4, now=lambda: START + trio.current_time())
    async with (
        Store.open(None) as one,
        Store.open(None) as two,
        Store.open(None) as three,
        trio.open_nursery() as nursery,
    ):
        with capture_logs() as logs:
            await nursery.start(chain.run)
            asker, mint, worker = (
                Party(chain, store, seed) for seed, store in enumerate((one, two, three), 1)
            )
            for party in (asker, mint, worker):
                await nursery.start(party.lanes.run)
            await asker.funded()
            await mint.funded()

            clock, wires = Clock(START), Wires()
            service = MintService(
                MintKeys(mint.master, MINT),
                mint.store,
                mint.lanes,
                Payee(mint.lanes, mint.store),
                DEV,
                clock,
                fee_bp=50,
            )
            till = Till(
                WORKER.id,
                wires.of(WORKER.id),
                worker.store,
                worker.lanes,
                Payee(worker.lanes, worker.store),
                DEV,
                clock,
                mints=[MINT.id],
                public={MINT.id: MINT.public}.get,
                entropy=seeded(9),
            )
            wires.nodes = {MINT.id: service.answer_peer, WORKER.id: till.answer_peer}
            await nursery.start(service.run, wires.of(MINT.id))
            await nursery.start(till.run)

            customer = await _customer(service, asker)
            keyset = parse_keyset(
                (await ask(service, Keysets(), KeysetList)).keysets[-1], MINT.public
            )
            bought = await customer.buy_for(keyset, "L")
            customer.bought(keyset, await ask(service, bought, Sigs))
            with trio.fail_after(120):
                while not till.mints():  # noqa: ASYNC110 - virtual time
                    await trio.sleep(0.4)

            amount = Nano(100_000_000)
            session, tick = paid(customer, keyset, now=clock.now(), amount=amount)
            spend = session.spend
            assert isinstance(await till.lock(spend.encode(), spend.terms.session, tick), Locked)
            till.keep(spend.lock_id, 7, session.chain.reveal(7))
            till.settle(spend.lock_id, final=True, ticks=7)
            while till.statistics().open:  # noqa: ASYNC110 - virtual time
                await trio.sleep(0.4)
            change = await ask(service, Change(spend.lock_id, session.secret), Changed)
            assert change.paid_ticks == 7
            customer.changed(keyset, session, change)

            (row,) = await worker.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE)))
            assert row.cumulative >= tick * 7
            assert await worker.lanes.outcome(await worker.lanes.claim(row.lane), whole=True)
            costs = await worker.lanes.costs()
            assert await worker.balance() > tick * 7 - costs.claim * 2

            sheet = await service.audit()
            assert sheet.difference == 0
            assert sheet.outstanding == customer.worth()
            assert sheet.given == row.cumulative
        assert not [entry for entry in logs if entry["log_level"] in ("error", "warning")]
        nursery.cancel_scope.cancel()
    chain.close()


async def _customer(service, asker):
    offer = await ask(service, LaneTerms(), LaneOffer)
    row = await asker.lanes.open(offer, DEV.lane_deposit)
    proposal = await asker.lanes.proposal(row.lane)
    await ask(service, proposal, LaneAccept)
    customer = PaidByLane()
    customer.pays(asker, row.lane)
    return customer
