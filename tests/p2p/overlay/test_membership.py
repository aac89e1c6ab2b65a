"""Membership: signed, fresh records of this overlay, of those who answer, and few of them."""

from dataclasses import replace
from hashlib import sha256

import pytest
from pytoniq_core.tl.generator import TlGenerator

from p2p.dht import value as records
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.overlay import membership
from p2p.overlay.membership import Fate, Membership
from p2p.overlay.settings import Settings
from p2p.ton import PubAes, PubEd25519

NOW = 1_800_000_000.0
NAME = membership.name_of(7)
OVERLAY = records.overlay_id(NAME)
OWN = Identity(b"\xff" * 32)


def identity(number):
    return Identity(number.to_bytes(32, "big"))


def record(number=1, version=int(NOW), overlay=OVERLAY):
    return records.sign_member(identity(number), overlay, version)


def members(**settings):
    return Membership(OWN.id, OVERLAY, seeded(1), Settings(**settings))


def fate(known, one, now=NOW):
    before = known.statistics()
    known.hear(now, one)
    after = known.statistics()
    (fate,) = [fate for fate in Fate if after[fate] != before[fate]]
    return fate


def filled(count, **settings):
    known = members(**settings)
    for number in range(count):
        known.admit(NOW, record(number))
    return known


# --- the overlay's id ---


def test_the_overlay_is_that_of_the_networks_name():
    schemas = TlGenerator.with_default_schemas().generate()
    name = b"tussah/directory/1" + (-3).to_bytes(4, "little", signed=True)
    expected = sha256(schemas.serialize("pub.overlay", {"name": name})).digest()
    assert records.overlay_id(membership.name_of(-3)) == expected
    assert records.overlay_id(membership.name_of(-4)) != expected


# --- records ---


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record(), Fate.STRANGER),
        (record(version=int(NOW) - 600), Fate.STRANGER),
        (record(version=int(NOW) + 60), Fate.STRANGER),
        (record(version=int(NOW) - 601), Fate.UNBELIEVED),
        (record(version=int(NOW) + 61), Fate.UNBELIEVED),
        (record(overlay=bytes(32)), Fate.UNBELIEVED),
        (replace(record(), id=PubAes(bytes(32))), Fate.UNBELIEVED),
        (replace(record(), id=PubEd25519(identity(2).public)), Fate.UNSIGNED),
        (replace(record(), version=int(NOW) - 1), Fate.UNSIGNED),
        (replace(record(overlay=bytes(32)), overlay=OVERLAY), Fate.UNSIGNED),
        (replace(record(), signature=b""), Fate.UNSIGNED),
        (records.sign_member(OWN, OVERLAY, int(NOW)), Fate.OWN),
    ],
)
def test_a_record_is_believed_if_it_is_signed_fresh_and_of_this_overlay(one, expected):
    known = members()
    assert fate(known, one) is expected
    assert len(known) == 0


def test_a_name_alone_makes_no_member():
    known = members()
    assert known.hear(NOW, record()) == identity(1).id
    assert known.members == []
    assert known.neighbours == ()
    assert known.share(NOW, OWN.id) == []
    assert known.admit(NOW, record())
    assert known.members == list(known.neighbours) == [identity(1).id]


def test_the_newest_record_of_a_member_is_handed_on():
    known = filled(1)
    newer = record(0, int(NOW) + 5)
    assert fate(known, newer) is Fate.RENEWED
    assert fate(known, newer) is Fate.KNOWN
    assert fate(known, record(0)) is Fate.KNOWN
    assert fate(known, replace(record(0), version=int(NOW) + 6)) is Fate.UNSIGNED
    assert known.share(NOW, OWN.id) == [newer]


def test_records_about_to_expire_are_not_handed_on():
    known = filled(1)
    assert known.share(NOW + 540, OWN.id) == [record(0)]
    assert known.share(NOW + 541, OWN.id) == []


def test_nobody_is_told_of_itself_or_of_more_than_four():
    known = filled(10)
    assert len(known.share(NOW, OWN.id)) == 4
    assert record(0) not in [one for _ in range(30) for one in known.share(NOW, identity(0).id)]


def test_who_took_too_long_to_answer_is_no_member():
    known = members()
    assert not known.admit(NOW + 601, record())
    assert known.admit(NOW, record())
    assert not known.admit(NOW, record())


def test_members_not_heard_of_for_ten_minutes_are_forgotten():
    known = filled(3)
    known.hear(NOW + 300, record(1, int(NOW) + 300))
    known.forget_old(NOW + 601)
    assert known.members == [identity(1).id]
    assert known.neighbours == (identity(1).id,)


# --- misses ---


def test_three_misses_in_a_row_end_a_membership():
    known = filled(2)
    peer = identity(0).id
    for _ in range(2):
        known.missed(peer)
    known.answered(peer)
    for _ in range(2):
        known.missed(peer)
        assert peer in known
    known.missed(peer)
    assert peer not in known
    assert known.neighbours == (identity(1).id,)
    known.missed(peer)
    known.answered(peer)


def test_the_place_of_a_lost_neighbour_is_taken_at_once():
    known = filled(12)
    known.take_change()
    lost = known.neighbours[0]
    for _ in range(3):
        known.missed(lost)
    assert len(known.neighbours) == 10
    assert lost not in known.neighbours
    assert known.take_change()
    assert not known.take_change()


# --- bounds and draws ---


def test_there_are_at_most_300_members_and_10_neighbours():
    known = filled(400)
    assert len(known) == 300
    assert len(known.neighbours) == len(set(known.neighbours)) == 10
    assert set(known.neighbours) <= set(known.members)
    sizes = {"overlay_members": 300, "overlay_neighbours": 10, "overlay_callers": 0}
    assert known.sizes() == sizes


def test_newcomers_crowd_out_no_neighbour():
    known = filled(30, max_members=30)
    neighbours = known.neighbours
    for number in range(100, 200):
        known.admit(NOW, record(number))
    assert known.neighbours == neighbours
    assert len(known) == 30


def test_free_identities_get_a_third_of_the_neighbours_and_half_of_the_table():
    honest = {identity(number).id for number in range(200)}
    known = filled(200)
    known.trust(honest.__contains__)
    for number in range(1_000, 3_000):
        known.admit(NOW, record(number))
    assert len(known) == 300
    assert len(honest & set(known.members)) >= 140
    for _ in range(20):
        known.reshuffle()
        assert len(known.neighbours) == 10
        assert len(honest & set(known.neighbours)) >= 7


def test_lost_neighbours_are_not_replaced_by_free_identities_alone():
    honest = {identity(number).id for number in range(100)}
    known = filled(300)
    known.trust(honest.__contains__)
    known.reshuffle()
    for _ in range(20):
        lost = next(peer for peer in known.neighbours if peer in honest)
        for _ in range(3):
            known.missed(lost)
        assert len(honest & set(known.neighbours)) >= 7


def test_of_too_few_that_are_vouched_for_all_are_neighbours():
    known = filled(40)
    few = set(known.members[20:25])
    known.trust(few.__contains__)
    known.reshuffle()
    assert few < set(known.neighbours)
    assert len(known.neighbours) == 10


def test_every_member_is_a_neighbour_sooner_or_later():
    known = filled(40)
    met = set(known.neighbours)
    for _ in range(40):
        known.reshuffle()
        met |= set(known.neighbours)
    assert met == set(known.members)


def test_when_members_have_doubled_the_neighbours_are_drawn_anew():
    known = filled(20)
    assert known.neighbours == tuple(known.members[:10])
    known.admit(NOW, record(20))
    assert set(known.neighbours) != set(known.members[:10])


def test_a_draw_leaves_out_the_bearer():
    known = filled(3)
    bearer = identity(1).id
    assert all(bearer not in known.draw(3, but=bearer) for _ in range(20))
    assert len(known.draw(2)) == 2
    assert len(known.draw(9)) == 3


def test_one_of_three_who_are_told_is_somebody_who_asked_us():
    known = filled(60)
    callers = [peer for peer in known.members if peer not in known.neighbours][:12]
    for peer in callers:
        known.called(peer)
    for _ in range(20):
        drawn = known.draw(3)
        assert len(drawn) == len(set(drawn)) == 3
        assert sum(peer in callers[2:] for peer in drawn) == 1
    assert known.sizes()["overlay_callers"] == 10


def test_who_asks_and_is_no_member_is_not_told():
    known = filled(5)
    known.called(identity(99).id)
    assert all(identity(99).id not in known.draw(3) for _ in range(20))
