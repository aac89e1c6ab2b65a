"""Messages between asker and worker: to the byte, both ways, and nothing else gets through."""

import json
from contextlib import suppress
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import protocol
from inference.protocol import (
    Billed,
    Chunk,
    Evidence,
    Kind,
    Need,
    Offer,
    Pay,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    Scored,
    Tick,
    Vectors,
    Want,
    Work,
)
from ledger.tariff import MAX_PRICE, Prices
from p2p.errors import BadSignature, CodecError, RemoteError
from p2p.identity import Identity

VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("messages.json").read_text())
WORKER = Identity(b"w" * 32)
OTHER = Identity(b"o" * 32)

WANT = Want(
    work=Work.CHAT,
    identity=bytes(range(32)),
    nonce=bytes(range(16)),
    needs=Need.LOGPROBS,
    size_class=6,
    max_tokens=256,
)
OFFER = Offer(
    want=sha256(WANT.encode()).digest(),
    identity=bytes(range(32)),
    numerics=b"numerics",
    prices=Prices(),
    ahead=1,
    wait_s=3,
    context=8_192,
    prompt_rate=450,
    answer_rate=140,
    nonce=b"n" * 16,
)
EXAMPLES = {
    "want": WANT,
    "pay": Pay(b"spend"),
    "prompt": Prompt(
        nonce=bytes(range(16)),
        date=20_780,
        deadline_ms=270_750,
        settings={0: 256, 1: 800, 2: 950, 3: 40, 4: 0, 5: 0, 6: -100, 7: 0},
        body=b'{"messages":[{"content":"hi","role":"user"}]}',
    ),
    "tick": Tick(7, b"x" * 32),
    "chunk": Chunk(first=5, ids=(1, 49_151), text=" moth\u00e9", channel=1),
    "chunk_logprobs": Chunk(
        first=0,
        ids=(17, 18),
        text="ab",
        logprobs=(105, 65_535),
        top=(((17, 105), (3, 2_000)), ((9, 1), (18, 65_535))),
        texts=((b"a", b"a", b" b"), (b"", b"\xe2\x82", b"\n")),
    ),
    "progress": Progress(prompt=900, cached=12, done=512),
    "receipt": Billed(receipt=b"r" * 300, numerics=b"numerics"),
    "refusal": Refusal(Refuse.TOO_LONG, 8_192),
    "evidence": Evidence(b"quote"),
    "vectors": Vectors(0, bytes(16)),
    "scored": Scored(3, bytes(6)),
}
FROM_ASKER = ("want", "pay", "prompt", "tick")


def read(name, message):
    return (protocol.read_asker if name in FROM_ASKER else protocol.read_worker)(message)


@pytest.mark.parametrize("name", EXAMPLES)
def test_messages_to_the_byte(name):
    recorded = bytes.fromhex(VECTORS[name])
    assert EXAMPLES[name].encode() == recorded
    assert read(name, recorded) == EXAMPLES[name]


def test_an_offer_to_the_byte():
    recorded = bytes.fromhex(VECTORS["offer"])
    assert OFFER.sign(WORKER) == recorded
    assert protocol.read_offer(recorded, WORKER.public, WANT.encode()) == OFFER
    assert protocol.session_of(recorded) == sha256(recorded).digest()


def test_vectors_are_what_msgpack_alone_makes_of_the_fields():
    assert bytes.fromhex(VECTORS["tick"]) == msgpack.packb([4, 7, b"x" * 32])
    assert bytes.fromhex(VECTORS["chunk"]) == msgpack.packb(
        [5, 5, b"\x01\x00\x00\xff\xbf\x00", " moth\u00e9".encode(), 1, None, None, None]
    )
    assert bytes.fromhex(VECTORS["want"]) == msgpack.packb(
        [0, 1, 0, bytes(range(32)), bytes(range(16)), 16, 6, 256, [], 0]
    )
    body = msgpack.packb(
        [
            *(1, 1, OFFER.want, OFFER.identity, b"numerics", [0] * 4, 0, 0, 0, [], 1, 3),
            *(8_192, 450, 140, 0, None, 20, b"n" * 16),
        ]
    )
    assert bytes.fromhex(VECTORS["offer"]) == body + WORKER.sign(b"tussah/offer/1\0" + body)


# --- round trips ---

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
b8, b16, b32 = (st.binary(min_size=size, max_size=size) for size in (8, 16, 32))
u31 = st.integers(0, 2**31 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.lists(st.integers(0, 2**24 - 1), max_size=20).map(tuple)


@st.composite
def chunks(draw):
    taken = draw(ids)
    each = {"min_size": len(taken), "max_size": len(taken)}
    width = draw(st.integers(0, 3))
    row = st.lists(st.tuples(st.integers(0, 2**24 - 1), u16), min_size=width, max_size=width)
    top = draw(st.none() | st.lists(row.map(tuple), **each).map(tuple))
    rows = st.lists(st.binary(max_size=9), min_size=1 + width, max_size=1 + width).map(tuple)
    return Chunk(
        first=draw(st.integers(0, 10**6)),
        ids=taken,
        text=draw(text),
        channel=draw(st.integers(0, 2)),
        logprobs=draw(st.none() | st.lists(u16, **each).map(tuple)),
        top=top,
        texts=None if top is None else draw(st.lists(rows, **each).map(tuple)),
    )


messages = {
    "want": st.builds(
        Want,
        work=st.sampled_from(Work),
        identity=b32,
        nonce=b16,
        needs=u16.map(Need),
        size_class=st.integers(0, 31),
        max_tokens=u31,
        mints=st.lists(b32, max_size=4).map(tuple),
        rate=u8,
    ),
    "pay": st.builds(Pay, st.binary(max_size=200)),
    "prompt": st.builds(
        Prompt,
        nonce=b16,
        date=st.none() | u16,
        deadline_ms=u32,
        settings=st.dictionaries(st.integers(0, 40), st.integers(-(2**31), 2**31), max_size=16),
        body=st.binary(max_size=300),
    ),
    "tick": st.builds(Tick, u16, b32),
    "chunk": chunks(),
    "progress": st.tuples(u16, u16, u16).map(
        lambda n: Progress(prompt=n[0], cached=n[1], done=min(n[2], n[0] + n[1]))
    ),
    "receipt": st.builds(Billed, receipt=st.binary(max_size=400), numerics=b8),
    "refusal": st.builds(Refusal, st.sampled_from(Refuse), u32),
    "evidence": st.builds(Evidence, st.binary(max_size=200)),
    "vectors": st.builds(Vectors, u32, st.binary(max_size=8).map(lambda b: b * 4)),
    "scored": st.builds(Scored, u32, st.binary(max_size=8).map(lambda b: b * 2)),
}


@given(st.data())
@pytest.mark.parametrize("name", messages)
def test_round_trip(name, data):
    message = data.draw(messages[name])
    assert read(name, message.encode()) == message


@given(
    st.builds(
        Offer,
        want=st.just(OFFER.want),
        identity=b32,
        numerics=b8,
        prices=st.builds(Prices, *[st.integers(0, MAX_PRICE)] * 4),
        tick_tokens=u16,
        step_ticks=u16,
        tick=st.integers(0, 2**63 - 1),
        mints=st.lists(b32, max_size=4).map(tuple),
        ahead=u8,
        wait_s=u16,
        context=u32,
        prompt_rate=u16,
        answer_rate=u16,
        assurance=u8,
        evidence=st.none() | b32,
        valid_s=u16,
        nonce=b16,
    )
)
def test_round_trip_of_offers_within_the_circuits_reply(offer):
    signed = offer.sign(WORKER)
    assert protocol.read_offer(signed, WORKER.public, WANT.encode()) == offer
    assert len(protocol.PLAIN + signed) <= 960


# --- what is refused ---


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_truncation_and_extension_is_refused(name):
    message = EXAMPLES[name].encode()
    for size in range(len(message)):
        with pytest.raises(CodecError):
            read(name, message[:size])
    with pytest.raises(CodecError):
        read(name, message + b"\0")


@given(st.data())
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_changed_byte_is_another_message_or_none(name, data):
    message = bytearray(EXAMPLES[name].encode())
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = read(name, bytes(message))
    except CodecError:
        return
    assert changed.encode() == bytes(message)


@given(st.binary(max_size=80))
def test_noise_raises_nothing_but_a_peers_fault(data):
    for reader in (protocol.read_asker, protocol.read_worker, protocol.read_request):
        with suppress(RemoteError):
            reader(data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_the_right_side_may_say_it(name):
    if name == "pay":
        return
    other = protocol.read_worker if name in FROM_ASKER else protocol.read_asker
    with pytest.raises(CodecError):
        other(EXAMPLES[name].encode())


def raw(*items):
    return msgpack.packb(list(items))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x90",
        b"\xc0",
        b"\x81\x00\x00",
        raw(99, 1),
        raw(12),
        raw(-1),
        raw(True, 7, b"x" * 32),
        raw("4", 7, b"x" * 32),
        raw(4, 7),
        raw(4, 7, b"x" * 32, 0),
        raw(4, 2**16, b"x" * 32),
        raw(4, -1, b"x" * 32),
        raw(4, True, b"x" * 32),
        raw(4, 7, b"x" * 31),
        raw(4, 7, "x" * 32),
        b"\x93\x04\xcc\x07\xc4\x20" + b"x" * 32,  # 7 in two bytes
        b"\xdc\x00\x03\x04\x07\xc4\x20" + b"x" * 32,  # an array header longer than needed
        raw(0, 2, 0, b"i" * 32, b"n" * 16, 0, 0, 1, [], 0),  # version
        raw(0, 1, 4, b"i" * 32, b"n" * 16, 0, 0, 1, [], 0),  # work
        raw(0, 1, 0, b"i" * 32, b"n" * 16, 0, 32, 1, [], 0),  # size class
        raw(0, 1, 0, b"i" * 32, b"n" * 16, 0, 0, 2**31, [], 0),
        raw(0, 1, 0, b"i" * 32, b"n" * 16, 0, 0, 1, [b"m" * 32] * 5, 0),
        raw(0, 1, 0, b"i" * 32, b"n" * 16, 0, 0, 1, None, 0),
        raw(3, b"n" * 16, None, 1, [], b""),
        raw(3, b"n" * 16, None, 1, {"a": 1}, b""),
        raw(3, b"n" * 16, None, 1, {1: b""}, b""),
        raw(3, b"n" * 16, None, 1, {1: 2.5}, b""),
        raw(3, b"n" * 16, None, 1, dict.fromkeys(range(17), 0), b""),
        raw(3, b"n" * 16, None, 1, {}, "text"),
    ],
)
def test_an_asker_may_not_say(message):
    with pytest.raises(CodecError):
        protocol.read_asker(message)


@pytest.mark.parametrize(
    "message",
    [
        raw(1, 1),
        raw(5, 0, b"\x01\x02", b"", 0, None, None),
        raw(5, 0, bytes(3 * 257), b"", 0, None, None),
        raw(5, 2**32 - 1, bytes(3), b"", 0, None, None),
        raw(5, 0, b"", b"\xff", 0, None, None),
        raw(5, 0, b"", b"\xed\xa0\x80", 0, None, None),
        raw(5, 0, b"", "text", 0, None, None),
        raw(5, 0, b"", b"", 3, None, None),
        raw(5, 0, bytes(3), b"", 0, b"\0", None),
        raw(5, 0, bytes(3), b"", 0, None, bytes(4)),
        raw(5, 0, bytes(3), b"", 0, None, bytes(5 * 21)),
        raw(5, 0, b"", b"", 0, None, bytes(5)),
        raw(6, 1, 1, 3),
        raw(7, b"", b"short"),
        raw(8, 0, 0),
        raw(8, 14, 0),
        raw(8, 1, 2**32),
        raw(10, 0, bytes(3)),
        raw(11, 0, bytes(3)),
    ],
)
def test_a_worker_may_not_say(message):
    with pytest.raises(CodecError):
        protocol.read_worker(message)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda n: Pay(bytes(n)), 8_197),
        (lambda n: replace(EXAMPLES["prompt"], body=bytes(n)), 4 * 2**20),
        (lambda n: Chunk(first=0, ids=(1,), text="x" * n), 1_112),
        (lambda n: Billed(receipt=bytes(n), numerics=bytes(8)), 700),
        (lambda n: Evidence(bytes(n)), 2**16),
        (lambda n: Vectors(0, bytes(n // 4 * 4)), 2**16),
        (lambda n: Scored(0, bytes(n // 2 * 2)), 2**16),
    ],
)
def test_each_kind_has_its_own_longest(make, limit):
    fits = limit - len(make(limit).encode()) + limit
    name = "pay" if isinstance(make(0), Pay | Prompt) else "chunk"
    assert read(name, make(fits).encode())
    with pytest.raises(CodecError):
        read(name, make(fits + 4).encode())


def test_a_want_of_every_mint_fits_the_circuits_request():
    most = replace(
        WANT, mints=(b"m" * 32,) * 4, needs=Need(2**16 - 1), max_tokens=2**31 - 1, rate=255
    )
    assert len(protocol.PLAIN + most.encode()) <= 512
    assert protocol.read_request(protocol.PLAIN + most.encode()) == most


@pytest.mark.parametrize(
    "request_", [b"", b"\x01" + WANT.encode(), b"\0" + Tick(1, b"x" * 32).encode(), WANT.encode()]
)
def test_a_circuits_request_is_a_want_behind_a_zero(request_):
    with pytest.raises(CodecError):
        protocol.read_request(request_)


# --- offers ---


def test_an_offer_of_another_worker_or_for_another_want_is_none():
    with pytest.raises(BadSignature):
        protocol.read_offer(OFFER.sign(OTHER), WORKER.public, WANT.encode())
    other_want = replace(WANT, nonce=b"x" * 16).encode()
    with pytest.raises(BadSignature):
        protocol.read_offer(OFFER.sign(WORKER), WORKER.public, other_want)


@given(st.data())
def test_a_changed_offer_is_none(data):
    signed = bytearray(OFFER.sign(WORKER))
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteError):
        protocol.read_offer(bytes(signed), WORKER.public, WANT.encode())


def test_a_truncated_offer_is_none():
    signed = OFFER.sign(WORKER)
    for size in range(len(signed)):
        with pytest.raises(RemoteError):
            protocol.read_offer(signed[:size], WORKER.public, WANT.encode())


@pytest.mark.parametrize(
    "change",
    [{5: [0] * 3}, {5: [0, 0, 0, MAX_PRICE + 1]}, {17: 2**16}, {16: b"short"}, {1: 2}, {0: 0}],
)
def test_an_offer_with_a_field_out_of_bounds_is_none(change):
    items = msgpack.unpackb(OFFER.sign(WORKER)[:-64])
    for at, value in change.items():
        items[at] = value
    body = msgpack.packb(items)
    with pytest.raises(CodecError):
        protocol.read_offer(
            body + WORKER.sign(b"tussah/offer/1\0" + body), WORKER.public, WANT.encode()
        )


# --- small numbers ---


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 0), (1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (12, 2), (13, 3), (3_072, 10), (3_073, 11)],
)
def test_size_class_is_the_ceiling_of_log2_of_a_third(size, expected):
    assert protocol.size_class(bytes(size)) == expected


def test_nonce_of_a_seed():
    assert protocol.nonce_of_seed(7).hex() == VECTORS["nonce_of_seed_7"]
    assert protocol.nonce_of_seed(-1) != protocol.nonce_of_seed(1)


@pytest.mark.parametrize(
    ("natural", "wire"), [(0.0, 0), (-0.1054, 105), (-70.0, 65_535), (float("-inf"), 65_535)]
)
def test_logprobs_travel_as_thousandths(natural, wire):
    assert protocol.logprob(natural) == wire


def test_nothing_in_a_want_or_prompt_can_name_the_asker():
    """The fields are these and no other: a new one is a decision about privacy."""
    assert [field.name for field in fields(Want)] == [
        *("work", "identity", "nonce", "needs", "size_class", "max_tokens", "mints", "rate")
    ]
    assert [field.name for field in fields(Prompt)] == [
        *("nonce", "date", "deadline_ms", "settings", "body")
    ]
    assert len(Kind) == 12
