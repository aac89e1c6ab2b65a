"""What the owner of a node asks of the network's DHT.

A node with a role is one of the DHT, and asks as itself. Who only asks is no part of it: it visits
it for each question under a key made for that, and is gone afterwards.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar, final

import trio

from p2p.adnl.address import address_list
from p2p.dht import config, records
from p2p.dht import settings as dht_settings
from p2p.dht import value as values
from p2p.dht.core import DhtCore, Seed
from p2p.dht.publishing import Build
from p2p.errors import DhtError, NoCapacity, RemoteError
from p2p.identity import AdnlId
from p2p.node import Node
from p2p.ton import DhtNode, DhtValue
from p2p.visit import VisitConfig, visit
from scripts import joining, lookups
from scripts.api import dht as documents
from scripts.api.dht import Wish
from scripts.failure import Document, Failed
from scripts.lookups import Table, Wanted
from scripts.node.site import Site

OWN_NAMES: Final = ("address", "libp2p", "dht.node")
"""What a node with a role publishes of itself."""

LOOK_SECONDS: Final = 0.1
"""Between looks at whether the node knows one of the DHT."""

T = TypeVar("T")


@final
class Lookups:
    """See the module. Everything raises `Failed`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def get(self, owner: str, name: str | None, idx: int) -> Document:
        """The `dht-value` document."""
        named = None if name is None else documents.check_name(name).encode()
        wanted = Wanted(id=self._id(owner), name=named, idx=idx)
        async with self._table() as table:
            return await lookups.get(table, wanted)

    async def find_node(self, target: str) -> Document:
        """The `dht-nodes` document."""
        wanted = self._id(target)
        async with self._table() as table:
            return await lookups.find_node(table, wanted)

    async def put(self, wish: Wish) -> Document:
        """The `dht-stored` document: a value under this node's own key."""
        self._check(wish)
        identity, persistent = self._site.identity, bool(self._site.roles)
        name, expires = wish.name.encode(), lookups.expires(wish.ttl)
        made = values.sign(identity, name, wish.content, expires, idx=wish.idx)
        async with self._table() as table:
            with lookups.patience(lookups.LOOKUP_SECONDS):
                took = await (await lookups.joined(table)).run(lambda dht: dht.store(made))
            if not took:
                message = "No node of the DHT took the value."
                advice = "One that is as new as this or newer may stand there: try again in 1 s."
                raise Failed("dht_unreachable", message, advice)
            await self._keep(table, wish)
        return documents.stored(made, took, kept=wish.keep, persistent=persistent)

    async def config(self) -> Document:
        """The `dht-config` document: the nodes to begin with, by records that TON's tools read."""
        wanted = [peer.id for peer in self._site.profile.bootstrap]
        async with self._table() as table:
            found = await self._listings(table, wanted)
            if not found:
                await lookups.joined(table)
                message = "No bootstrap node's record stands in the DHT."
                advice = "They publish it some seconds after their start: try again."
                raise Failed("not_found", message, advice)
        text = config.write(list(found.values()), self._settings())
        return {
            "schema": "tussah/dht-config/1",
            "missing": [one.hex() for one in wanted if one not in found],
            "config": json.loads(text),
        }

    async def offer(self) -> None:
        """Have a bootstrap node's record for `config` published, if this is one."""
        site = self._site
        if site.roles and site.identity.id in [peer.id for peer in site.profile.bootstrap]:
            await _Own(site.running()).run(self._offer)

    async def _offer(self, dht: DhtCore) -> None:
        def build(expires: int) -> DhtValue | None:
            own = dht.record()
            return None if own is None else records.listing(self._site.identity, own, expires)

        dht.publish(time.time(), "dht.node", build)

    async def _listings(self, table: Table, wanted: Sequence[AdnlId]) -> dict[AdnlId, DhtNode]:
        """The records of these nodes, as far as they can be had in time, in their order."""
        found: dict[AdnlId, DhtNode] = {}
        with trio.move_on_after(lookups.LOOKUP_SECONDS):
            for one in wanted:
                record = await table.run(self._own) if one == self._site.identity.id else None
                record = record or await self._listing(table, one)
                if record is not None:
                    found[one] = record
        return found

    async def _own(self, dht: DhtCore) -> DhtNode | None:
        own = dht.record()
        return None if own is None else records.unnamed(self._site.identity, own)

    async def _listing(self, table: Table, node: AdnlId) -> DhtNode | None:
        await table.joined()
        value = await table.run(lambda dht: dht.find_value(records.listing_key(node)))
        if value is None:
            return None
        try:
            return records.read_listing(value, private=self._site.profile.dev)
        except RemoteError:  # its owner's own doing
            return None

    # --- inside ---

    def _id(self, text: str) -> bytes:
        node = self._site.running()
        listed = {entry.id for entry in self._site.entries()} | node.acquaintances().dht
        return lookups.parse_id(text, sorted({*listed, node.id}))

    def _check(self, wish: Wish) -> None:
        if wish.name in OWN_NAMES and not wish.idx:
            message = f"{wish.name} is what the node itself publishes: where it is."
            raise Failed("invalid_request", message, "Choose another name.", param="name")
        if wish.keep and not self._site.roles:
            message = "This node only asks, and has another key after each start: it keeps nothing."
            advice = "Keep values with a node that serves: tussah up --relay."
            raise Failed("invalid_request", message, advice, param="keep")

    async def _keep(self, table: Table, wish: Wish) -> None:
        """Bring the value again from now on, or no longer the one that was kept before it."""
        kept = f"put {wish.idx} {wish.name}"

        async def publish(dht: DhtCore) -> None:
            if wish.keep:
                dht.publish(time.time(), kept, self._build(wish))
            else:
                dht.withdraw(kept)

        try:
            await table.run(publish)
        except NoCapacity as error:
            message = "This node keeps as many values as it may."
            raise Failed("busy", message, "The value is stored once, as without --keep.") from error

    def _build(self, wish: Wish) -> Build:
        identity, name = self._site.identity, wish.name.encode()
        return lambda expires: values.sign(identity, name, wish.content, expires, idx=wish.idx)

    def _settings(self) -> dht_settings.Settings:
        return dht_settings.DEV if self._site.profile.dev else dht_settings.DEFAULT

    @asynccontextmanager
    async def _table(self) -> AsyncIterator[Table]:
        node, profile = self._site.running(), self._site.profile
        try:
            if self._site.roles:
                yield _Own(node)
                return
            seeds = [Seed(p.key, address_list((p.endpoint,), 0)) for p in profile.bootstrap]
            place = VisitConfig(
                seeds=seeds,
                network=profile.id,
                bind=joining.anywhere(profile),
                settings=self._settings(),
            )
            async with visit(place) as visiting:
                yield visiting
        except DhtError as error:
            raise Failed("invalid_request", f"The DHT has no such key: {error}.") from error


@final
class _Own:
    """The DHT that a node is one of."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def joined(self) -> None:
        """Wait until it knows another one."""
        while not self._node.acquaintances().dht:  # noqa: ASYNC110 - nothing signals the first
            await trio.sleep(LOOK_SECONDS)

    async def run(self, make: Callable[[DhtCore], Coroutine[object, None, T]]) -> T:
        """Run a coroutine over it."""
        return await self._node.run("dht", lambda stack: make(stack.dht))
