"""A mint and workers at work, joined by wires that lose what a test wants; lanes without a chain.

Stores are real, and so are `MintService`, `Till`, `Payee` and `Payouts`.
"""

from dataclasses import replace

import trio

from ledger import lane_rows, wire
from ledger.keys import Master
from ledger.lane import (
    RESERVE,
    Account,
    LaneConfig,
    LaneState,
    PayeeLane,
    PayerLane,
    Phase,
    Role,
    Unfit,
)
from ledger.lane_writes import receive_on
from ledger.messages import Err, KeysetList, Keysets, LaneOffer, LanePropose, LaneTerms, Sigs
from ledger.mintkeys import MintKeys
from ledger.money import ZERO, Nano
from ledger.payee import Payee
from ledger.policy import DEV
from ledger.service import MintService
from ledger.till import Till
from p2p.entropy import seeded
from p2p.errors import Insufficient, OverCapacity, Rejected, Stale, Timeout, Unreachable
from tests.ledger.parties import AMOUNT, MINT, NOW, WORKER, Customer, parse_keyset

DEPOSIT = Nano(10**9)
NETWORK = -4242


class Clock:
    """Unix time by trio's clock."""

    def __init__(self, start=NOW):
        self._start = start - trio.current_time()

    def now(self):
        return self._start + trio.current_time()

    def trio_time(self, when):
        return when - self._start


class Ground:
    """What a chain would know: the coins on each lane."""

    def __init__(self):
        self.coins = {}
        self.names = {}
        self.down = False
        self.looks = 0
        self.clock = Clock()

    def address(self, config):
        """Where a lane of such terms is."""
        return self.names.get(config.payer_key, config.payer_key)


class FakeLanes:
    """`Lanes` without a chain: a lane is open as soon as it is paid for."""

    def __init__(self, ground, store, master, entropy):
        self._ground = ground
        self._store = store
        self._master = master
        self._entropy = entropy
        self.account = Account(master.wallet.public)
        self.poor = False

    @property
    def now(self):
        return self._ground.clock.now()

    def offer(self):
        return LaneOffer(
            payee=self.account,
            payee_key=self._master.payee.public,
            network=NETWORK,
            min_claim=ZERO,
            close_delay=86_400,
            codes=(bytes(32),),
        )

    async def open(self, offer, deposit, *, peer=None):
        await self._reach()
        if self.poor:
            raise Insufficient("the wallet is empty")
        lane_id = int.from_bytes(self._entropy.token(8), "big")
        config = LaneConfig(
            payer_key=self._master.payer(lane_id).public,
            payee_key=offer.payee_key,
            payer=self.account,
            payee=offer.payee,
            network=NETWORK,
            lane_id=lane_id,
            close_delay=86_400,
            min_claim=ZERO,
        )
        lane = self._ground.address(config)
        row = replace(PayerLane.new(config, lane, deposit).row, phase=Phase.OPENING)
        await self._store.write(lambda c: lane_rows.save(c, row, peer))
        await trio.sleep(1)
        self._ground.coins[lane] = deposit
        return await self.look(lane)

    async def proposal(self, lane):
        row = await self._store.read(lambda c: lane_rows.load(c, lane))
        voucher = PayerLane(row).voucher0(self._master.payer(row.config.lane_id))
        return LanePropose(config=row.config, code=bytes(32), voucher=voucher, lt=0)

    async def propose(self, config, voucher0, *, peer=None):
        await self._reach()
        lane = self._ground.address(config)
        if config.payee_key != self._master.payee.public:
            return Unfit("terms", "not ours")
        if lane not in self._ground.coins:
            return Unfit("not_active", "no lane")
        known = await self._store.read(lambda c: lane_rows.load(c, lane))
        if known is None:
            known = PayeeLane.new(config, voucher0, self._state(lane)).row
            await self._store.write(lambda c: lane_rows.save(c, known, peer))
        return known

    async def receive(self, voucher):
        await self._reach()
        now = self.now
        try:
            return await self._store.write(lambda c: receive_on(c, voucher, now))
        except (Stale, OverCapacity):
            await self.look(voucher.lane)
        return await self._store.write(lambda c: receive_on(c, voucher, now))

    async def look(self, lane):
        await self._reach()
        self._ground.looks += 1
        state, now = self._state(lane), self.now

        def saw(connection):
            row = lane_rows.load(connection, lane)
            if row is None:
                raise Rejected("no lane of ours")
            side = PayerLane(row) if row.role is Role.PAYER else PayeeLane(row)
            side.on_chain(state, now)
            lane_rows.save(connection, side.row)
            return side.row

        return await self._store.write(saw)

    async def close(self, lane):
        return b"h" + lane[1:]

    def _state(self, lane):
        balance = self._ground.coins[lane] + RESERVE
        return LaneState(claimed=ZERO, close_at=0, balance=balance, seen_at=self.now)

    async def _reach(self):
        await trio.lowlevel.checkpoint()
        if self._ground.down:
            raise Unreachable("no chain")


class Wires:
    """Queries from node to node. `lose` names what is lost next: "request" or "reply"."""

    def __init__(self):
        self.nodes = {}
        self.lose = []
        self.carried = []

    def of(self, me):
        return FakeNode(self, me)


class FakeNode:
    """What a service needs of a node, but for circuits, which never come."""

    def __init__(self, wires, me):
        self._wires = wires
        self._me = me
        self._ends = []
        self.incoming, self.queries = self._silence(), self._silence()

    def _silence(self):
        sender, receiver = trio.open_memory_channel(0)
        self._ends.append(sender)
        return receiver

    async def query(self, peer, body):
        wires = self._wires
        lost = wires.lose.pop(0) if wires.lose else None
        await trio.sleep(0.01)
        node = wires.nodes.get(peer)
        if node is None or lost == "request":
            raise Unreachable("nobody there")
        wires.carried.append((self._me, peer, wire.read_request(body)))
        reply = await node(self._me, body)
        await trio.sleep(0.01)
        if lost == "reply":
            raise Timeout("no answer in time")
        return reply


class Mint:
    """A mint at work on a store."""

    def __init__(self, street, store, policy, *, fee_bp=50):
        self.store = store
        master = Master(b"M" * 32)
        entropy = seeded(street.starts())
        self.lanes = FakeLanes(street.ground, store, master, entropy)
        self.payee = Payee(self.lanes, store)
        self.service = MintService(
            MintKeys(master, MINT),
            store,
            self.lanes,
            self.payee,
            policy,
            street.ground.clock,
            fee_bp=fee_bp,
        )
        street.wires.nodes[MINT.id] = self.service.answer_peer
        self.node = street.wires.of(MINT.id)

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        await self.service.run(self.node, task_status=task_status)

    async def ask(self, request, kind=None):
        """What a customer gets through a circuit."""
        reply = wire.read_reply(await self.service.answer_customer(wire.encode(request)))
        assert kind is None or isinstance(reply, kind), reply
        return reply

    async def balanced(self):
        sheet = await self.service.audit()
        assert sheet.difference == 0, sheet
        return sheet


class Worker:
    """A worker's till on a store."""

    def __init__(self, street, store, policy, identity=WORKER, seed=b"W"):
        self.store = store
        self.identity = identity
        master = Master(seed * 32)
        self.lanes = FakeLanes(street.ground, store, master, seeded(street.starts()))
        payee = Payee(self.lanes, store)
        self.till = Till(
            identity.id,
            street.wires.of(identity.id),
            store,
            self.lanes,
            payee,
            policy,
            street.ground.clock,
            mints=[MINT.id],
            public={MINT.id: MINT.public}.get,
            entropy=seeded(street.starts()),
        )
        street.wires.nodes[identity.id] = self.till.answer_peer

    async def held(self):
        """The best vouchers of all lanes to us."""
        rows = await self.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE)))
        return sum((row.cumulative for row in rows), ZERO)


class Street:
    """Everybody."""

    def __init__(self, policy=DEV):
        self.policy = policy
        self.ground = Ground()
        self.wires = Wires()
        self.customers = 0
        self._starts = 0

    def starts(self):
        self._starts += 1
        return self._starts

    def mint(self, store):
        return Mint(self, store, self.policy)

    def worker(self, store, **of):
        return Worker(self, store, self.policy, **of)

    async def customer(self, mint, *, coins=DEPOSIT):
        """One with a lane to the mint, accepted."""
        self.customers += 1
        customer = Customer(name=self.customers)
        offer = await mint.ask(LaneTerms(), LaneOffer)
        config = LaneConfig(
            payer_key=customer.key.public,
            payee_key=offer.payee_key,
            payer=Account(customer.seed),
            payee=offer.payee,
            network=NETWORK,
            lane_id=self.customers,
            close_delay=86_400,
            min_claim=ZERO,
        )
        self.ground.names[config.payer_key] = customer.lane
        self.ground.coins[customer.lane] = coins
        proposal = LanePropose(config=config, code=bytes(32), voucher=customer.voucher(ZERO), lt=0)
        reply = await mint.ask(proposal)
        assert not isinstance(reply, Err), reply
        return customer


async def stock(mint, customer, bundle="S"):
    """A customer that has bought; the keyset."""
    keyset = await newest(mint)
    request = customer.buy(keyset, bundle)
    customer.bought(keyset, await mint.ask(request, Sigs))
    return keyset


async def newest(mint):
    reply = await mint.ask(Keysets(), KeysetList)
    return parse_keyset(reply.keysets[-1], MINT.public)


def paid(customer, keyset, *, now, worker=WORKER, amount=AMOUNT, ticks=10, **terms):
    """A session of a customer, as its offer would have it: the session and the tick."""
    session = customer.spend(keyset, amount, worker, now=now, ticks=ticks, **terms)
    return session, session.spend.terms.tick
