"""A DHT of another network, asked by its configuration: here one of TON's kind, on loopback."""

import json
import time
from functools import partial

import pytest
import trio

from p2p.dht import config
from p2p.dht import value as values
from p2p.identity import Identity
from p2p.visit import VisitConfig, visit
from p2p.wire import Endpoint
from scripts import abroad
from scripts.failure import Failed
from tests.p2p.dht.loopback import DEV, LOOPBACK, TON, dht

OWNER = Identity(b"o" * 32)


async def asked(function, *args):
    """The command runs in a thread here, as it is a process elsewhere."""
    return await trio.to_thread.run_sync(partial(function, *args))


def listing(nodes):
    return config.write([node.dht.record() for node in nodes]).encode()


async def test_a_dht_of_tons_kind_is_asked_by_its_configuration(validate):
    async with dht(3, TON) as nodes:
        await store(nodes, values.sign(OWNER, b"moths", b"Luna", int(time.time()) + 60, idx=2))
        file = listing(nodes[:1])
        found = await asked(abroad.get, file, OWNER.id.hex(), "moths", 2)
        validate(found, "dht-value")
        assert found["text"] == "Luna"
        assert await asked(abroad.get, file, found["key"]["id"], None, 0) == found
        nearest = await asked(abroad.find_node, file, nodes[2].identity.id.hex())
        validate(nearest, "dht-nodes")
        assert nearest["nodes"][0]["id"] == nodes[2].identity.id.hex()
        with pytest.raises(Failed, match="no value under key") as failed:
            await asked(abroad.get, file, OWNER.id.hex(), "wasps", 0)
    assert failed.value.failure.meaning.exit == 4


async def test_a_dht_of_our_kind_is_asked_by_what_dht_config_prints():
    async with dht(3, 0x51A1) as nodes:
        target = nodes[2].identity.id.hex()
        nearest = await asked(abroad.find_node, listing(nodes[:1]), target)
        assert nearest["nodes"][0]["id"] == target


async def store(nodes, value):
    place = VisitConfig(
        seeds=[node.dht.record() for node in nodes],
        network=TON,
        bind=Endpoint(LOOPBACK, 0),
        settings=DEV,
    )
    async with visit(place) as visiting:
        await visiting.joined()
        assert await visiting.run(lambda it: it.store(value)) == len(nodes)


async def test_nobody_there_is_said(monkeypatch):
    monkeypatch.setattr("scripts.lookups.JOIN_SECONDS", 0.1)
    async with dht(1, TON) as nodes:
        file = listing(nodes)
    with pytest.raises(Failed, match="No node of the DHT has answered") as failed:
        await asked(abroad.find_node, file, "ab" * 32)
    assert failed.value.failure.code == "dht_unreachable"


EMPTY = json.dumps({"dht": {"static_nodes": {"nodes": []}}}).encode()


@pytest.mark.parametrize("file", [b"", b"\xff", b"{}", b"[" * 100_000, EMPTY, b" " * (1 << 21)])
def test_what_is_no_configuration_is_refused(file):
    with pytest.raises(Failed, match="no global configuration of TON") as failed:
        abroad.find_node(file, "ab" * 32)
    assert failed.value.failure.meaning.exit == 2


@pytest.mark.parametrize(
    ("key", "name", "idx"), [("moth", None, 0), ("ab" * 32, "", 0), ("ab" * 32, "x", 16)]
)
def test_what_is_no_key_is_refused_before_anybody_is_asked(key, name, idx):
    with pytest.raises(Failed) as failed:
        abroad.get(EMPTY, key, name, idx)
    assert failed.value.failure.code == "invalid_request"
