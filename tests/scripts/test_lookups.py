"""The DHT as the owner of a node asks it: two relays and a client of one network, on loopback."""

import json
import socket
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from p2p.entropy import SystemEntropy
from p2p.identity import Identity, format_adnl, peer_id
from p2p.wire import Endpoint
from scripts import daemon, lookups, networks
from scripts.api.dht import Wish
from scripts.failure import Failed
from scripts.home import Home
from scripts.settings import load

PATIENCE = 60
FOREIGN = Path(__file__).with_name("with_foreign.py")
ID = "ab" * 32


@asynccontextmanager
async def network(tmp_path):
    """The first relay of a network, another one, and a client."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        first = Endpoint(*probe.getsockname())
    homes = [Home(tmp_path / name) for name in ("first", "second", "client")]
    profile = networks.create(homes[0], "moths", endpoint=first, entropy=SystemEntropy(), dev=True)
    for home in homes[1:]:
        networks.save(home, profile)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            yield [
                await nursery.start(partial(daemon.run, wanted(home, roles), home=home))
                for home, roles in zip(homes, ("relay", "relay", ""), strict=True)
            ]
        nursery.cancel_scope.cancel()


def wanted(home, roles):
    return load(flags={"node.roles": roles}, environ={}, file=home.config)[0]


async def test_nodes_put_get_and_find_over_loopback(tmp_path, validate):
    async with network(tmp_path) as (first, second, client):
        await put_and_get(second, [first, client], validate)
        await keeps(second, client)
        await find(first, second, client, validate)
        await begin_with(first, client, validate)
        say_who_they_are(second, client, validate)


async def put_and_get(owner, readers, validate):
    """What one relay has stored, everybody reads."""
    stored = await owner.lookups.put(Wish(name="greeting", content=b"Luna", idx=3, ttl=60))
    validate(stored, "dht-stored")
    assert (stored["nodes"], stored["kept"], stored["persistent"]) == (1, False, True)
    for reader in readers:
        document = await reader.lookups.get(owner.identity.id.hex(), "greeting", 3)
        validate(document, "dht-value")
        assert (document["text"], document["rule"]) == ("Luna", "signature")
        assert document["public_key"] == owner.identity.public.hex()
        by_key = await reader.lookups.get(stored["key"]["id"], None, 0)
        assert by_key == document
    assert await owner.lookups.get(owner.identity.id.hex()[:8], "greeting", 3) == document
    where = await readers[0].lookups.get(owner.identity.id.hex(), "address", 0)
    assert where["reads"] == owner.id()["udp"]
    with pytest.raises(Failed, match="no value under key"):
        await readers[0].lookups.get(owner.identity.id.hex(), "nothing", 0)


async def keeps(relay, client):
    """Who serves keeps a value published; who only asks cannot, and says so of its key."""
    before = relay.node.statistics().dht.published
    stored = await relay.lookups.put(Wish(name="kept", content=b"", keep=True))
    assert stored["kept"]
    assert relay.node.statistics().dht.published == before + 1
    await once_newer(relay, Wish(name="kept", content=b"other"))
    assert relay.node.statistics().dht.published == before
    with pytest.raises(Failed, match="only asks"):
        await client.lookups.put(Wish(name="kept", content=b"", keep=True))
    assert not (await client.lookups.put(Wish(name="once", content=b"")))["persistent"]
    with pytest.raises(Failed, match="itself publishes"):
        await relay.lookups.put(Wish(name="address", content=b""))


async def once_newer(relay, wish):
    """A value is newer than another by its expiry, in whole seconds."""
    while True:
        with suppress(Failed):
            return await relay.lookups.put(wish)
        await trio.sleep(0.2)


async def find(first, second, client, validate):
    """The nearest to a node's id is the node; a client is nobody's neighbour."""
    for text in (second.identity.id.hex(), format_adnl(second.identity.id)):
        document = await client.lookups.find_node(text)
        validate(document, "dht-nodes")
        assert document["nodes"][0]["id"] == second.identity.id.hex()
        assert document["nodes"][0]["addresses"] == second.id()["udp"]
    everybody = [node["id"] for node in (await client.lookups.find_node(ID))["nodes"]]
    assert len(everybody) == 2
    assert set(everybody) == {first.identity.id.hex(), second.identity.id.hex()}
    assert client.node.statistics().dht.table.active == 0


async def begin_with(first, client, validate):
    """Foreign tools, unmodified, load the configuration and are answered by whom it lists."""
    document = await published(client)
    validate(document, "dht-config")
    assert (await first.lookups.config())["config"] == document["config"]
    assert document["missing"] == []
    text = json.dumps(document["config"]).encode()
    ran = await trio.run_process([sys.executable, str(FOREIGN)], stdin=text, capture_stdout=True)
    key = first.identity.public.hex()
    assert json.loads(ran.stdout) == {"pytoniq": [key], "tonutils": [key]}


async def published(client):
    """The configuration, once the first node has looked for its neighbours again: 8 s at most."""
    while True:
        with suppress_not_found():
            return await client.lookups.config()
        await trio.sleep(0.2)


@contextmanager
def suppress_not_found():
    try:
        yield
    except Failed as failed:
        if failed.failure.code != "not_found":
            raise


def say_who_they_are(relay, client, validate):
    """A relay is where others are told; a client is somebody else the next time."""
    for node in (relay, client):
        validate(node.id(), "id")
        assert node.id()["id"] == node.identity.id.hex()
    assert relay.id()["persistent"]
    assert relay.id()["udp"]
    assert not client.id()["persistent"]
    assert client.id()["udp"] == client.id()["tcp"] == []


# --- ids as people write them ---


@pytest.mark.parametrize("text", [ID, ID.upper(), "ababab", format_adnl(bytes.fromhex(ID))])
def test_an_id_has_several_forms(text):
    assert lookups.parse_id(text, [bytes.fromhex(ID), bytes(32)]).hex() == ID


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abab", "too short"),
        ("cdcdcd", "no listed node begins so"),
        ("ababab", "2 listed nodes begin so"),
        ("moths", "55 letters"),
        ("", "too short"),
        ("z" * 55, "mistyped"),
        ("é" * 10_000, "55 letters"),
    ],
)
def test_what_is_no_id_is_said(text, why):
    with pytest.raises(Failed, match=why) as failed:
        lookups.parse_id(text, [bytes.fromhex(ID), bytes.fromhex("ab" * 31 + "cd")])
    assert failed.value.failure.code == "invalid_request"
    assert len(failed.value.failure.message) < 200


def test_a_peer_id_of_libp2p_is_refused_with_what_to_give_instead():
    text = peer_id(Identity(b"m" * 32).public)
    with pytest.raises(Failed, match="PeerId, by which this DHT finds nobody") as failed:
        lookups.parse_id(text)
    assert "tussah id" in failed.value.failure.advice
