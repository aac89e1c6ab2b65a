"""Which packets of a peer are taken: TON's checks, in TON's order, row by row."""

import pytest

from p2p.adnl.drops import Drop
from p2p.adnl.packet import Packet
from p2p.adnl.peer import Peer
from p2p.adnl.window import WIDTH
from p2p.bucket import full_bucket
from p2p.entropy import seeded
from p2p.ton import AdnlMessageCreateChannel
from tests.p2p.adnl.net import START, identity

NOW = START + 1_000.5
BORN = START - 500
"""when the peer started, as we know it"""


@pytest.fixture
def peer():
    """Has started at `BORN`, sent packets up to 100, and had 10 from us."""
    peer = Peer(NOW, identity(1), identity(2).id, full_bucket(2, 50, NOW))
    assert peer.admit(NOW, START, Packet((), 100, 0, reinit_date=BORN)) is None
    peer.sent = 10
    return peer


def verdict(peer, seqno=101, confirm=10, *, born=BORN, ours=START):
    return peer.admit(
        NOW, START, Packet((), seqno, confirm, reinit_date=born, dst_reinit_date=ours)
    )


TABLE = {
    # 1: it means a start of ours that has not been
    "our start": ({"ours": START}, None),
    "no start of ours": ({"ours": 0}, None),
    "a start of ours to come": ({"ours": START + 1}, Drop.DESTINATION_AHEAD),
    # 2: a clock may be a minute off
    "60 s ahead": ({"born": int(NOW) + 60, "confirm": 0}, None),
    "61 s ahead": ({"born": int(NOW) + 61}, Drop.AHEAD),
    # 3 and 4: the peer's start
    "its start": ({"born": BORN}, None),
    "no start of its": ({"born": 0}, None),
    "a later start of its": ({"born": BORN + 1, "seqno": 1, "confirm": 0}, None),
    "an earlier start of its": ({"born": BORN - 1}, Drop.BEFORE_RESTART),
    # 5: we have started since
    "an earlier start of ours": ({"ours": START - 1}, Drop.BEFORE_OUR_RESTART),
    # 6: numbers
    "no number": ({"seqno": 0}, None),
    "the last number again": ({"seqno": 100}, Drop.REPEATED),
    "a number not seen": ({"seqno": 99}, None),
    "the oldest number known": ({"seqno": 100 - WIDTH + 1}, None),
    "a number too old": ({"seqno": 100 - WIDTH}, Drop.REPEATED),
    "a number far ahead": ({"seqno": 2**63 - 1}, None),
    # 7: what it confirms
    "confirms our last": ({"confirm": 10}, None),
    "confirms nothing": ({"confirm": 0}, None),
    "confirms one more": ({"confirm": 11}, Drop.CONFIRMS_UNSENT),
    # the order of the checks
    "1 before 2": ({"ours": START + 1, "born": int(NOW) + 61}, Drop.DESTINATION_AHEAD),
    "2 before 5": ({"ours": START - 1, "born": int(NOW) + 61}, Drop.AHEAD),
    "4 before 5": ({"ours": START - 1, "born": BORN - 1}, Drop.BEFORE_RESTART),
    "5 before 6": ({"ours": START - 1, "seqno": 100}, Drop.BEFORE_OUR_RESTART),
    "6 before 7": ({"seqno": 100, "confirm": 11}, Drop.REPEATED),
}


@pytest.mark.parametrize("row", TABLE)
def test_row(peer, row):
    packet, expected = TABLE[row]
    assert verdict(peer, **packet) is expected


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] is not None])
def test_a_packet_that_is_dropped_is_not_marked_as_seen(peer, row):
    before = peer.window.highest, peer.window.mask
    verdict(peer, **TABLE[row][0])
    assert (peer.window.highest, peer.window.mask) == before


def test_a_packet_is_taken_once(peer):
    assert verdict(peer, 101) is None
    assert verdict(peer, 101) is Drop.REPEATED


def test_the_first_start_that_is_heard_of_resets_nothing():
    peer = Peer(NOW, identity(1), identity(2).id, full_bucket(2, 50, NOW))
    peer.sent = 10
    handshake = peer.handshake
    assert peer.admit(NOW, START, Packet((), 5, 10)) is None
    assert peer.admit(NOW, START, Packet((), 6, 10, reinit_date=BORN)) is None
    assert (peer.sent, peer.window.highest, peer.reinit_date) == (10, 6, BORN)
    assert peer.handshake is handshake


def test_a_later_start_resets_all_that_ends_with_it(peer):
    peer.known_version = 5
    peer.open[b"q" * 32] = NOW
    offer = AdnlMessageCreateChannel(identity(3).public, 7)
    peer.handshake.offered(NOW, seeded(1), offer)
    assert peer.started(BORN + 1)
    assert (peer.sent, peer.window.highest, peer.known_version) == (0, 0, 0)
    assert peer.handshake.channel is None
    assert not peer.open
    assert peer.reinit_date == BORN + 1


def test_a_later_start_counts_even_if_the_packet_is_dropped(peer):
    """As in TON: what comes after the check of dates says nothing against them."""
    assert verdict(peer, born=BORN + 1, confirm=1) is Drop.CONFIRMS_UNSENT
    assert peer.reinit_date == BORN + 1


@pytest.mark.parametrize("date", [0, BORN - 1, BORN])
def test_no_other_date_is_a_start(peer, date):
    assert not peer.started(date)
    assert peer.reinit_date == BORN


def test_a_peer_is_named_in_logs_by_the_beginnings_of_ids(peer):
    assert str(peer) == f"Peer[{identity(1).id.hex()[:4]}-{identity(2).id.hex()[:4]}]"
