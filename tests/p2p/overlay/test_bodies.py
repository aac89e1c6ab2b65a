"""The bodies of directory calls: what is written is read, and nothing else is."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec
from p2p.errors import CodecError, Rejected
from p2p.overlay import bodies
from p2p.overlay.bodies import Address, Item, Pull, Pulled, Refusal, Rooted
from p2p.wire import Endpoint

cuts = st.integers(0, 2**40 - 1)
digests = st.binary(min_size=16, max_size=16)
addresses = st.sampled_from(
    [
        Address(0, Endpoint("8.8.4.4", 1)),
        Address(1, Endpoint("2001:4860::8888", 65_535)),
        Address(2, Endpoint("127.0.0.1", 4001)),
        Address(3, Endpoint("::1", 4001)),
    ]
)
ranges = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted)
numbers = st.sets(st.integers(0, 255)).map(sorted).map(bytes)
calls = st.one_of(
    st.builds(bodies.Root, cuts, st.binary(min_size=32, max_size=32)),
    st.builds(bodies.Buckets, cuts),
    st.builds(bodies.List, cuts, numbers),
    st.builds(bodies.Get, st.lists(digests, max_size=9)),
    st.builds(lambda cut, both: bodies.Pull(cut, *both), cuts, ranges),
    st.builds(lambda both: bodies.Pulses(*both), ranges),
    st.just(bodies.Whoami()),
    st.builds(bodies.Probe, digests, addresses),
)
items = st.builds(Item, st.binary(min_size=24, max_size=24), st.integers(0, 7))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(calls)
def test_a_call_is_read_as_it_was_meant(call):
    assert bodies.read_call(bodies.pack_call(call)) == call


def test_calls_have_the_bytes_of_the_protocol():
    assert bodies.pack_call(bodies.Root(1_800_000_000 - 120, b"r" * 32)).hex() == (
        "9300ce6b49d188c420" + "72" * 32
    )
    assert bodies.pack_call(bodies.List(5, bytes([1, 255]))).hex() == "930205c40201ff"
    assert bodies.pack_call(Pull(5, 0, 255)).hex() == "94040500ccff"
    assert bodies.pack_call(bodies.Whoami()).hex() == "9107"
    address = Address(0, Endpoint("8.8.4.4", 4001))
    assert bodies.pack_call(bodies.Probe(b"n" * 16, address)).hex() == (
        "9308c410" + "6e" * 16 + "9200c406080804040fa1"
    )


def test_the_largest_calls_and_answers_are_within_their_bounds():
    most = bodies.Get([bytes([n % 256]) * 16 for n in range(512)])
    assert len(bodies.pack_call(most)) <= bodies.MAX_BODY
    assert len(bodies.pack_adverts([bytes(768)] * 512)) <= bodies.MAX_GOT
    assert len(bodies.pack_buckets(bytes(4096))) <= bodies.MAX_SHORT
    full = [bytes(25 * 256)] * 256
    assert len(bodies.pack_list(full)) <= bodies.MAX_LIST
    assert len(bodies.pack_pulses(bytes(26) * 2 * 65_536)) <= bodies.MAX_PULSES


@pytest.mark.parametrize(
    "call",
    [
        [],
        [0],
        [False, 5, bytes(32)],
        [0, 5, bytes(31)],
        [0, -1, bytes(32)],
        [0, True, bytes(32)],
        [0, 2**40, bytes(32)],
        [0, 5, bytes(32), 0],
        [1, "5"],
        [2, 5, bytes([1, 1])],
        [2, 5, bytes([2, 1])],
        [3, [bytes(16)] * 513],
        [3, [bytes(15)]],
        [3, [5]],
        [4, 5, 3, 2],
        [4, 5, 0, 256],
        [4, 5, -1, 2],
        [4, 5, False, 2],
        [5, 0],
        [7, 0],
        [8, bytes(15), [0, bytes(6)]],
        [8, bytes(16), [0, b"\x08\x08\x04\x04\0\0"]],
        [8, bytes(16), [4, b"\x08\x08\x04\x04\x0f\xa1"]],
        {0: 1},
        b"",
        None,
    ],
)
def test_what_breaks_a_rule_is_no_call(call):
    with pytest.raises(CodecError):
        bodies.read_call(codec.pack(call))


@pytest.mark.parametrize("kind", [6, 9, 32, 10**9, -1])
def test_a_call_of_another_kind_is_told_apart(kind):
    assert bodies.read_call(codec.pack([kind, b"whatever"])) is None


@given(st.binary(max_size=60) | values.map(codec.pack))
def test_junk_is_read_or_refused_by_every_reader(junk):
    readers = [
        bodies.read_call,
        bodies.read_cast,
        bodies.read_done,
        bodies.read_rooted,
        bodies.read_buckets,
        lambda body: bodies.read_list(body, b"\x00"),
        bodies.read_adverts,
        lambda body: bodies.read_pulled(body, Pull(0, 0, 255)),
        bodies.read_pulses,
        bodies.read_seen,
    ]
    for read in readers:
        with suppress(CodecError, Rejected):
            read(junk)


@given(calls, st.data())
def test_a_call_with_a_changed_byte_is_another_or_none(call, data):
    body = bytearray(bodies.pack_call(call))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    with suppress(CodecError):
        assert bodies.read_call(bytes(body)) != call


# --- answers ---


@given(st.lists(st.lists(items, max_size=4), max_size=4))
def test_lists_are_read_as_they_were_meant(buckets):
    asked = bytes(range(len(buckets)))
    packed = [b"".join(map(bodies.pack_item, items)) for items in buckets]
    assert bodies.read_list(bodies.pack_list(packed), asked) == buckets


def test_answers_are_read_as_they_were_meant():
    rooted = Rooted(9, b"r" * 32, 7)
    assert bodies.read_rooted(bodies.pack_rooted(rooted)) == rooted
    assert bodies.read_buckets(bodies.pack_buckets(bytes(4096))) == bytes(4096)
    assert bodies.read_adverts(bodies.pack_adverts([b"a", b"b"])) == [b"a", b"b"]
    pulled = Pulled(4, [b"a"])
    assert bodies.read_pulled(bodies.pack_pulled(pulled), Pull(0, 3, 200)) == pulled
    assert bodies.read_pulses(bodies.pack_pulses(bytes(52))) == bytes(52)
    address = Address(1, Endpoint("2001:4860::8888", 9))
    assert bodies.read_seen(bodies.pack_seen(address)) == address
    assert bodies.read_done(bodies.pack_done()) is None


@pytest.mark.parametrize("code", list(Refusal))
def test_a_refusal_is_raised_by_every_reader_of_answers(code):
    refusal = bodies.pack_refusal(code)
    for read in (bodies.read_done, bodies.read_rooted, bodies.read_adverts, bodies.read_seen):
        with pytest.raises(Rejected) as caught:
            read(refusal)
        assert caught.value.args == (code,)


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (bodies.read_done, [0, 1]),
        (bodies.read_done, [False]),
        (bodies.read_done, [2]),
        (bodies.read_rooted, [0, 65_537, bytes(32), 0]),
        (bodies.read_rooted, [0, -1, bytes(32), 0]),
        (bodies.read_rooted, [0, 1, bytes(31), 0]),
        (bodies.read_rooted, [0, True, bytes(32), 0]),
        (bodies.read_buckets, [0, bytes(4095)]),
        (lambda body: bodies.read_list(body, b"\0\1"), [0, [b""]]),
        (lambda body: bodies.read_list(body, b"\0"), [0, [bytes(24)]]),
        (lambda body: bodies.read_list(body, b"\0"), [0, [bytes(24) + b"\x08"]]),
        (lambda body: bodies.read_list(body, b"\0"), [0, [5]]),
        (bodies.read_adverts, [0, [b""] * 513]),
        (bodies.read_adverts, [0, [1]]),
        (lambda body: bodies.read_pulled(body, Pull(0, 3, 9)), [0, 3, []]),
        (lambda body: bodies.read_pulled(body, Pull(0, 3, 9)), [0, 11, []]),
        (lambda body: bodies.read_pulled(body, Pull(0, 0, 9)), [0, True, []]),
        (bodies.read_pulses, [0, bytes(27)]),
        (bodies.read_seen, [0, [0, bytes(5)]]),
    ],
)
def test_what_breaks_a_rule_is_no_answer(read, answer):
    with pytest.raises(CodecError):
        read(codec.pack(answer))
