"""TL: pytoniq-core writes and reads the same bytes, and nothing but one encoding is accepted."""

import base64
import dataclasses
import json
import struct
from pathlib import Path

import pytest
import pytoniq_core
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2p import tl, tltypes, ton
from p2p.errors import TlError
from tests.p2p.tlvalues import (
    CLASSES,
    DECLARED,
    EDGES,
    anything,
    from_dict,
    judged,
    to_dict,
    values,
)

DATA = Path(__file__).parents[1] / "data" / "adnl"
STATIC = Path("/work/shared/data/adnl/static-dht-nodes.json")
TRANSCRIPTS = sorted(DATA.glob("*.json"))
UNREADABLE = ("overlay.broadcastList", "overlay.getBroadcastList")
"""what pytoniq-core writes but cannot read: it takes the items of `vector int256` for boxed."""


@pytest.fixture(scope="session")
def judge(tmp_path_factory):
    return judged(pytoniq_core, tmp_path_factory.mktemp("tl") / "schema.tl")


@pytest.mark.parametrize("name", DECLARED)
def test_pytoniq_core_writes_and_reads_the_same_bytes(judge, name):
    @settings(max_examples=20)
    @given(values(name))
    def check(value):
        theirs = judge.serialize(judge.get_by_name(name), to_dict(value))
        assert tl.pack(value) == theirs
        assert tl.parse(type(value), theirs) == value
        if name not in UNREADABLE:
            spelled, end = judge.deserialize(theirs)
            assert end == len(theirs)
            assert from_dict(spelled["@type"], spelled) == value

    check()


@given(anything)
def test_a_value_comes_back_boxed_bare_and_before_a_rest(value):
    packed, bare = tl.pack(value), tl.pack(value, boxed=False)
    assert packed == value.tl.id + bare
    assert tl.parse(type(value), packed) == value
    assert tl.parse(type(value), bare, boxed=False) == value
    assert tl.parse_any(packed) == value
    assert tl.parse_prefix(packed + b"rest") == (value, b"rest")
    assert tl.parse_at(b"head" + packed + b"rest", 4) == (value, 4 + len(packed))


@given(anything, st.data())
def test_truncated_is_refused(value, data):
    packed = tl.pack(value)
    end = data.draw(st.integers(0, len(packed) - 1))
    for parse in (tl.parse_any, lambda buffer: tl.parse(type(value), buffer)):
        with pytest.raises(TlError):
            parse(packed[:end])


@given(anything, st.binary(min_size=1, max_size=9))
def test_trailing_is_refused(value, more):
    with pytest.raises(TlError, match="left over"):
        tl.parse(type(value), tl.pack(value) + more)
    with pytest.raises(TlError, match="left over"):
        tl.parse_any(tl.pack(value) + more)


@given(st.binary(max_size=64))
def test_an_unknown_constructor_is_refused(junk):
    assume(junk[:4] not in {cls.tl.id for cls in CLASSES.values()})
    with pytest.raises(TlError):
        tl.parse_any(junk)


@given(anything, st.integers(0), st.integers(1, 255))
def test_what_is_accepted_is_the_one_encoding_of_its_value(value, at, change):
    packed = bytearray(tl.pack(value))
    packed[at % len(packed)] ^= change
    try:
        read = tl.parse_any(bytes(packed))
    except TlError:
        return
    assert tl.pack(read) == packed


@given(st.sampled_from(sorted(DECLARED)), st.binary(max_size=200))
def test_junk_behind_a_known_id_raises_nothing_else(name, junk):
    try:
        read = tl.parse_any(CLASSES[name].tl.id + junk)
    except TlError:
        return
    assert tl.pack(read) == CLASSES[name].tl.id + junk


@pytest.mark.parametrize("size", [*EDGES, 65_536, tltypes.MAX_BYTES])
def test_bytes_of_every_form_of_length(size):
    value = ton.AdnlMessageCustom(bytes(size))
    packed = tl.pack(value)
    assert len(packed) % 4 == 0
    assert tl.parse(ton.AdnlMessageCustom, packed) == value


def test_bytes_too_long_for_three_bytes_of_length_are_refused():
    with pytest.raises(ValueError, match="too many"):
        tl.pack(ton.AdnlMessageCustom(bytes(tltypes.MAX_BYTES + 1)))
    head = b"\xff" + (tltypes.MAX_BYTES + 1).to_bytes(7, "little")
    with pytest.raises(TlError, match="length"):
        tl.parse(ton.AdnlMessageCustom, head + bytes(tltypes.MAX_BYTES + 1), boxed=False)


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(b"\x01a\0\1", id="padding that is not zero"),
        pytest.param(b"\xfe\x01\0\0a\0\0\0", id="a long form for a short length"),
        pytest.param(b"\xfe\xfd\0\0" + bytes(256), id="a long form for 253 bytes"),
        pytest.param(b"\x01a", id="no padding at the end of the buffer"),
        pytest.param(b"\xfe\xff\xff\xff", id="16 MiB promised and nothing there"),
    ],
)
def test_bytes_in_another_form_are_refused(buffer):
    with pytest.raises(TlError):
        tl.parse(ton.AdnlMessageCustom, buffer, boxed=False)


@pytest.mark.parametrize("bit", range(12, 32))
def test_an_unknown_flag_is_refused(bit):
    packed = tl.pack(ton.AdnlPacketContents(b""))
    marked = packed[:8] + struct.pack("<I", 1 << bit) + packed[12:]
    with pytest.raises(TlError, match="flags"):
        tl.parse(ton.AdnlPacketContents, marked)


def test_a_vector_longer_than_the_buffer_is_refused_before_an_item_is_read():
    for count in (2, 1 << 20, 2**32 - 1):
        packed = ton.AdnlNodes.tl.id + struct.pack("<II", count, 0)
        with pytest.raises(TlError, match="vector"):
            tl.parse_any(packed)


def test_fields_that_share_a_flag_are_packed_together_or_not_at_all():
    with pytest.raises(ValueError, match="share a flag"):
        tl.pack(ton.AdnlPacketContents(b"", reinit_date=1))
    both = ton.AdnlPacketContents(b"", reinit_date=1, dst_reinit_date=0)
    assert tl.parse_any(tl.pack(both)) == both


@pytest.mark.parametrize(
    "value",
    [
        ton.DhtPing(2**63),
        ton.AdnlAddressUdp(2**31, 0),
        ton.AdnlAddressUdp("1", 0),
        ton.PubEd25519(bytes(31)),
        ton.PubEd25519("k" * 32),
        ton.AdnlMessageCustom(bytearray(4)),
        ton.AdnlNodes([]),
        ton.AdnlNode(ton.AdnlIdShort(bytes(32)), ton.AdnlAddressList((), 0, 0, 0, 0)),
        ton.DhtMessage(ton.DhtPing(0)),
        ton.AdnlPacketContents(None),
        ton.AdnlPacketContents(b"", rand2=None),
        ton.OverlayMessageExtra(ton.OverlayEmptyCertificate()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_does_not_fit_its_declaration_is_our_bug(value):
    with pytest.raises(ValueError, match=r"."):
        tl.pack(value)


def test_bare_within_a_list_is_boxed_on_its_own():
    node = ton.DhtNode(
        ton.PubEd25519(bytes(32)), ton.AdnlAddressList((), 0, 0, 0, 0), 1, b"signature"
    )
    bare = tl.pack(node, boxed=False)
    assert tl.pack(node) == ton.DhtNode.tl.id + bare
    assert tl.pack(ton.DhtQuery(node)) == ton.DhtQuery.tl.id + bare
    assert tl.pack(ton.DhtNodes((node,))) == ton.DhtNodes.tl.id + struct.pack("<I", 1) + bare


def test_bytes_are_not_parsed_because_they_look_like_tl():
    inner = tl.pack(ton.DhtPing(7))
    assert tl.parse_any(tl.pack(ton.AdnlMessageCustom(inner))) == ton.AdnlMessageCustom(inner)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_recorded_packets_parse_and_pack_to_the_same_bytes(path):
    events = json.loads(path.read_text())["events"]
    plain = [base64.b64decode(event["plain"]) for event in events if "plain" in event]
    assert plain or path.stem.startswith("rldp2")
    for buffer in plain:
        assert tl.pack(tl.parse(ton.AdnlPacketContents, buffer)) == buffer


@pytest.mark.skipif(not STATIC.exists(), reason="the list of TON's static nodes is not here")
def test_tons_static_nodes_parse_and_pack_to_the_same_bytes():
    networks = json.loads(STATIC.read_text())["networks"]
    nodes = [node for network in networks.values() for node in network["nodes"]]
    assert len(nodes) == 19
    for node in nodes:
        buffer = bytes.fromhex(node["tl"])
        read = tl.parse(ton.DhtNode, buffer, boxed=False)
        assert tl.pack(read, boxed=False) == buffer
        assert [address.ip for address in read.addr_list.addrs] == [
            address["ip"] for address in node["addr_list"]["addrs"]
        ]


def test_values_are_frozen_slotted_and_hashable():
    value = ton.AdnlIdShort(bytes(32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.id = b""
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(ton.AdnlIdShort(bytes(32)))
