"""A visit to a DHT: what it finds, and that nothing is left of it."""

import time

import pytest
import trio

from p2p.dht import value as values
from p2p.dht.core import Seed
from p2p.dht.counts import Count
from p2p.dht.settings import DEV
from p2p.errors import DhtError, LocalError
from p2p.identity import Identity
from p2p.ton import DhtKey
from p2p.visit import VisitConfig, visit
from p2p.wire import Endpoint
from tests.p2p.dht.loopback import LOOPBACK, TON, dht

PATIENCE = 30
OWNER = Identity(b"o" * 32)
MOSS = 0x6D6F7373


def place(seeds, network=TON):
    return VisitConfig(seeds=seeds, network=network, bind=Endpoint(LOOPBACK, 0), settings=DEV)


@pytest.mark.parametrize("network", [TON, MOSS])
async def test_visitors_read_what_another_has_stored(network):
    async with dht(3, network) as nodes:
        seeds = [nodes[0].dht.record()]
        made = values.sign(OWNER, b"moths", b"Luna", int(time.time()) + 60)
        with trio.fail_after(PATIENCE):
            async with visit(place(seeds, network)) as first:
                await first.joined()
                assert await first.run(lambda it: it.store(made)) == 3
            async with visit(place(seeds, network)) as second:
                await second.joined()
                key = DhtKey(OWNER.id, b"moths", 0)
                assert await second.run(lambda it: it.find_value(key)) == made
                nearest = await second.run(lambda it: it.find_nodes(nodes[2].identity.id))
                assert nearest[0] == nodes[2].dht.record()


async def test_a_visitor_is_in_nobodys_table():
    async with dht(2, TON) as nodes:
        with trio.fail_after(PATIENCE):
            async with visit(place([node.dht.record() for node in nodes])) as visiting:
                await visiting.joined()
                await visiting.run(lambda it: it.find_nodes(bytes(32)))
        assert [len(node.dht.active()) for node in nodes] == [1, 1]


async def test_another_networks_nodes_are_not_joined():
    async with dht(2, TON) as nodes:
        records = [node.dht.record() for node in nodes]
        seeds = [Seed(record.id.key, record.addr_list) for record in records]

        async def refused(it):
            return it.statistics().counts[Count.BAD_RECORD], it.active()

        async with visit(place(seeds, MOSS)) as visiting:
            with trio.fail_after(PATIENCE):
                while (await visiting.run(refused))[0] < 2:
                    await trio.lowlevel.checkpoint()
            assert (await visiting.run(refused))[1] == []


async def test_what_a_procedure_raises_reaches_whoever_runs_it():
    async with visit(place([])) as visiting:
        with pytest.raises(DhtError, match="1 to 127 bytes"):
            await visiting.run(lambda it: it.find_value(DhtKey(OWNER.id, b"", 0)))


async def test_a_socket_that_cannot_be_bound_is_said():
    config = VisitConfig(seeds=[], network=TON, bind=Endpoint("192.0.2.1", 1))
    with pytest.raises(LocalError, match=r"192\.0\.2\.1"):
        async with visit(config):
            pass


async def test_what_the_block_raises_leaves_it_as_it_is():
    with pytest.raises(KeyError, match="moth"):
        async with visit(place([])):
            raise KeyError("moth")
