"""The benchmark of ADNL, small: every row of it, in the one shape, and what it measures."""

import json
import random
from itertools import islice

import pytest

from p2p.identity import Identity
from p2p.tl import pack
from p2p.ton import DhtPing, DhtPong
from scripts.bench import adnl, downloads, lookups, main, served, siege
from scripts.bench.ends import START, Client, Node
from scripts.failure import Failed

NAMES = {
    "core_queries_per_second",
    "handshakes_per_second",
    "queries_served_per_second",
    "queries_served_per_second_of_processor",
    "rldp2_mb_per_second",
    "honest_p99_ratio_under_fuzz",
    "dht_lookup_hops_200",
}


@pytest.fixture
def _small(monkeypatch):
    """Rates of this mean nothing; it only takes less time."""
    for name, value in {"QUERIES": 20, "HANDSHAKES": 2, "PACKETS": 100}.items():
        monkeypatch.setattr(adnl, name, value)
    monkeypatch.setattr(served, "AMOUNT", 80)
    monkeypatch.setattr(siege, "QUERIES", 20)
    monkeypatch.setattr(downloads, "SIZE", 100_000)
    for name, value in {"NODES": 12, "VALUES": 4, "LOOKUPS": 8}.items():
        monkeypatch.setattr(lookups, name, value)


@pytest.mark.usefixtures("_small")
def test_prints_one_document_with_every_row_and_every_aim(capsys, validate):
    assert main.main("adnl", quick=True, as_json=True) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    validate(document, "bench")
    assert {row["name"] for row in document["results"]} == NAMES
    assert all(row["value"] > 0 for row in document["results"])
    assert {aim["name"] for aim in document["aims"]} == set(adnl.AIMS)
    assert "pytoniq" in printed.err


def test_a_client_is_answered_by_a_channel_after_the_first_query():
    server = Node(Identity(b"s" * 32), START)
    client = Client(1, server)
    for _ in range(5):
        client.ask(adnl.QUERY)
    counts = server.adnl.statistics()
    assert (counts.sent_direct, counts.sent_in_channels) == (1, 4)


def test_a_ping_gets_its_pong_and_anything_else_itself():
    client = Client(1, Node(Identity(b"s" * 32), START))
    assert client.ask(pack(DhtPing(5))) == pack(DhtPong(5))
    assert client.ask(b"anything else") == b"anything else"


def test_junk_of_every_kind_reaches_a_node_and_moves_it_to_nothing():
    node = Node(Identity(b"s" * 32), START)
    attack = siege.datagrams(random.Random(1), node.identity)
    for datagram in islice(attack, 500):
        node.receive(START, siege.PLACES[0], datagram)
    counts = node.adnl.statistics()
    reasons = {"size", "key", "digest", "malformed", "ahead", "answer-unasked", "unknown"}
    assert reasons <= set(counts.drops)
    assert counts.accepted > 50
    assert counts.answered == 0


async def test_a_server_that_says_nothing_is_a_failure(monkeypatch):
    monkeypatch.setattr(served, "PATIENCE", 0.0)
    with pytest.RaisesGroup(pytest.RaisesExc(Failed, match="no answers"), flatten_subgroups=True):
        await served.measure(1, lambda: 1.0)


def test_blocks_are_coded_though_symbols_are_lost(monkeypatch):
    monkeypatch.setattr(downloads, "SIZE", 100_000)
    assert downloads._code() > 0
