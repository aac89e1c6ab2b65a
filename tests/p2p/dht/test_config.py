"""Lists of nodes as TON's tools read them, judged by two of these tools."""

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.dht import config
from p2p.dht import node as nodes
from p2p.errors import DhtError
from p2p.identity import Identity
from p2p.ton import (
    AdnlAddressList,
    AdnlAddressReverse,
    AdnlAddressUdp,
    AdnlAddressUdp6,
    PubUnenc,
)

OWNERS = [Identity(bytes([number]) * 32) for number in range(1, 4)]
STATIC = Path(__file__).parents[4] / "shared" / "data" / "adnl" / "static-dht-nodes.json"
SIX = AdnlAddressUdp6(bytes.fromhex("2a01" + "00" * 13 + "01"), 4)


def record(identity, network=None, *addresses):
    addresses = addresses or (AdnlAddressUdp(-1185526007, 22096),)
    return nodes.build(identity, AdnlAddressList(addresses, 3, 2, 0, 0), 5, network)


RECORDS = [record(owner) for owner in OWNERS]


def test_what_is_written_is_read_again():
    records = [*RECORDS, record(OWNERS[0], 7), record(OWNERS[1], None, SIX)]
    assert config.read(config.write(records)) == records


def test_it_has_the_form_of_tons_own():
    written = json.loads(config.write(RECORDS[:1]))
    dht = written["dht"]
    assert (dht["@type"], dht["k"], dht["a"]) == ("dht.config.global", 6, 3)
    assert dht["static_nodes"]["@type"] == "dht.nodes"
    one = dht["static_nodes"]["nodes"][0]
    assert set(one) == {"@type", "id", "addr_list", "version", "signature"}
    assert one["addr_list"]["addrs"] == [
        {"@type": "adnl.address.udp", "ip": -1185526007, "port": 22096}
    ]


def test_pytoniq_reads_it_and_verifies_each_node():
    from pytoniq.adnl.adnl import AdnlTransport
    from pytoniq.adnl.dht import DhtClient

    client = DhtClient.from_config(json.loads(config.write(RECORDS)), AdnlTransport())
    assert {node.key_id for node in client.nodes_set} == {owner.id for owner in OWNERS}
    assert {(node.host, node.port) for node in client.nodes_set} == {("185.86.79.9", 22096)}


def test_tonutils_reads_it():
    from ton_core import GlobalConfig

    read = GlobalConfig.from_dict(json.loads(config.write(RECORDS))).dht.nodes
    assert [node.pub_key for node in read] == [owner.public for owner in OWNERS]
    assert {node.endpoint for node in read} == {"185.86.79.9:22096"}


def test_tons_own_nodes_are_read_and_believed():
    if not STATIC.exists():
        pytest.skip("TON's static nodes are not at hand: no ../shared/data/adnl here")
    for network in json.loads(STATIC.read_text())["networks"].values():
        written = as_tons(network["nodes"])
        records = config.read(json.dumps(written))
        assert len(records) == len(network["nodes"])
        assert all(nodes.check(one, None) for one in records)


def as_tons(listed):
    """The nodes of the collection in the form of the files that they were taken from."""

    def text(hexadecimal):
        return b64encode(bytes.fromhex(hexadecimal)).decode()

    def address(one):
        return {"@type": "adnl.address.udp", "ip": one["ip"], "port": one["port"]}

    return {
        "dht": {
            "static_nodes": {
                "nodes": [
                    {
                        "@type": "dht.node",
                        "id": {"@type": "pub.ed25519", "key": text(one["public_key"])},
                        "addr_list": one["addr_list"]
                        | {"addrs": [address(it) for it in one["addr_list"]["addrs"]]},
                        "version": one["version"],
                        "signature": text(one["signature"]),
                    }
                    for one in listed
                ]
            }
        }
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"dht": 1}',
        '{"dht": {"static_nodes": {"nodes": {}}}}',
        "[" * 9_999,
    ],
    ids=str.__len__,
)
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(DhtError):
        config.read(text)


def test_a_configuration_too_long_is_refused_before_it_is_read():
    with pytest.raises(DhtError, match="too long"):
        config.read(" " * config.MAX_CONFIG + "{}")


def test_no_more_nodes_are_read_than_the_bound():
    assert len(config.read(config.write(RECORDS * 60))) == config.MAX_NODES


DAMAGES = [
    ("id", {"@type": "pub.aes", "key": ""}),
    ("id", {"@type": "pub.ed25519", "key": "AAAA"}),
    ("id", {"@type": "pub.ed25519", "key": "?"}),
    ("id", None),
    ("version", 2**31),
    ("version", "1"),
    ("version", True),
    ("signature", "A" * 400),
    ("signature", 5),
    ("addr_list", {}),
    ("addr_list", {"addrs": [{"@type": "adnl.address.tunnel"}]}),
    ("addr_list", {"addrs": [{}] * 1000}),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_node_of_a_form_unknown_to_us_is_left_and_the_others_are_read(name, damage):
    written = json.loads(config.write(RECORDS))
    written["dht"]["static_nodes"]["nodes"][1][name] = damage
    assert config.read(json.dumps(written)) == [RECORDS[0], RECORDS[2]]


@pytest.mark.parametrize(
    "damaged",
    [record(OWNERS[0], None, AdnlAddressReverse()), replace(RECORDS[0], id=PubUnenc(b""))],
    ids=["address", "key"],
)
def test_what_has_no_form_in_json_is_not_written(damaged):
    with pytest.raises(DhtError):
        config.write([damaged])


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)


NAMES = st.sampled_from(["@type", "id", "key", "addr_list", "addrs", "version", "signature"])


@settings(max_examples=30)
@given(st.dictionaries(NAMES, LEAVES | st.lists(LEAVES) | st.dictionaries(NAMES, LEAVES)) | LEAVES)
def test_whatever_stands_in_place_of_nodes_nothing_else_is_raised(junk):
    assert config.read(json.dumps({"dht": {"static_nodes": {"nodes": [junk]}}})) == []
