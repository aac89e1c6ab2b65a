"""Adverts: every field within its bounds, every rule with a test that breaks it."""

from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec, defaults
from p2p.errors import AdvertError
from p2p.identity import SIGNATURE_SIZE, Identity
from p2p.overlay import advert
from p2p.overlay.advert import (
    DOMAIN,
    Anchors,
    Capacity,
    Fields,
    Model,
    OnionKey,
    Prices,
    Role,
    Rules,
)
from p2p.wire import Endpoint

NOW = 1_800_000_000.5
ISSUED = 1_800_000_000
DAY = ISSUED // 86_400
IDENTITY = Identity(bytes(range(32)))
DEV = Rules(network=7, dev=True)
OPEN = Rules(network=7)

ONION = OnionKey(DAY, b"k" * 32)
IPV4 = Endpoint("8.8.4.4", 4001)
IPV6 = Endpoint("2001:4860:4860::8888", 4001)

RELAY = Fields(roles=Role.RELAY | Role.DIALABLE, addresses=(IPV4,), onion=ONION)
MODEL = Model(
    identity=b"m" * 32,
    quant=3,
    context=8_192,
    prompt_rate=320,
    answer_rate=40,
    slots=1,
    prices=Prices(5, 7),
)
WORKER = Fields(
    roles=Role.WORKER,
    onion=ONION,
    attachments=tuple(bytes([i]) * 32 for i in range(3)),
    models=(MODEL,),
)
SPARE_WORK = b"12345678"


def body_of(fields=RELAY, rules=DEV):
    buffer = advert.build(IDENTITY, fields, NOW, rules)
    return codec.unpack(buffer[:-SIGNATURE_SIZE], defaults.MAX_ADVERT)


def signed(body, identity=IDENTITY):
    packed = codec.pack(body)
    return packed + identity.sign(DOMAIN + packed)


def changed(changes, fields=RELAY, rules=DEV):
    """An advert whose body was changed before it was signed: honest but for that."""
    body = {**body_of(fields, rules), **changes}
    return signed({key: value for key, value in body.items() if value is not ...})


def model_with(index, value):
    (items,) = body_of(WORKER)[12]
    return {12: [[*items[:index], value, *items[index + 1 :]]]}


# --- round trip ---

endpoints = st.sampled_from([IPV4, IPV6, Endpoint("127.0.0.1", 1), Endpoint("::1", 65_535)])
hashes = st.binary(min_size=32, max_size=32)
halves = st.binary(min_size=16, max_size=16)
rates = st.integers(0, 65_535).map(advert.three_bits)
labels = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=32)
prices = st.integers(0, 10**15)
models = st.builds(
    Model,
    identity=hashes,
    quant=st.integers(0, 255),
    context=st.integers(0, 2**32 - 1),
    prompt_rate=rates,
    answer_rate=rates,
    slots=st.integers(0, 255),
    prices=st.builds(Prices, prices, prices),
    flags=st.integers(0, 65_535),
    assurance=st.integers(0, 2),
    label=labels,
)


@st.composite
def all_fields(draw):
    addresses = draw(st.lists(endpoints, max_size=2, unique=True))
    udp = draw(st.lists(endpoints, max_size=1))
    roles = Role(draw(st.integers(0, 65_535)))
    reach = Role.DIALABLE if addresses or udp else Role(0)
    roles = roles & ~Role.DIALABLE | reach
    attached = draw(st.lists(hashes, min_size=0 if reach else 1, max_size=3, unique=True))
    return Fields(
        roles=roles,
        network=DEV.network,
        seq=draw(st.integers(1, 2**64 - 1)),
        life=draw(st.integers(10, 1_500)),
        addresses=tuple(addresses),
        udp=tuple(udp),
        onion=OnionKey(draw(st.integers(0, 2**32 - 1)), draw(hashes)),
        operator=draw(st.none() | hashes),
        attachments=tuple(attached),
        models=tuple(draw(st.lists(models, max_size=1))),
        anchors=draw(st.none() | st.builds(Anchors, halves, halves)),
        capacity=draw(st.none() | st.builds(Capacity, st.integers(0, 255), st.integers(0, 3))),
        mint=draw(st.none() | hashes),
        work=draw(st.none() | st.binary(min_size=8, max_size=8)),
        crowd=draw(st.none() | st.integers(0, 255)),
        request_cap=draw(st.none() | st.integers(0, 65_535)),
    )


@given(all_fields())
def test_an_advert_says_what_its_node_said(fields):
    buffer = advert.build(IDENTITY, fields, NOW, DEV)
    read = advert.parse(buffer, NOW, DEV)
    assert read.fields == fields
    assert (read.id, read.public, read.issued) == (IDENTITY.id, IDENTITY.public, ISSUED)
    assert read.buffer == buffer
    assert read.digest == sha256(buffer).digest()[:16]
    assert read.expires == ISSUED + fields.life


@given(all_fields(), st.data())
def test_a_changed_bit_is_refused(fields, data):
    buffer = bytearray(advert.build(IDENTITY, fields, NOW, DEV))
    bit = data.draw(st.integers(0, 8 * len(buffer) - 1))
    buffer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AdvertError):
        advert.parse(bytes(buffer), NOW, DEV)


@given(st.binary(max_size=800))
def test_random_bytes_are_refused(data):
    with pytest.raises(AdvertError):
        advert.parse(data, NOW, DEV)


any_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | labels,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.sampled_from([*range(9), *range(10, 19)]), any_value)
def test_any_value_of_any_key_is_read_or_refused_by_name(key, value):
    with suppress(AdvertError):
        read = advert.parse(changed({key: value}, WORKER), NOW, DEV)
        assert read.public == (value if key == 2 else IDENTITY.public)


def test_unknown_keys_are_kept():
    buffer = changed({19: [1, 2], 4_000: b"later"})
    assert advert.parse(buffer, NOW, DEV).buffer == buffer


# --- a refusing test for each bound ---


def refused(buffer, why, rules=DEV, now=NOW):
    with pytest.raises(AdvertError, match=why):
        advert.parse(buffer, now, rules)


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("version", {0: 2}),
        ("version", {0: ...}),
        ("version", {0: True}),
        ("network", {1: 8}),
        ("network", {1: 2**31}),
        ("network", {1: ...}),
        ("public key", {2: b"p" * 31}),
        ("public key", {2: ...}),
        ("seq", {3: -1}),
        ("seq", {3: ...}),
        ("issued", {4: -1}),
        ("issued", {4: 2**32}),
        ("issued", {4: ...}),
        ("life", {5: 9}),
        ("life", {5: 1_501}),
        ("life", {5: ...}),
        ("roles", {6: 2**16}),
        ("roles", {6: ...}),
        ("roles", {6: "relay"}),
        ("addresses", {7: [[2, b"\x01\x01\x01\x01\x0f\xa1"]] * 5}),
        ("addresses", {7: b"here"}),
        ("address", {7: [[4, b"\x01\x01\x01\x01\x0f\xa1"]]}),
        ("address", {7: [[2, b"\x01\x01\x01\x01\x0f"]]}),
        ("address", {7: [[3, b"\x01\x01\x01\x01\x0f\xa1"]]}),
        ("address", {7: [[2, bytes(4) + b"\x0f\xa1"]]}),
        ("address", {7: [[2, b"\x01\x01\x01\x01\0\0"]]}),
        ("address", {7: [[2, b"\xe0\0\0\x01\x0f\xa1"]]}),
        ("address", {7: [[3, bytes(10) + b"\xff\xff\x01\x01\x01\x01\x0f\xa1"]]}),
        ("address", {7: [[2]]}),
        ("addresses are there if dialable", {7: []}),
        ("addresses are there if dialable", {6: 1}),
        ("no way to reach it", {6: 1, 7: []}),
        ("onion key", {8: ...}),
        ("onion key", {8: [DAY, b"k" * 31]}),
        ("onion key", {8: [-1, b"k" * 32]}),
        ("onion key", {8: [DAY]}),
        ("operator", {10: b"o" * 33}),
        ("attachments", {11: [bytes([i]) * 32 for i in range(4)]}),
        ("attachments", {11: [b"a" * 31]}),
        ("attachments", {11: [b"a" * 32, b"a" * 32]}),
        ("models", {12: {}}),
        ("models", {12: [[]] * 5}),
        ("model", {12: [[]]}),
        ("pulse anchors", {13: b"p" * 31}),
        ("pulse anchors", {13: b"p" * 33}),
        ("pulse anchors", {13: [b"p" * 16, b"p" * 16]}),
        ("capacity", {14: [256, 0]}),
        ("capacity", {14: [1, 4]}),
        ("capacity", {14: [1]}),
        ("mint", {15: b"m" * 31}),
        ("work", {16: b"w" * 7}),
        ("crowd", {17: 256}),
        ("request cap", {18: 2**16}),
    ],
)
def test_each_field_has_its_bounds(why, changes):
    refused(changed(changes), why)


@pytest.mark.parametrize(
    ("why", "index", "value"),
    [
        ("model identity", 0, b"m" * 31),
        ("model quant", 1, 256),
        ("model context", 2, 2**32),
        ("model rate", 3, 65_536),
        ("model rate", 3, 9),
        ("model rate", 4, 321),
        ("model slots", 5, 256),
        ("model prices", 6, [5]),
        ("model prices", 6, [5, 10**15 + 1]),
        ("model prices", 6, [-1, 5]),
        ("model flags", 7, 2**16),
        ("model assurance", 8, 3),
        ("model assurance", 8, True),
    ],
)
def test_each_field_of_a_model_has_its_bounds(why, index, value):
    refused(changed(model_with(index, value), WORKER), why)


@pytest.mark.parametrize("label", ["", "x" * 33, "\u00e9" * 17, b"bytes", 5])
def test_a_label_is_short_text(label):
    (items,) = body_of(WORKER)[12]
    refused(changed({12: [[*items, label]]}, WORKER), "model label")


def test_five_models_are_too_many():
    (items,) = body_of(WORKER)[12]
    short = [items[0], *[0] * 5, [0, 0], 0, 0]
    refused(changed({11: [b"a" * 32], 12: [short] * 5}, WORKER), "models")


def test_a_padded_or_doubled_body_is_no_advert():
    body = codec.pack(body_of())
    for other in (body + b"\xc0", b"\xc0" + body, codec.pack([1, 2]), codec.pack({"a": 1})):
        refused(other + IDENTITY.sign(DOMAIN + other), "canonical form")


def test_bytes_shorter_than_a_signature_or_longer_than_a_broadcast_are_no_advert():
    refused(bytes(64), "length")
    refused(bytes(769), "length")


def test_the_signature_is_over_the_domain_and_the_body():
    body = codec.pack(body_of())
    refused(body + IDENTITY.sign(body), "signature")
    refused(body + IDENTITY.sign(b"tussah/pulse/1\0" + body), "signature")
    refused(signed(body_of(), Identity(bytes(32))), "signature")


# --- time ---


def test_a_clock_may_run_ahead_by_a_minute_and_no_more():
    buffer = advert.build(IDENTITY, RELAY, NOW, DEV)
    assert advert.parse(buffer, ISSUED - 60, DEV)
    refused(buffer, "future", now=ISSUED - 60.001)


def test_an_advert_dies_at_the_end_of_its_life():
    buffer = advert.build(IDENTITY, replace(RELAY, life=10), NOW, DEV)
    assert advert.parse(buffer, ISSUED + 9.999, DEV)
    refused(buffer, "expired", now=ISSUED + 10)


@pytest.mark.parametrize(("rules", "lives"), [(DEV, (10, 1_500)), (OPEN, (600, 86_400))])
def test_a_life_is_counted_in_the_epochs_of_the_network(rules, lives):
    assert rules.lives == lives
    work = {16: SPARE_WORK}
    for life in lives:
        assert advert.read(changed({**work, 5: life}, rules=rules), NOW, rules)
    for life in (lives[0] - 1, lives[1] + 1):
        refused(changed({**work, 5: life}, rules=rules), "life", rules)


def test_the_largest_request_has_a_usual_bound():
    assert built(WORKER).request_cap == 4 * 1024 * 1024
    assert built(replace(WORKER, request_cap=100)).request_cap == 102_400


# --- what an open network asks for besides ---


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.1.1", "::1", "fc00::1"]
)
def test_private_addresses_are_for_dev_networks(host):
    fields = replace(RELAY, addresses=(Endpoint(host, 4001),))
    packed = body_of(fields)[7]
    assert advert.parse(changed({}, fields), NOW, DEV).addresses == fields.addresses
    refused(changed({5: 600, 7: packed, 16: SPARE_WORK}, rules=OPEN), "private", OPEN)


def test_an_open_network_asks_for_work_of_the_day():
    life = {5: 3_600}
    refused(changed(life, rules=OPEN), "work", OPEN)
    refused(changed({**life, 16: SPARE_WORK}, rules=OPEN), "work", OPEN)


def test_work_is_found_and_holds_for_its_key_and_day_only():
    nonce = advert.solve(IDENTITY.public, DAY, bits=8)
    assert advert.is_work(IDENTITY.public, DAY, nonce, bits=8)
    assert not advert.is_work(IDENTITY.public, DAY, nonce, bits=30)
    days = [
        day for day in range(DAY + 1, DAY + 40) if advert.is_work(IDENTITY.public, day, nonce, 8)
    ]
    assert len(days) < 5


def test_real_work_makes_an_advert_of_an_open_network(monkeypatch):
    monkeypatch.setattr(advert, "is_work", lambda public, day, nonce: nonce == SPARE_WORK)
    buffer = advert.build(IDENTITY, replace(RELAY, work=SPARE_WORK), NOW, OPEN)
    assert advert.parse(buffer, NOW, OPEN).fields.life == 3_600
    refused(advert.build(IDENTITY, replace(RELAY, work=bytes(8)), NOW, OPEN), "work", OPEN)


# --- building ---


def test_seq_and_life_have_usual_values():
    read = advert.parse(advert.build(IDENTITY, RELAY, NOW, DEV), NOW, DEV)
    assert (read.seq, read.fields.life, read.fields.network) == (ISSUED, 60, 7)


def test_speeds_are_rounded_down_to_three_bits():
    assert [advert.three_bits(rate) for rate in (0, 7, 8, 9, 15, 100, 1_000)] == [
        0, 7, 8, 8, 14, 96, 896,
    ]  # fmt: skip
    model = replace(MODEL, prompt_rate=999, answer_rate=47)
    (read,) = advert.parse(
        advert.build(IDENTITY, replace(WORKER, models=(model,)), NOW, DEV), NOW, DEV
    ).models
    assert (read.prompt_rate, read.answer_rate) == (896, 40)


@pytest.mark.parametrize(
    "fields",
    [
        replace(RELAY, onion=None),
        replace(RELAY, addresses=()),
        replace(RELAY, addresses=(Endpoint("0.0.0.0", 4001),)),
        replace(RELAY, life=5),
        replace(WORKER, attachments=()),
        replace(WORKER, models=(replace(MODEL, slots=256),)),
        replace(WORKER, models=(MODEL,) * 5),
    ],
)
def test_what_nobody_would_take_is_not_built(fields):
    with pytest.raises(ValueError, match=r"nobody|enough"):
        advert.build(IDENTITY, fields, NOW, DEV)


def test_leaving_takes_no_more_than_to_say_so():
    buffer = advert.build(IDENTITY, Fields(roles=Role(0), life=10), NOW, DEV)
    assert advert.parse(buffer, NOW, DEV).roles == 0


def priced(count, label=""):
    return tuple(
        replace(MODEL, identity=bytes([i]) * 32, prices=Prices(10**9, 10**10), label=label)
        for i in range(count)
    )


ALWAYS = {
    "operator": b"o" * 32,
    "anchors": Anchors(b"o" * 16, b"b" * 16),
    "capacity": Capacity(5),
    "work": SPARE_WORK,
}
UDP4, UDP6 = Endpoint("8.8.4.4", 4_001), Endpoint("2001:4860:4860::8888", 4_001)

RELAY_V4 = replace(RELAY, udp=(UDP4,), crowd=3, **ALWAYS)
RELAY_BOTH = replace(RELAY_V4, addresses=(IPV4, IPV6), udp=(UDP4, UDP6))
BEHIND_NAT = replace(WORKER, **ALWAYS)
FULL = replace(
    RELAY_BOTH,
    roles=Role(127),
    mint=b"m" * 32,
    request_cap=4_096,
    models=priced(3, "x" * 22),
)
FULLEST = replace(FULL, attachments=WORKER.attachments, models=priced(4, "x" * 22))


def cheap(fields):
    """With prices of one byte, as the sizes were planned."""
    models = tuple(replace(model, prices=Prices(5, 7)) for model in fields.models)
    return replace(fields, models=models)


@pytest.mark.parametrize(
    ("what", "fields", "most"),
    [
        ("relay, IPv4", RELAY_V4, 274),
        ("relay, both families", RELAY_BOTH, 318),
        ("worker behind a NAT", BEHIND_NAT, 411),
        ("the same, 3 models", replace(BEHIND_NAT, models=priced(3)), 513),
        ("the same, 4 models", replace(BEHIND_NAT, models=priced(4)), 564),
        ("all roles, both families, 3 models with labels", FULL, 583),
        ("the same, 4 models, 3 attachments", FULLEST, 761),
    ],
)
def test_adverts_are_as_small_as_was_planned(what, fields, most):
    buffer = advert.build(IDENTITY, cheap(fields), NOW, DEV)
    assert len(buffer) <= most
    assert advert.parse(buffer, NOW, DEV).models == cheap(fields).models


def built(fields):
    return advert.parse(advert.build(IDENTITY, fields, NOW, DEV), NOW, DEV)


def test_too_long_an_advert_loses_its_labels_first():
    four = built(replace(FULLEST, models=priced(4, "y" * 32)))
    assert [model.label for model in four.models] == [""] * 4
    assert len(four.buffer) > 650


def test_too_long_an_advert_loses_its_last_models_next(monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERT", 600)
    fewer = built(replace(FULLEST, models=priced(4, "y" * 32)))
    assert [model.identity[0] for model in fewer.models] == [0, 1]
    assert [model.label for model in fewer.models] == [""] * 2
    monkeypatch.setattr(defaults, "MAX_ADVERT", 400)
    with pytest.raises(ValueError, match="enough"):
        built(FULLEST)
