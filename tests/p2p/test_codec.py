"""The one codec: each value has one form, and nothing else is read."""

import unicodedata

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2p import codec
from p2p.errors import CodecError

LIMIT = 1 << 20


def canonical_text():
    characters = st.characters(exclude_categories=("Cc", "Cs"))
    return st.text(characters, max_size=40).filter(
        lambda text: unicodedata.is_normalized("NFC", text)
    )


integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=300) | canonical_text()


def containers(inner):
    return (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(integers, inner, max_size=5)
        | st.dictionaries(canonical_text(), inner, max_size=5)
    )


def nested(depth):
    return scalars if depth == 0 else scalars | containers(nested(depth - 1))


values = nested(3)


def deep(containers_count, inner=0):
    value = inner
    for _ in range(containers_count):
        value = (value,)
    return value


@given(values)
def test_a_value_comes_back_as_it_was(value):
    assert codec.unpack(codec.pack(value), LIMIT) == value


@given(values)
def test_the_msgpack_library_reads_what_we_write(value):
    packed = codec.pack(value)
    assert msgpack.unpackb(packed, use_list=False, strict_map_key=False) == value


@given(values)
def test_the_types_come_back_too(value):
    def shape(item):
        if isinstance(item, tuple):
            return [shape(inner) for inner in item]
        if isinstance(item, dict):
            return {key: shape(inner) for key, inner in item.items()}
        return type(item)

    assert shape(codec.unpack(codec.pack(value), LIMIT)) == shape(value)


@given(st.dictionaries(integers, scalars), st.randoms())
def test_the_order_in_which_a_map_was_filled_leaves_no_trace(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert codec.pack(dict(items)) == codec.pack(value)


@given(values, st.data())
def test_every_truncation_is_refused(value, data):
    packed = codec.pack(value)
    size = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(CodecError):
        codec.unpack(packed[:size], LIMIT)


@given(values, st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_refused(value, more):
    with pytest.raises(CodecError):
        codec.unpack(codec.pack(value) + more, LIMIT)


@given(st.binary(max_size=200))
@example(b"\xdd\xff\xff\xff\xff")  # an array of 2^32 - 1 items
@example(b"\xdf\xff\xff\xff\xff")  # a map as large
@example(b"\xc6\xff\xff\xff\xff")  # 4 GiB of bytes
@example(b"\x91" * 200)  # deeper than any stack
@example(b"\xd6\xff\x00\x00\x00\x00")  # a timestamp
@example(b"\xc1")  # never used
@example(b"\x82\x01\x02\xc3\x04")  # keys 1 and True
@example(b"\x81\x91\x01\x02")  # an array as a key
@example(b"\x81\x80\x02")  # a map as a key
def test_random_bytes_are_a_value_in_its_one_form_or_a_codec_error(data):
    try:
        value = codec.unpack(data, LIMIT)
    except CodecError:
        return
    assert codec.pack(value) == data


@given(values, st.data())
def test_a_flipped_bit_is_another_value_or_refused(value, data):
    packed = bytearray(codec.pack(value))
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        other = codec.unpack(bytes(packed), LIMIT)
    except CodecError:
        return
    assert codec.pack(other) == packed


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("an int longer than needed", b"\xcc\x05"),
        ("a negative int longer than needed", b"\xd0\xff"),
        ("a positive int with a signed header", b"\xd1\x01\x00"),
        ("bin 16 where bin 8 does", b"\xc5\x00\x01a"),
        ("str 8 where fixstr does", b"\xd9\x01a"),
        ("array 16 where fixarray does", b"\xdc\x00\x01\x05"),
        ("map 16 where fixmap does", b"\xde\x00\x01\x05\x05"),
        ("int keys out of order", b"\x82\x02\xc0\x01\xc0"),
        ("the same key twice", b"\x82\x01\xc0\x01\xc0"),
        ("the same key twice, in two forms", b"\x82\x01\xc0\xcc\x01\xc0"),
        ("str keys out of order", b"\x82\xa1b\xc0\xa1a\xc0"),
        ("both kinds of keys", b"\x82\x01\xc0\xa1a\xc0"),
        ("a bool as a key", b"\x81\xc3\xc0"),
        ("nil as a key", b"\x81\xc0\xc0"),
        ("bytes as a key", b"\x81\xc4\x01a\xc0"),
        ("a float", b"\xcb" + bytes(8)),
        ("a float as a key", b"\x81\xca\x3f\x80\x00\x00\xc0"),
        ("an extension", b"\xd4\x05\x00"),
        ("a timestamp", b"\xd6\xff\x00\x00\x00\x01"),
        ("text that is not UTF-8", b"\xa2\xff\xfe"),
        ("text with half a surrogate pair", b"\xa3\xed\xa0\x80"),
        ("text that is not in NFC", b"\xa3e\xcc\x81"),
        ("a line feed in text", b"\xa1\n"),
        ("NUL in text", b"\xa1\x00"),
        ("DEL in text", b"\xa1\x7f"),
        ("a C1 control in text", b"\xa2\xc2\x85"),
        ("a control character in a key", b"\x81\xa1\n\xc0"),
        ("nothing at all", b""),
    ],
)
def test_no_second_form_and_no_other_type_is_read(why, data):
    with pytest.raises(CodecError):
        codec.unpack(data, LIMIT)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        2**64,
        -(2**63) - 1,
        "e\u0301",
        "\n",
        "\ud800",
        {1: 1, "a": 1},
        {True: 1},
        {1.0: 1},
        {2**64: 1},
        {b"a": 1},
        {None: 1},
        {"\x00": 1},
        object(),
        {1, 2},
        [[2**64]],
        {1: {2: 1.5}},
    ],
)
def test_what_has_no_form_is_not_written(value):
    with pytest.raises(ValueError, match=r"."):
        codec.pack(value)


@pytest.mark.parametrize("inner", [0, (), {}, "text"])
def test_six_containers_deep_and_no_deeper(inner):
    fits = codec.MAX_DEPTH - isinstance(inner, (tuple, dict))
    assert codec.unpack(codec.pack(deep(fits, inner)), LIMIT) == deep(fits, inner)
    with pytest.raises(ValueError, match="deep"):
        codec.pack(deep(fits + 1, inner))
    with pytest.raises(CodecError):
        codec.unpack(msgpack.packb(deep(fits + 1, inner)), LIMIT)


def test_maps_count_as_containers_too():
    value = {1: {2: {3: {4: {5: {6: {7: 0}}}}}}}
    with pytest.raises(ValueError, match="deep"):
        codec.pack(value)
    with pytest.raises(CodecError):
        codec.unpack(msgpack.packb(value), LIMIT)


def test_the_limit_is_the_last_length_that_is_read():
    packed = codec.pack(b"x" * 100)
    assert codec.unpack(packed, len(packed)) == b"x" * 100
    with pytest.raises(CodecError, match="long"):
        codec.unpack(packed, len(packed) - 1)


def test_int_keys_stand_by_value_and_str_keys_by_their_bytes():
    assert codec.pack({300: 0, 2: 0, -1: 0}) == b"\x83\xff\x00\x02\x00\xcd\x01\x2c\x00"
    assert codec.pack({"\uff5e": 0, "\U00010000": 0, "b": 0, "aa": 0}) == (
        b"\x84\xa2aa\x00\xa1b\x00\xa3\xef\xbd\x9e\x00\xa4\xf0\x90\x80\x80\x00"
    )


# --- messages on a stream ---


def cut(data, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(0, 30), max_size=30))
def test_a_stream_cut_anywhere_gives_its_messages(messages, sizes):
    unframer, got = codec.Unframer(50), []
    for piece in cut(b"".join(codec.frame(message) for message in messages), sizes):
        unframer.feed(piece)
        got += list(unframer)
    assert got == messages
    assert len(unframer) == 0


def test_a_message_is_refused_by_its_length_alone():
    unframer = codec.Unframer(50)
    unframer.feed((51).to_bytes(4, "little"))
    with pytest.raises(CodecError):
        list(unframer)
