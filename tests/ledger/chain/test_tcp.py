"""ADNL over TCP, against pytoniq's own handshake, frames and ciphers."""

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq import LiteClient

from ledger.chain import tcp
from p2p.entropy import seeded
from p2p.errors import BadSignature, CodecError
from p2p.identity import Identity

KEY = Identity(bytes([7]) * 32)
OTHER = Identity(bytes([8]) * 32)


def client(key=KEY):
    return LiteClient("127.0.0.1", 1, b64encode(key.public).decode(), trust_level=2)


CLIENT = client()


def joined():
    """pytoniq's side and ours, after the handshake."""
    hello = CLIENT.handshake()
    return CLIENT, tcp.accept(KEY, hello, seeded(1))


def test_what_either_side_frames_the_other_reads():
    theirs, ours = joined()
    assert ours.feed(theirs.encrypt(theirs.serialize_packet(b"from pytoniq"))) == [b"from pytoniq"]
    frame = theirs.decrypt(ours.frame(b"from us"))
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    assert frame[36:-32] == b"from us"


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(1, 200), min_size=1))
def test_frames_are_read_however_the_stream_is_cut(payloads, cuts):
    theirs, ours = joined()
    stream = b"".join(theirs.encrypt(theirs.serialize_packet(payload)) for payload in payloads)
    read, at = [], 0
    while at < len(stream):
        cut = cuts[at % len(cuts)]
        read += ours.feed(stream[at : at + cut])
        at += cut
    assert read == payloads


def test_a_handshake_for_another_key_is_refused():
    with pytest.raises(CodecError):
        tcp.accept(OTHER, CLIENT.handshake(), seeded(1))


@settings(max_examples=40)
@given(st.integers(0, 255), st.integers(1, 255))
def test_a_handshake_with_any_byte_changed_is_refused(at, change):
    hello = bytearray(CLIENT.handshake())
    hello[at] ^= change
    with pytest.raises((CodecError, BadSignature)):
        tcp.accept(KEY, bytes(hello), seeded(1))


@pytest.mark.parametrize("size", [0, 255, 257])
def test_a_handshake_of_another_size_is_refused(size):
    with pytest.raises(CodecError):
        tcp.accept(KEY, CLIENT.handshake().ljust(size, b"\0")[:size], seeded(1))


@pytest.mark.parametrize("length", [0, 63, (1 << 20) + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_anything_is_kept(length):
    theirs, ours = joined()
    with pytest.raises(CodecError):
        ours.feed(theirs.encrypt(length.to_bytes(4, "little")))


def test_the_largest_frame_is_read():
    theirs, ours = joined()
    payload = bytes(tcp.LARGEST_FRAME - 64)
    assert ours.feed(theirs.encrypt(theirs.serialize_packet(payload))) == [payload]


@settings(max_examples=40)
@given(st.integers(4, 4 + 64 + 5 - 1), st.integers(1, 255))
def test_a_frame_with_any_byte_changed_is_refused(at, change):
    theirs, ours = joined()
    frame = bytearray(theirs.encrypt(theirs.serialize_packet(b"hello")))
    frame[at] ^= change
    with pytest.raises(CodecError):
        ours.feed(bytes(frame))
