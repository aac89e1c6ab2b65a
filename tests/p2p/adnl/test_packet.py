"""Packets by hand against the schema, and what is refused of a peer's."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import tl
from p2p.adnl import address, packet
from p2p.adnl.drops import Drop
from p2p.adnl.keys import KeyPair, to_curve
from p2p.adnl.packet import Introduction, Padding
from p2p.entropy import seeded
from p2p.errors import AdnlError, TlError
from p2p.ton import (
    AdnlAddressList,
    AdnlIdShort,
    AdnlMessageAnswer,
    AdnlMessageConfirmChannel,
    AdnlMessageCreateChannel,
    AdnlMessageCustom,
    AdnlMessageNop,
    AdnlMessagePart,
    AdnlMessageQuery,
    AdnlMessageReinit,
    AdnlPacketContents,
    DhtGetSignedAddressList,
    PubAes,
    PubEd25519,
    PubOverlay,
)
from p2p.wire import Endpoint
from tests.p2p.adnl.net import identity

ONE, TWO = identity(1), identity(2)
KEYS = st.binary(min_size=32, max_size=32)
INTS, LONGS = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
NUMBERS, DATES = st.integers(0, 2**63 - 1), st.integers(1, 2**31 - 1)
BYTES = st.one_of(st.binary(max_size=20), st.binary(min_size=250, max_size=260))
PADDINGS = st.builds(Padding, *[st.one_of(st.binary(min_size=n, max_size=n)) for n in (7, 15)])
MESSAGES = st.one_of(
    st.builds(AdnlMessageCustom, BYTES),
    st.builds(AdnlMessageQuery, KEYS, BYTES),
    st.builds(AdnlMessageAnswer, KEYS, BYTES),
    st.builds(AdnlMessagePart, KEYS, INTS, INTS, BYTES),
    st.builds(AdnlMessageCreateChannel, KEYS, INTS),
    st.builds(AdnlMessageConfirmChannel, KEYS, KEYS, INTS),
    st.builds(AdnlMessageReinit, INTS),
    st.just(AdnlMessageNop()),
)
LISTS = st.builds(
    lambda ports, version: address.address_list(
        [Endpoint("10.0.0.1", port) for port in ports], version
    ),
    st.lists(st.integers(1, 65_535), max_size=3),
    DATES,
)
NOTHING = AdnlPacketContents(b"1234567", seqno=1, confirm_seqno=2, rand2=b"7654321")


def reason(call, *arguments):
    with pytest.raises(AdnlError) as caught:
        call(*arguments)
    return caught.value.reason


# --- written by hand, as the schema has it ---


@given(st.lists(MESSAGES, max_size=4), PADDINGS, NUMBERS, NUMBERS)
def test_a_packet_in_a_channel_is_what_the_schema_makes(messages, padding, seqno, confirm):
    contents = AdnlPacketContents(
        rand1=padding.first,
        message=messages[0] if len(messages) == 1 else None,
        messages=None if len(messages) == 1 else tuple(messages),
        seqno=seqno,
        confirm_seqno=confirm,
        rand2=padding.last,
    )
    plain = packet.write([tl.pack(message) for message in messages], padding, seqno, confirm)
    assert plain == tl.pack(contents)
    found = packet.read(plain)
    assert found == packet.Packet(tuple(messages), seqno, confirm)


@given(
    st.lists(MESSAGES, max_size=3), PADDINGS, NUMBERS, st.none() | LISTS, DATES, DATES | st.just(0)
)
def test_a_signed_packet_is_what_the_schema_makes(messages, padding, seqno, listed, ours, theirs):
    contents = AdnlPacketContents(
        rand1=padding.first,
        from_=PubEd25519(ONE.public),
        message=messages[0] if len(messages) == 1 else None,
        messages=None if len(messages) == 1 else tuple(messages),
        address=listed,
        seqno=seqno,
        confirm_seqno=5,
        reinit_date=ours,
        dst_reinit_date=theirs,
        rand2=padding.last,
    )
    packed = None if listed is None else tl.pack(listed, boxed=False)
    introduction = Introduction(ONE.public, packed, ours, theirs)
    boxed = [tl.pack(message) for message in messages]
    plain = packet.write(boxed, padding, seqno, 5, introduction)
    assert plain == tl.pack(contents)

    signed = packet.sign(plain, padding, ONE)
    assert signed == tl.pack(replace(contents, signature=ONE.sign(tl.pack(contents))))
    assert len(signed) == len(plain) + packet.SIGNATURE

    found = packet.read_signed(signed)
    found.verify(ONE.public)
    assert found.message == plain
    assert found.packet == packet.Packet(
        tuple(messages), seqno, 5, ONE.public, ONE.id, listed, 0, ours, theirs
    )


OPTIONAL = {
    "from_": st.builds(PubEd25519, KEYS),
    "from_short": st.builds(AdnlIdShort, KEYS),
    "message": MESSAGES,
    "messages": st.lists(MESSAGES, max_size=3).map(tuple),
    "address": LISTS,
    "priority_address": LISTS,
    "seqno": LONGS,
    "confirm_seqno": LONGS,
    "recv_addr_list_version": INTS,
    "recv_priority_addr_list_version": INTS,
}
CONTENTS = st.builds(
    AdnlPacketContents,
    rand1=st.binary(max_size=300),
    rand2=st.binary(max_size=300),
    signature=st.binary(min_size=64, max_size=64),
    **{name: st.none() | strategy for name, strategy in OPTIONAL.items()},
)


@given(CONTENTS)
def test_a_signature_is_taken_out_of_any_packet_as_the_schema_would(contents):
    contents = replace(contents, from_=PubEd25519(ONE.public), from_short=None)
    contents = replace(contents, seqno=1, confirm_seqno=1)
    if contents.message is not None:
        contents = replace(contents, messages=None)
    found = packet.read_signed(tl.pack(contents))
    assert found.message == tl.pack(replace(contents, signature=None))
    assert found.signature == contents.signature


@given(CONTENTS)
def test_the_short_way_of_reading_agrees_with_the_schema(contents):
    plain = tl.pack(replace(contents, signature=None))
    usual = packet._read_usual(plain)
    if usual is not None:
        assert usual == packet._packet(tl.parse(AdnlPacketContents, plain))


@given(MESSAGES, st.integers(0, 400), st.integers(0, 255), st.integers(-3, 3))
def test_the_short_way_takes_nothing_that_the_schema_refuses(message, at, value, cut):
    plain = bytearray(packet.write([tl.pack(message)], Padding(b"1" * 7, b"2" * 15), 1, 2))
    plain[at % len(plain)] = value
    plain = bytes(plain[:cut] if cut < 0 else plain + bytes(cut))
    try:
        expected = packet._packet(tl.parse(AdnlPacketContents, plain))
    except (AdnlError, TlError):
        expected = None
    try:
        found = packet.read(plain)
    except (AdnlError, TlError):
        found = None
    assert found == expected


@pytest.mark.parametrize("size", range(0, 60, 4))
def test_a_packet_cut_short_is_refused_as_such(size):
    plain = packet.write([tl.pack(AdnlMessageNop())], Padding(b"1" * 7, b"2" * 7), 1, 2)
    with pytest.raises(TlError):
        packet.read(plain[: min(size, len(plain) - 1)])


def test_padding_is_seven_or_fifteen_bytes_at_each_end():
    entropy = seeded(1)
    drawn = [packet.draw_padding(entropy) for _ in range(64)]
    sizes = [(len(padding.first), len(padding.last)) for padding in drawn]
    assert set(sizes) == {(7, 7), (7, 15), (15, 7), (15, 15)}
    assert len({padding.first for padding in drawn}) == 64


# --- sealed ---


def test_a_direct_datagram_is_opened_by_the_node_it_is_for_alone():
    sealed = packet.seal_direct(KeyPair(b"e" * 32), TWO.id, to_curve(TWO.public), b"plain")
    assert sealed[:64] == TWO.id + KeyPair(b"e" * 32).public
    assert packet.unseal_direct(TWO, sealed) == b"plain"
    assert reason(packet.unseal_direct, ONE, sealed) is Drop.DIGEST


def test_a_sender_may_put_its_own_key_in_place_of_a_fresh_one():
    """As pytoniq and tonutils do."""
    sealed = packet.seal_direct(KeyPair(ONE.seed), TWO.id, to_curve(TWO.public), b"plain")
    assert sealed[32:64] == ONE.public
    assert packet.unseal_direct(TWO, sealed) == b"plain"


@pytest.mark.parametrize("public", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_a_datagram_sealed_by_no_key_is_refused(public):
    assert reason(packet.unseal_direct, TWO, TWO.id + public + bytes(64)) is Drop.KEY


def test_the_largest_direct_datagram_holds_a_message_of_1152_bytes():
    padding = Padding(b"1" * 15, b"2" * 15)
    introduction = Introduction(ONE.public, None, 1, 1)
    for count in (1, 2):
        messages = [b"m" * (packet.DIRECT_ROOM // count)] * count
        plain = packet.write(messages, padding, 1, 1, introduction)
        size = packet.DIRECT_HEAD + len(plain) + packet.SIGNATURE
        assert size in (packet.MAX_DATAGRAM, packet.MAX_DATAGRAM - 4)
    assert packet.DIRECT_ROOM >= 1_152


# --- what contradicts itself ---


def signed(**changes):
    contents = replace(NOTHING, from_=PubEd25519(ONE.public), signature=bytes(64))
    return tl.pack(replace(contents, **changes))


def test_a_packet_says_its_messages_in_one_way_only():
    plain = tl.pack(replace(NOTHING, message=AdnlMessageNop(), messages=(AdnlMessageNop(),)))
    assert reason(packet.read, plain) is Drop.MALFORMED


def test_a_packet_may_say_nothing():
    assert packet.read(tl.pack(NOTHING)).messages == ()


@pytest.mark.parametrize("field", ["seqno", "confirm_seqno"])
def test_a_negative_number_is_refused(field):
    one = replace(NOTHING, message=AdnlMessageNop())
    assert reason(packet.read, tl.pack(replace(one, **{field: -1}))) is Drop.MALFORMED


def test_an_unknown_flag_is_refused():
    plain = bytearray(tl.pack(NOTHING))
    plain[14] |= 0x10
    with pytest.raises(TlError):
        packet.read(bytes(plain))


def test_a_source_in_full_must_be_the_one_named():
    assert packet.read_signed(signed(from_short=AdnlIdShort(ONE.id))).packet.source_id == ONE.id
    assert reason(packet.read_signed, signed(from_short=AdnlIdShort(TWO.id))) is Drop.SOURCE


def test_a_source_may_be_named_alone():
    found = packet.read_signed(signed(from_=None, from_short=AdnlIdShort(ONE.id))).packet
    assert (found.source, found.source_id) == (None, ONE.id)


@pytest.mark.parametrize("key", [PubAes(bytes(32)), PubOverlay(b"x")])
def test_a_source_that_signs_nothing_is_refused(key):
    assert reason(packet.read_signed, signed(from_=key)) is Drop.SOURCE


def test_a_direct_packet_needs_source_and_signature():
    assert reason(packet.read_signed, signed(from_=None)) is Drop.SOURCE
    assert reason(packet.read_signed, signed(signature=None)) is Drop.SIGNATURE
    assert reason(packet.read_signed, signed(signature=bytes(63))) is Drop.SIGNATURE


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_signature_covers_every_byte(at, change):
    padding = Padding(b"1" * 7, b"2" * 7)
    introduction = Introduction(
        ONE.public, tl.pack(AdnlAddressList((), 1, 1, 0, 0), boxed=False), 1, 0
    )
    plain = packet.write([tl.pack(AdnlMessageNop())], padding, 1, 0, introduction)
    forged = bytearray(packet.sign(plain, padding, ONE))
    forged[at % len(forged)] ^= change
    try:
        found = packet.read_signed(bytes(forged))
    except (AdnlError, TlError):
        return
    assert reason(found.verify, ONE.public) is Drop.SIGNATURE


def test_a_payload_is_no_message():
    plain = packet.write([tl.pack(DhtGetSignedAddressList())], Padding(b"1" * 7, b"2" * 7), 1, 2)
    with pytest.raises(TlError):
        packet.read(plain)
