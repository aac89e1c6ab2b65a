"""Simple broadcasts: the bytes of TON, each rule with a test that breaks it, none sent on twice."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.tl.generator import TlGenerator

from p2p import tl
from p2p.identity import AdnlId, Identity, short_id
from p2p.overlay import broadcast as broadcasts
from p2p.overlay.broadcast import Admission, Broadcast, Broadcasts, Fate, Passed
from p2p.ton import (
    OverlayBroadcast,
    OverlayCertificate,
    OverlayCertificateId,
    OverlayCertificateIdV2,
    OverlayCertificateV2,
    OverlayEmptyCertificate,
    PubAes,
    PubEd25519,
)

NOW = 1_800_000_000.0
OVERLAY = b"o" * 32
SOURCE, ISSUER, STRANGER = (Identity(bytes([seed]) * 32) for seed in range(3))
PEER, OTHER = AdnlId(b"p" * 32), AdnlId(b"q" * 32)
DATA = b"an advert"


@pytest.fixture
def seen():
    return Broadcasts(OVERLAY, Admission())


@pytest.fixture(scope="module")
def judge():
    return TlGenerator.with_default_schemas().generate()


def signed(identity=SOURCE, **changes):
    """A broadcast whose fields were changed before it was signed: honest but for that."""
    one = replace(broadcasts.build(identity, DATA, NOW), **changes)
    claim = bytes.fromhex("7c4e37fa") + broadcasts.id_of(one) + one.date.to_bytes(4, "little")
    return replace(one, signature=identity.sign(claim))


def fate(seen, one, now=NOW, peer=PEER):
    before = seen.statistics()
    arrived = seen.take(now, peer, one)
    after = seen.statistics()
    (fate,) = [fate for fate in Fate if after[fate] != before[fate]]
    assert (arrived is not None) == (fate is Fate.NEW)
    return fate


# --- bytes: an independent judge ---


def foreign(judge, data=DATA, date=int(NOW), flags=0):
    """A broadcast that pytoniq-core alone has put together and hashed."""
    source = {"@type": "pub.ed25519", "key": SOURCE.public.hex()}
    source_id = sha256(judge.serialize("pub.ed25519", {"key": SOURCE.public.hex()})).hexdigest()
    identity = sha256(
        judge.serialize(
            "overlay.broadcast.id",
            {
                "src": bytes(32).hex() if flags & 1 else source_id,
                "data_hash": sha256(data).hexdigest(),
                "flags": flags,
            },
        )
    )
    claim = {"hash": identity.hexdigest(), "date": date}
    fields = {
        "src": source,
        "certificate": {"@type": "overlay.emptyCertificate"},
        "flags": flags,
        "data": data,
        "date": date,
        "signature": SOURCE.sign(judge.serialize("overlay.broadcast.toSign", claim)),
    }
    return identity.digest(), judge.serialize("overlay.broadcast", fields)


@pytest.mark.parametrize("flags", [0, broadcasts.ANY_SENDER])
@pytest.mark.parametrize("data", [b"", DATA, bytes(253), bytes(254), bytes(768)])
def test_what_pytoniq_built_is_accepted_under_its_id(judge, seen, data, flags):
    identity, buffer = foreign(judge, data, flags=flags)
    arrived = seen.take(NOW, PEER, tl.parse(OverlayBroadcast, buffer))
    assert arrived == Broadcast(identity, SOURCE.public, data)
    assert seen.accept(arrived.id) == Passed(buffer, PEER)


def test_what_we_build_is_what_pytoniq_builds(judge, seen):
    _, buffer = foreign(judge)
    assert seen.start(NOW, SOURCE, DATA) == buffer


def test_pytoniq_reads_ours_and_writes_it_again_byte_for_byte(judge, seen):
    ours = seen.start(NOW, SOURCE, DATA)
    fields, end = judge.deserialize(ours)
    assert end == len(ours)
    assert fields["@type"] == "overlay.broadcast"
    assert fields["data"] == DATA
    assert judge.serialize("overlay.broadcast", fields) == ours


# --- which are taken ---


def test_a_broadcast_is_taken_and_passed_on_once(seen):
    one = signed()
    arrived = seen.take(NOW, PEER, one)
    assert arrived == Broadcast(broadcasts.id_of(one), SOURCE.public, DATA)
    assert seen.accept(arrived.id) == Passed(tl.pack(one), PEER)
    assert seen.accept(arrived.id) is None
    assert fate(seen, one) is Fate.KNOWN
    assert fate(seen, one, peer=OTHER) is Fate.KNOWN


def test_what_the_application_refuses_is_passed_on_to_nobody(seen):
    one = signed()
    identity = seen.take(NOW, PEER, one).id
    seen.refuse(identity)
    seen.refuse(identity)
    assert seen.accept(identity) is None
    assert fate(seen, one) is Fate.KNOWN


def test_our_own_is_no_news_when_it_comes_back(seen):
    ours = tl.parse(OverlayBroadcast, seen.start(NOW, SOURCE, DATA))
    assert fate(seen, ours) is Fate.KNOWN


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (signed(data=bytes(768)), Fate.NEW),
        (signed(data=bytes(769)), Fate.TOO_LONG),
        (signed(flags=1), Fate.NEW),
        (signed(flags=2), Fate.UNKNOWN_FLAGS),
        (signed(flags=-1), Fate.UNKNOWN_FLAGS),
        (signed(date=int(NOW) - 20), Fate.NEW),
        (signed(date=int(NOW) + 20), Fate.NEW),
        (signed(date=int(NOW) - 21), Fate.OUT_OF_DATE),
        (signed(date=int(NOW) + 21), Fate.OUT_OF_DATE),
        (signed(src=PubAes(bytes(32))), Fate.BAD_SOURCE),
        (signed(STRANGER, src=PubEd25519(SOURCE.public)), Fate.BAD_SIGNATURE),
        (replace(signed(), data=b"another"), Fate.BAD_SIGNATURE),
        (replace(signed(), date=int(NOW) + 1), Fate.BAD_SIGNATURE),
        (replace(signed(), flags=1), Fate.BAD_SIGNATURE),
        (replace(signed(), signature=b""), Fate.BAD_SIGNATURE),
        (replace(signed(), signature=bytes(64)), Fate.BAD_SIGNATURE),
        (replace(signed(), signature=signed().signature + b"\0"), Fate.BAD_SIGNATURE),
    ],
)
def test_a_broadcast_that_breaks_a_rule_is_not_taken(seen, one, expected):
    assert fate(seen, one) is expected


def test_a_forged_copy_does_not_keep_the_good_one_out(seen):
    assert fate(seen, replace(signed(), signature=bytes(64))) is Fate.BAD_SIGNATURE
    assert fate(seen, signed()) is Fate.NEW


def test_ids_are_remembered_for_longer_than_their_broadcasts_are_in_date(seen):
    late = signed(date=int(NOW) + 20)
    fate(seen, late)
    assert fate(seen, late, now=NOW + 40) is Fate.KNOWN
    assert fate(seen, late, now=NOW + 41) is Fate.OUT_OF_DATE
    assert seen.sizes()["broadcasts_seen"] == 1
    fate(seen, signed(date=int(NOW) + 61, data=b"x"), now=NOW + 61)
    assert seen.sizes()["broadcasts_seen"] == 1


def test_the_same_data_may_be_said_again_after_a_minute(seen):
    fate(seen, signed())
    assert fate(seen, signed(date=int(NOW) + 61), now=NOW + 61) is Fate.NEW


# --- certificates ---


def certificate(
    issuer=ISSUER, bearer=SOURCE, overlay=OVERLAY, expire=NOW + 60, size=768, flags=None
):
    expire = int(expire)
    if flags is None:
        claim = OverlayCertificateId(overlay, bearer.id, expire, size)
        signature = issuer.sign(tl.pack(claim))
        return OverlayCertificate(PubEd25519(issuer.public), expire, size, signature)
    claim = OverlayCertificateIdV2(overlay, bearer.id, expire, size, flags)
    signature = issuer.sign(tl.pack(claim))
    return OverlayCertificateV2(PubEd25519(issuer.public), expire, size, flags, signature)


CLOSED = Admission(open_size=0, issuers={short_id(ISSUER.public): 700})


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"certificate": OverlayEmptyCertificate()}, False),
        ({"certificate": certificate()}, True),
        ({"certificate": certificate(flags=0)}, True),
        ({"certificate": certificate(flags=3)}, True),
        ({"certificate": certificate(), "data": bytes(700)}, True),
        ({"certificate": certificate(), "data": bytes(701)}, False),
        ({"certificate": certificate(size=10), "data": bytes(10)}, True),
        ({"certificate": certificate(size=10), "data": bytes(11)}, False),
        ({"certificate": certificate(size=-1)}, False),
        ({"certificate": certificate(expire=NOW)}, False),
        ({"certificate": certificate(issuer=STRANGER)}, False),
        ({"certificate": certificate(bearer=STRANGER)}, False),
        ({"certificate": certificate(overlay=bytes(32))}, False),
        ({"certificate": replace(certificate(), expire_at=int(NOW) + 61)}, False),
        ({"certificate": replace(certificate(flags=0), flags=1)}, False),
        ({"certificate": replace(certificate(), issued_by=PubAes(bytes(32)))}, False),
    ],
)
def test_a_closed_overlay_takes_what_a_certificate_allows(changes, allowed):
    seen = Broadcasts(OVERLAY, CLOSED)
    assert fate(seen, signed(**changes)) is (Fate.NEW if allowed else Fate.NOT_ALLOWED)


def test_in_an_open_overlay_a_certificate_is_not_needed_but_has_to_be_right(seen):
    assert fate(seen, signed(certificate=certificate(issuer=STRANGER), data=b"1")) is Fate.NEW
    wrong = replace(certificate(), signature=bytes(64))
    assert fate(seen, signed(certificate=wrong, data=b"2")) is Fate.NOT_ALLOWED


def test_a_certificate_of_pytoniq_is_read(judge):
    claim = {
        "overlay_id": OVERLAY.hex(),
        "node": SOURCE.id.hex(),
        "expire_at": int(NOW) + 60,
        "max_size": 768,
    }
    signature = ISSUER.sign(judge.serialize("overlay.certificateId", claim))
    ours = certificate()
    assert ours.signature == signature
    issuer = {"@type": "pub.ed25519", "key": ISSUER.public.hex()}
    theirs = judge.serialize(
        "overlay.certificate", {**claim, "issued_by": issuer, "signature": signature}
    )
    assert tl.pack(ours) == theirs


# --- bounds ---


def test_a_peer_that_passes_on_bad_signatures_is_soon_not_looked_at(seen):
    fates = [
        fate(seen, replace(signed(), data=number.to_bytes(4, "big")))
        for number in range(int(broadcasts.PEER_BURST) + 10)
    ]
    assert fates.count(Fate.RATIONED) == 10
    assert fate(seen, signed(), peer=OTHER) is Fate.NEW


def test_what_the_application_says_nothing_of_is_forgotten(seen, monkeypatch):
    monkeypatch.setattr(broadcasts, "MAX_WAITING", 2)
    many = [seen.take(NOW, PEER, signed(data=bytes([number]))) for number in range(3)]
    assert seen.accept(many[0].id) is None
    assert seen.accept(many[2].id) is not None


def test_the_ids_remembered_are_bounded(seen, monkeypatch):
    monkeypatch.setattr(broadcasts, "MAX_REMEMBERED", 2)
    many = [signed(data=bytes([number])) for number in range(3)]
    assert [fate(seen, one) for one in many] == [Fate.NEW] * 3
    assert seen.sizes()["broadcasts_seen"] == 2
    assert fate(seen, many[2]) is Fate.KNOWN
    assert fate(seen, many[0]) is Fate.NEW


@pytest.mark.parametrize("size", [769, 10_000])
def test_we_broadcast_no_more_than_others_take(seen, size):
    with pytest.raises(ValueError, match="768"):
        seen.start(NOW, SOURCE, bytes(size))


# --- fuzz ---

keys = st.one_of(
    st.builds(PubEd25519, st.binary(min_size=32, max_size=32)),
    st.builds(PubAes, st.binary(min_size=32, max_size=32)),
)
i32 = st.integers(-(2**31), 2**31 - 1)
certificates = st.one_of(
    st.just(OverlayEmptyCertificate()),
    st.builds(OverlayCertificate, keys, i32, i32, st.binary(max_size=70)),
    st.builds(OverlayCertificateV2, keys, i32, i32, i32, st.binary(max_size=70)),
)


@given(
    st.builds(
        OverlayBroadcast,
        keys,
        certificates,
        st.sampled_from([0, 1]) | i32,
        st.binary(max_size=800),
        st.integers(int(NOW) - 30, int(NOW) + 30) | i32,
        st.binary(max_size=70),
    )
)
def test_no_unsigned_broadcast_is_taken(one):
    assert fate(Broadcasts(OVERLAY, Admission()), one) is not Fate.NEW
