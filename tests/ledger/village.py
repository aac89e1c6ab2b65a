"""Relays, a mint, workers and customers, each a node over memory in virtual time, on one chain.

What money needs of a node, calls and circuits, a `Town` gives without any node behind it.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import trio

from ledger import wire
from ledger.chain.embedded import EmbeddedChain
from ledger.keys import Master
from ledger.lanes import Lanes
from ledger.messages import Lock, Locked, Settle, Settled
from ledger.mintkeys import MintKeys
from ledger.money import Nano
from ledger.payee import Payee
from ledger.payment import PayTerms
from ledger.policy import DEV
from ledger.purse import Purse
from ledger.service import MintService
from ledger.store import Store
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.node import Node, NodeConfig, open_node
from p2p.overlay.advert import Fields, OnionKey, Role, Rules, build, parse
from p2p.overlay.listing import Entry
from p2p.stack import Peer
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint
from simulations.faces import Board, Faces
from simulations.faults import Schedule, Weather
from simulations.network.fabric import Network

TON = Nano(10**9)
NETWORK = 81
POLICY = replace(DEV, iou_limit=TON)
"""Workers without a lane are owed, so that a test needs none."""

FEE_BP = 50


@dataclass
class Party:
    """One node and its money."""

    number: int
    identity: Identity
    node: Node
    store: Store
    lanes: Lanes
    master: Master
    stop: trio.CancelScope
    mint: MintService | None = None
    purse: Purse | None = None


class Village:
    def __init__(self, nursery):
        self.nursery = nursery
        self.ether = Ether()
        self.first = ()
        self.count = 0
        self.chain = EmbeddedChain.open(None, block_time=0.4)
        self.stores = {}

    def carrier(self, config):
        return MemoryCarrier(
            config.identity,
            network=config.network,
            listen=config.listen,
            entropy=config.entropy,
            ether=self.ether,
        )

    async def built(self, relays=4, mint=Role.MINT):
        """Everybody knows everybody; the customer has 1 TON and the mint 5."""
        await self.nursery.start(self.chain.run)
        self.relays = [await self.up(Role.RELAY) for _ in range(relays)]
        self.mint = await self.up(mint, coins=TON * 5)
        self.customer = await self.up(Role(0), coins=TON)
        for party in (*self.relays, self.mint, self.customer):
            await self.met(party)
        with trio.fail_after(10):
            while await self.chain.account(self.customer.lanes.account) is None:  # noqa: ASYNC110
                await trio.sleep(0.4)
        return self

    async def met(self, party):
        """Wait until a party knows everybody."""
        with trio.fail_after(120):
            while party.node.directory.status().count < len(self.relays) + 1:
                await party.node.directory_changed()

    async def restart(self):
        """The customer stops where it stands, and comes back on the same store."""
        self.customer.stop.cancel()
        self.customer = await self.up(Role(0), number=self.customer.number)
        await self.met(self.customer)

    @property
    def now(self):
        """Unix time."""
        return SystemClock().now()

    async def readvertise(self, digest):
        """The mint shows everybody another keyset."""
        await self.mint.node.publish(Fields(roles=Role.MINT, mint=digest))
        mint = self.mint.node.id
        with trio.fail_after(120):
            while self.customer.node.directory.find(mint).advert.fields.mint != digest:
                await self.customer.node.directory_changed()

    async def up(self, roles, coins=None, number=None):
        """A new node, or that of a number again, with what it kept in its store."""
        self.count += 1
        return await self.nursery.start(self._run, roles, coins, number or self.count)

    async def worker(self):
        """A newcomer who earns, once it knows the mint."""
        worker = await self.up(Role.RELAY)
        await self.met(worker)
        return worker

    async def _store(self, task_status):
        """In memory, as a virtual clock does not wait for threads; it outlives its node."""
        async with Store.open(None) as store:
            task_status.started(store)
            await trio.sleep_forever()

    async def _run(self, roles, coins, number, task_status):
        seed = number.to_bytes(32, "little")
        config = NodeConfig(
            identity=Identity(seed),
            network=NETWORK,
            dev=True,
            roles=roles,
            bootstrap=self.first,
            listen=Endpoint("127.0.0.1", 0) if roles else None,
            entropy=seeded(number),
        )
        with trio.CancelScope() as stop:
            async with self._node(config) as node:
                await self._live(node, config, number, coins, stop, task_status)

    @asynccontextmanager
    async def _node(self, config):
        async with open_node(config, carrier=self.carrier) as node:
            self.first = self.first or (Peer(node.public, (node.endpoint,)),)
            yield node

    async def _live(self, node, config, number, coins, stop, task_status):
        entropy, master = seeded(1_000 * self.count + number), Master(config.identity.id)
        if number not in self.stores:
            self.stores[number] = await self.nursery.start(self._store)
        store = self.stores[number]
        async with trio.open_nursery() as nursery:
            lanes = Lanes(self.chain, store, master, POLICY, entropy=entropy)
            party = Party(number, config.identity, node, store, lanes, master, stop)
            if coins:
                await self.chain.fund(lanes.account, coins)
            if config.roles is not Role.RELAY:
                await nursery.start(lanes.run)
            fields = Fields(roles=config.roles)
            if Role.MINT in config.roles:
                party.mint = MintService(
                    MintKeys(master, config.identity),
                    store,
                    lanes,
                    Payee(lanes, store),
                    POLICY,
                    SystemClock(),
                    fee_bp=FEE_BP,
                )
                await nursery.start(party.mint.run, node)
                fields = Fields(roles=config.roles, mint=party.mint.digest)
            elif not config.roles:
                party.purse = Purse(
                    node,
                    store,
                    lanes,
                    master,
                    POLICY,
                    mints=[self.mint.node.id],
                    entropy=entropy,
                )
                await nursery.start(party.purse.run)
            if config.roles:
                nursery.start_soon(node.publish, fields)
            task_status.started(party)
            await trio.sleep_forever()


RULES = Rules(network=NETWORK, dev=True)


class Town(Village):
    """A village whose nodes are faces: the same money for a third of the time."""

    def __init__(self, nursery):
        super().__init__(nursery)
        self.news = trio.Event()
        self.entries = {}
        self.faces = Faces(
            Network(seeded(3)),
            Weather(Schedule(seeded(4)), self.now),
            None,
            SystemClock().now,
            Board(()),
        )
        nursery.start_soon(self.faces.run)

    @asynccontextmanager
    async def _node(self, config):
        index = int.from_bytes(config.identity.id[:4], "big")
        face = Citizen(self, config.identity, index)
        try:
            yield face
        finally:
            face.crash()


class Citizen:
    """A face, and the part of a node by which it is listed and knows who is."""

    def __init__(self, town, identity, index):
        self._town = town
        self._identity = identity
        self._face = town.faces.face(identity, index)
        self.directory = self

    def __getattr__(self, name):
        return getattr(self._face, name)

    def find(self, node):
        return self._town.entries.get(node)

    def usable(self, role):
        return [entry for entry in self._town.entries.values() if role in entry.advert.roles]

    def status(self):
        return Known(len(self._town.entries))

    async def directory_changed(self):
        await self._town.news.wait()

    async def publish(self, fields):
        now = self._town.now
        said = replace(
            fields,
            roles=fields.roles | Role.DIALABLE,
            addresses=(Endpoint("10.0.0.1", 4_001),),
            onion=OnionKey(int(now // 86_400), bytes(32)),
        )
        advert = parse(build(self._identity, said, now, RULES), now, RULES)
        entry = Entry(advert=advert, live=True, open=True, days=0, group=self.id)
        self._town.entries[self.id] = entry
        news, self._town.news = self._town.news, trio.Event()
        news.set()


class Known(NamedTuple):
    """What a village asks of a listing's status."""

    count: int


TICK = Nano(100_000)


def terms(village, worker, *, ticks=40, expiry=None, session=b"s" * 32):
    """What an answer of a worker would be paid by."""
    now = village.now
    return PayTerms(
        mints=(village.mint.node.id,),
        payee=worker.node.id,
        session=session,
        tick=TICK,
        ticks=ticks,
        expiry=int(now) + 60 if expiry is None else expiry,
    )


async def asked(village, worker, request, kind):
    """What the mint answers to a worker."""
    with trio.fail_after(30):
        body = await worker.node.query(village.mint.node.id, wire.encode(request))
    return wire.answer(body, kind)


async def locked(village, worker, payment):
    return await asked(village, worker, Lock(payment.spend), Locked)


async def settled(village, worker, payment, i):
    request = Settle(lock=payment.lock_id, i=i, x=payment.chain.reveal(i), final=True)
    return await asked(village, worker, request, Settled)


async def until_value(village, value):
    """Wait until the customer has so much in credits."""
    with trio.fail_after(300):
        while (await village.customer.purse.holdings()).value != value:  # noqa: ASYNC110
            await trio.sleep(0.5)  # nothing signals it


async def fill_disk(store, *, is_full):
    """A store that takes nothing, or again something."""
    await store.read(lambda c: list(c.execute(f"PRAGMA query_only={is_full:d}")))
