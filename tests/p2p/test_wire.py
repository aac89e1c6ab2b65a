"""The messages of a link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import wire
from p2p.errors import CodecError
from p2p.wire import FRAME, MAX_FRAMES, MAX_MESSAGE, Kind, Message

PLAIN = [kind for kind in Kind if kind is not Kind.ONION]

numbers = st.integers(0, 2**64 - 1)


@given(st.sampled_from(PLAIN), numbers, st.binary(max_size=200))
def test_a_message_comes_back_as_it_was(kind, number, payload):
    message = Message(kind, number, payload)
    assert wire.unpack(wire.pack(message)) == message


def test_the_bytes_are_kind_number_payload():
    message = Message(Kind.ANSWER, 0x0102, b"abc")
    assert wire.pack(message) == b"\x03\x02\x01\0\0\0\0\0\0abc"


@pytest.mark.parametrize("frames", [1, MAX_FRAMES])
def test_onion_messages_hold_whole_frames(frames):
    message = Message(Kind.ONION, 0, bytes(FRAME * frames))
    assert wire.unpack(wire.pack(message)) == message


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME + 1, FRAME * (MAX_FRAMES + 1)])
def test_onion_messages_hold_nothing_else(size):
    with pytest.raises(CodecError, match="frames"):
        wire.unpack(wire.pack(Message(Kind.ONION, 0, bytes(size))))


def test_the_frames_of_one_message_fit_one_write():
    assert FRAME * MAX_FRAMES <= wire.MAX_PAYLOAD


@pytest.mark.parametrize("data", [b"", bytes(8)])
def test_a_message_without_its_head_is_refused(data):
    with pytest.raises(CodecError, match="length"):
        wire.unpack(data)


def test_the_largest_message_is_read_and_no_larger():
    largest = wire.pack(Message(Kind.ANSWER, 1, bytes(MAX_MESSAGE)))
    assert len(wire.unpack(largest).payload) == MAX_MESSAGE
    with pytest.raises(CodecError, match="length"):
        wire.unpack(largest + b"\0")
    with pytest.raises(ValueError, match="long"):
        wire.pack(Message(Kind.ANSWER, 1, bytes(MAX_MESSAGE + 1)))


@pytest.mark.parametrize("kind", [9, 0x80, 0x82, 255])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(CodecError, match="kind"):
        wire.unpack(bytes([kind]) + bytes(8))
    with pytest.raises(ValueError, match=str(kind)):
        wire.pack(Message(kind, 0, b""))


@given(st.binary(max_size=64))
def test_random_bytes_are_a_message_or_a_codec_error(data):
    try:
        message = wire.unpack(data)
    except CodecError:
        return
    assert wire.pack(message) == data
