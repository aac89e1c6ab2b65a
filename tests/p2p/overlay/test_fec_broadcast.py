"""Broadcasts in parts: the bytes of TON, each rule with a test that breaks it, and few copies."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core.tl.generator import TlGenerator

from p2p import tl
from p2p.entropy import sample, seeded
from p2p.identity import AdnlId, Identity, short_id
from p2p.overlay import fec_broadcast, fec_part
from p2p.overlay.broadcast import Admission, Broadcast
from p2p.overlay.fec_broadcast import FecBroadcasts, Part, Reply
from p2p.overlay.fec_part import MAX_DATA, Fate, parts_of
from p2p.rldp.fec import Encoder, limit_of
from p2p.ton import (
    FecRaptorQ,
    OverlayBroadcastFec,
    OverlayBroadcastFecShort,
    OverlayCertificate,
    OverlayCertificateId,
    OverlayFecCompleted,
    OverlayFecReceived,
    PubAes,
    PubEd25519,
)

NOW = 1_800_000_000.0
OVERLAY = b"o" * 32
SOURCE, ISSUER, STRANGER = (Identity(bytes([seed]) * 32) for seed in range(3))
PEER, OTHER = AdnlId(b"p" * 32), AdnlId(b"q" * 32)
DATA = seeded(1).token(5_000)
OPEN = Admission(open_size=MAX_DATA)


@pytest.fixture
def node():
    return FecBroadcasts(OVERLAY, OPEN)


@pytest.fixture(scope="module")
def judge():
    return TlGenerator.with_default_schemas().generate()


def said(node, data=DATA, identity=SOURCE, now=NOW):
    """All parts of a broadcast that a node starts."""
    node.start(now, identity, data)
    parts = []
    while (when := node.next_deadline()) is not None:
        node.handle_timer(when)
        parts += [output for output in node.drain() if isinstance(output, Part)]
    return parts


def full(data=DATA, **how):
    """The parts of a broadcast, parsed."""
    parts = said(FecBroadcasts(OVERLAY, OPEN), data, **how)
    return [tl.parse(OverlayBroadcastFec, part.full) for part in parts]


def short(data=DATA):
    parts = said(FecBroadcasts(OVERLAY, OPEN), data)
    return [tl.parse(OverlayBroadcastFecShort, part.short) for part in parts]


def fates(node):
    return {fate: count for fate, count in node.statistics().items() if count}


def whole(node, parts, peer=PEER, now=NOW):
    """The broadcasts that are whole with these parts."""
    arrived = [node.take(now, peer, part) for part in parts]
    return [one for one in arrived if one is not None]


def resigned(part, identity=SOURCE, **changes):
    """A part that was changed before it was signed: honest but for that."""
    part = replace(part, **changes)
    size = part.data_size
    about = fec_part.subject(part.src, part.data_hash, size, part.flags, part.date)
    claim = fec_part.claim(about, sha256(part.data).digest(), part.seqno)
    return replace(part, signature=identity.sign(claim))


# --- bytes: an independent judge ---


@pytest.mark.parametrize("flags", [0, 1])
def test_what_is_signed_is_what_pytoniq_core_would_hash(judge, flags):
    symbol = Encoder(DATA).symbol(3)
    source = sha256(judge.serialize("pub.ed25519", {"key": SOURCE.public.hex()})).hexdigest()
    fec = {"data_size": 5_000, "symbol_size": 768, "symbols_count": 7}
    of = {
        "src": bytes(32).hex() if flags else source,
        "type": sha256(judge.serialize("fec.raptorQ", fec)).hexdigest(),
        "data_hash": sha256(DATA).hexdigest(),
        "size": 5_000,
        "flags": flags,
    }
    broadcast = sha256(judge.serialize("overlay.broadcastFec.id", of))
    part = {
        "broadcast_hash": broadcast.hexdigest(),
        "data_hash": sha256(symbol).hexdigest(),
        "seqno": 3,
    }
    part_id = sha256(judge.serialize("overlay.broadcastFec.partId", part)).hexdigest()
    signed = judge.serialize("overlay.broadcast.toSign", {"hash": part_id, "date": int(NOW)})

    digest = sha256(DATA).digest()
    about = fec_part.subject(PubEd25519(SOURCE.public), digest, 5_000, flags, int(NOW))
    assert about.id == broadcast.digest()
    assert fec_part.claim(about, sha256(symbol).digest(), 3) == signed


def test_parts_are_what_pytoniq_core_reads(judge):
    for part in said(FecBroadcasts(OVERLAY, OPEN))[:2]:
        read, _ = judge.deserialize(part.full)
        assert read["@type"] == "overlay.broadcastFec"
        assert read["fec"]["symbols_count"] == 7
        read, _ = judge.deserialize(part.short)
        assert read["@type"] == "overlay.broadcastFecShort"


# --- from one node to another ---


@pytest.mark.parametrize("size", [1, 767, 768, 769, 5_000, 300_080])
def test_half_of_the_parts_are_enough(node, size):
    data = seeded(size).token(size)
    parts = full(data)
    assert len(parts) == parts_of(size) == 2 * (size // 768 + 1)
    kept = sample(seeded(3), parts, len(parts) // 2 + 2)
    (arrived,) = whole(node, kept)
    assert (arrived.data, arrived.source) == (data, SOURCE.public)


@pytest.mark.slow
def test_a_mebibyte_arrives(node):
    data = seeded(9).token(MAX_DATA)
    (arrived,) = whole(node, full(data)[700:2_300])
    assert arrived.data == data


def test_source_sends_four_parts_each_ten_milliseconds(node):
    node.start(NOW, SOURCE, DATA)
    times = []
    while (when := node.next_deadline()) is not None:
        node.handle_timer(when)
        times += [when] * len(node.drain())
    assert times == pytest.approx([NOW + 0.01 * (n // 4) for n in range(14)])


@pytest.mark.parametrize("size", [0, MAX_DATA + 1])
def test_what_is_too_long_or_nothing_is_refused(node, size):
    with pytest.raises(ValueError, match="1 MiB"):
        node.start(NOW, SOURCE, bytes(size))


def test_same_data_is_not_sent_twice_within_a_minute(node):
    assert node.start(NOW, SOURCE, DATA) is not None
    assert node.start(NOW + 30, SOURCE, DATA) is None
    assert node.start(NOW + 200, SOURCE, DATA) is not None


def test_own_parts_that_come_back_are_no_news(node):
    parts = said(node)
    assert whole(node, [tl.parse(OverlayBroadcastFec, part.full) for part in parts]) == []
    assert fates(node) == {Fate.KNOWN: len(parts)}


def test_parts_are_passed_on_once_the_application_accepts_and_never_before(node):
    parts = full()
    (arrived,) = whole(node, parts[:8])
    assert [output for output in node.drain() if isinstance(output, Part)] == []
    node.accept(arrived.id)
    node.accept(arrived.id)
    passed = [output for output in node.drain() if isinstance(output, Part)]
    assert [part.full for part in passed] == [tl.pack(part) for part in parts[:8]]
    assert {part.bearer for part in passed} == {PEER}

    node.take(NOW, OTHER, parts[9])
    node.take(NOW, PEER, parts[9])
    passed = [output for output in node.drain() if isinstance(output, Part)]
    assert [(part.full, part.bearer) for part in passed] == [(tl.pack(parts[9]), OTHER)]


def test_refused_broadcast_is_passed_on_to_nobody_and_taken_no_more(node):
    parts = full()
    (arrived,) = whole(node, parts[:8])
    node.drain()
    node.refuse(arrived.id)
    node.accept(arrived.id)
    assert whole(node, parts) == []
    assert node.drain() == [Reply(PEER, tl.pack(OverlayFecCompleted(arrived.id)))]
    assert fates(node)[Fate.KNOWN] == len(parts)
    assert node.sizes()["fec_memory"] == 0


def test_any_members_parts_make_one_broadcast(node):
    parts = full()
    arrived = [node.take(NOW, [PEER, OTHER][n % 2], part) for n, part in enumerate(parts)]
    assert sum(one is not None for one in arrived) == 1


# --- short parts ---


def test_member_that_has_it_is_sent_parts_short_and_one_that_is_done_none(node):
    (part, *_) = said(node)
    assert node.form(PEER, part) == part.full
    node.said(PEER, OverlayFecReceived(part.broadcast))
    assert node.form(PEER, part) == part.short
    assert node.form(OTHER, part) == part.full
    node.said(PEER, OverlayFecCompleted(part.broadcast))
    assert node.form(PEER, part) is None
    node.said(PEER, OverlayFecReceived(part.broadcast))
    assert node.form(PEER, part) is None


def test_bearer_is_told_once_that_it_is_whole_and_once_that_all_is_here(node):
    parts = full()
    (arrived,) = whole(node, parts[:7])
    assert node.drain() == []
    whole(node, parts[:10])
    assert node.drain() == [Reply(PEER, tl.pack(OverlayFecReceived(arrived.id)))]
    whole(node, parts)
    whole(node, parts)
    assert node.drain() == [Reply(PEER, tl.pack(OverlayFecCompleted(arrived.id)))]


def test_short_part_is_passed_on_full_to_who_needs_it(node):
    parts = full()
    (arrived,) = whole(node, parts[:8])
    node.accept(arrived.id)
    node.drain()
    for part in short()[8:]:
        node.take_short(NOW, OTHER, part)
    passed = [output for output in node.drain() if isinstance(output, Part)]
    assert [part.full for part in passed] == [tl.pack(part) for part in parts[8:]]


def test_short_part_of_what_is_not_whole_is_not_looked_at(node):
    node.take_short(NOW, PEER, short()[0])
    node.take(NOW, PEER, full()[0])
    node.take_short(NOW, PEER, short()[1])
    assert fates(node) == {Fate.EARLY: 2, Fate.TAKEN: 1}


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({"signature": bytes(64)}, Fate.BAD_SIGNATURE),
        ({"part_data_hash": bytes(32)}, Fate.BAD_SIGNATURE),
        ({"seqno": 12}, Fate.BAD_SIGNATURE),
        ({"seqno": -1}, Fate.MALFORMED),
        ({"seqno": 2**31 - 1}, Fate.MALFORMED),
        ({"src": PubEd25519(STRANGER.public)}, Fate.BAD_SOURCE),
        ({"src": PubAes(SOURCE.public)}, Fate.BAD_SOURCE),
        ({}, Fate.TAKEN),
    ],
)
def test_short_part_that_breaks_a_rule(node, changes, fate):
    whole(node, full()[:7])
    before = node.statistics()
    node.take_short(NOW, PEER, replace(short()[10], **changes))
    after = node.statistics()
    assert [one for one in Fate if after[one] != before[one]] == [fate]


def test_short_part_whose_hash_is_of_another_symbol_is_caught(node):
    (arrived,) = whole(node, full()[:8])
    about = fec_part.subject(PubEd25519(SOURCE.public), sha256(DATA).digest(), 5_000, 0, int(NOW))
    lie = fec_part.sign(SOURCE, about, 11, b"x" * 768)
    part = tl.parse(OverlayBroadcastFecShort, fec_part.short(about, lie, b"x" * 768))
    node.take_short(NOW, PEER, part)
    assert arrived.id == about.id
    assert fates(node)[Fate.BAD_DATA] == 1


# --- parts that break a rule ---


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({"data_size": 0}, Fate.TOO_LONG),
        ({"data_size": MAX_DATA + 1}, Fate.TOO_LONG),
        ({"data_size": -1}, Fate.TOO_LONG),
        ({"data_size": 5_001}, Fate.MALFORMED),
        ({"fec": FecRaptorQ(5_000, 760, 7)}, Fate.MALFORMED),
        ({"fec": FecRaptorQ(5_000, 768, 8)}, Fate.MALFORMED),
        ({"fec": FecRaptorQ(5_001, 768, 7)}, Fate.MALFORMED),
        ({"data": bytes(767)}, Fate.MALFORMED),
        ({"flags": 2}, Fate.MALFORMED),
        ({"seqno": -1}, Fate.MALFORMED),
        ({"seqno": limit_of(5_000)}, Fate.MALFORMED),
        ({"date": int(NOW) - 21}, Fate.OUT_OF_DATE),
        ({"date": int(NOW) + 21}, Fate.OUT_OF_DATE),
        ({"src": PubAes(SOURCE.public)}, Fate.BAD_SOURCE),
        ({"src": PubEd25519(STRANGER.public)}, Fate.BAD_SIGNATURE),
        ({"data": bytes(768)}, Fate.BAD_SIGNATURE),
        ({"data_hash": bytes(32)}, Fate.BAD_SIGNATURE),
        ({"seqno": 1}, Fate.BAD_SIGNATURE),
        ({"date": int(NOW) + 1}, Fate.BAD_SIGNATURE),
        ({"flags": 1}, Fate.BAD_SIGNATURE),
        ({"signature": b""}, Fate.BAD_SIGNATURE),
        ({}, Fate.TAKEN),
    ],
)
def test_part_that_breaks_a_rule(node, changes, fate):
    assert node.take(NOW, PEER, replace(full()[0], **changes)) is None
    assert fates(node) == {fate: 1}
    assert node.sizes()["fec_open"] == (fate is Fate.TAKEN)


def test_part_dated_otherwise_than_its_broadcast_is_dropped(node):
    parts = full()
    node.take(NOW, PEER, parts[0])
    node.take(NOW, PEER, resigned(parts[1], date=int(NOW) + 1))
    assert fates(node) == {Fate.TAKEN: 1, Fate.OUT_OF_DATE: 1}


def test_broadcast_that_is_not_what_its_id_says_is_given_up(node):
    parts = [resigned(part, data_hash=bytes(32)) for part in full()]
    assert whole(node, parts) == []
    assert fates(node) == {Fate.TAKEN: 6, Fate.BAD_DATA: 1, Fate.KNOWN: 7}
    assert node.sizes()["fec_open"] == node.sizes()["fec_memory"] == 0


def test_broadcast_of_any_sender_may_have_parts_of_several(node):
    parts = [resigned(part, flags=1) for part in full()[:4]]
    parts += [
        resigned(part, identity=STRANGER, flags=1, src=PubEd25519(STRANGER.public))
        for part in full()[4:8]
    ]
    assert [one.data for one in whole(node, parts)] == [DATA]


def test_who_may_say_how_much_is_a_matter_of_certificates():
    granted = 6_000
    admission = Admission(issuers={ISSUER.id: granted})
    expires = int(NOW) + 60
    claim = OverlayCertificateId(OVERLAY, short_id(SOURCE.public), expires, granted)
    certificate = OverlayCertificate(
        PubEd25519(ISSUER.public), expires, granted, ISSUER.sign(tl.pack(claim))
    )
    node = FecBroadcasts(OVERLAY, admission)
    assert whole(node, full()) == []
    assert fates(node) == {Fate.NOT_ALLOWED: 14}
    assert len(whole(node, [replace(part, certificate=certificate) for part in full()])) == 1
    longer = [replace(part, certificate=certificate) for part in full(bytes(6_001))]
    assert whole(node, longer) == []


# --- bounds ---


def test_source_has_few_broadcasts_open(node):
    for size in range(1, fec_broadcast.PER_SOURCE + 3):
        node.take(NOW, PEER, full(bytes(size * 1_000))[0])
    assert fates(node) == {Fate.TAKEN: fec_broadcast.PER_SOURCE, Fate.FULL: 2}


def test_memory_is_reserved_before_it_is_used(node, monkeypatch):
    monkeypatch.setattr(fec_broadcast, "MEMORY", 25_000)
    for number in range(3):
        source = Identity(bytes([50 + number]) * 32)
        node.take(NOW, PEER, full(identity=source)[0])
    assert fates(node) == {Fate.TAKEN: 2, Fate.FULL: 1}
    assert node.sizes()["fec_memory"] == 20_000


def test_peer_is_rationed_and_others_are_not(node, monkeypatch):
    node = FecBroadcasts(OVERLAY, OPEN)
    node._peers._burst, node._peers._rate = 3.0, 0.0
    parts = full()
    whole(node, parts[:5])
    whole(node, parts[5:7], peer=OTHER)
    assert fates(node) == {Fate.TAKEN: 5, Fate.RATIONED: 2}


def test_broadcast_is_forgotten_when_it_is_no_longer_in_date(node):
    parts = full()
    whole(node, parts[:8])
    assert node.sizes()["fec_open"] == 1
    whole(node, parts[8:], now=NOW + 61)
    assert node.sizes()["fec_open"] == node.sizes()["fec_memory"] == 0
    assert fates(node)[Fate.OUT_OF_DATE] == 6


def test_members_that_claim_to_have_it_are_bounded(node):
    (part, *_) = said(node)
    for number in range(200):
        node.said(AdnlId(number.to_bytes(32, "big")), OverlayFecReceived(part.broadcast))
    node.said(PEER, OverlayFecReceived(b"u" * 32))
    (one,) = node._open.values()
    assert len(one.have_it) == fec_broadcast.MAX_MEMBERS


# --- a village ---


@settings(max_examples=10)
@given(st.integers(2, 7), st.integers(1, 20_000), st.floats(0, 0.3), st.integers(0, 99))
def test_everybody_hears_it_once_and_few_bytes_are_wasted(people, size, loss, seed):
    entropy = seeded(seed)
    data = entropy.token(size)
    nodes = {AdnlId(bytes([n]) * 32): FecBroadcasts(OVERLAY, OPEN) for n in range(people)}
    heard = {peer: [] for peer in nodes}
    first, *_ = nodes
    nodes[first].start(NOW, SOURCE, data)
    sent = 0
    now = NOW
    while (when := nodes[first].next_deadline()) is not None:
        now = when
        nodes[first].handle_timer(now)
        mail = [(me, to, output) for me in nodes for to, output in outgoing(me, nodes)]
        while mail:
            sent += sum(len(message) for _, _, message in mail)
            for me, to, message in mail:
                if entropy.uniform() >= loss:
                    arrived = deliver(nodes[to], now, me, message)
                    if arrived is not None:
                        heard[to].append(arrived.data)
                        nodes[to].accept(arrived.id)
            mail = [(me, to, message) for me in nodes for to, message in outgoing(me, nodes)]
    assert all(got in ([data], []) for got in heard.values())
    if loss < 0.2:
        assert all(heard[peer] == [data] for peer in nodes if peer != first)
    # Each part goes from one to another once at most.
    assert sent <= people * (people - 1) * parts_of(size) * 1_000


def outgoing(me, nodes):
    """What a node sends to all others, in the form that each wants."""
    for output in nodes[me].drain():
        if isinstance(output, Reply):
            yield output.peer, output.message
            continue
        for to in nodes:
            message = nodes[me].form(to, output) if to not in (me, output.bearer) else None
            if message is not None:
                yield to, message


def deliver(node, now, peer, message):
    match tl.parse_any(message):
        case OverlayBroadcastFec() as part:
            return node.take(now, peer, part)
        case OverlayBroadcastFecShort() as part:
            node.take_short(now, peer, part)
        case said:
            node.said(peer, said)
    return None


def test_event_is_that_of_simple_broadcasts(node):
    (arrived,) = whole(node, full())
    assert isinstance(arrived, Broadcast)
