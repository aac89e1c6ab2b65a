"""Both sides of the making of a channel, message by message."""

import pytest

from p2p.adnl.drops import Drop
from p2p.adnl.handshake import Handshake
from p2p.adnl.keys import KeyPair
from p2p.entropy import seeded
from p2p.errors import AdnlError
from p2p.tl import parse_any
from p2p.ton import AdnlMessageConfirmChannel, AdnlMessageCreateChannel
from tests.p2p.adnl.net import identity

NOW = 1_000.5
A, B = identity(1).id, identity(2).id


class Side:
    def __init__(self, own, peer, seed):
        self.handshake = Handshake(own, peer)
        self.entropy = seeded(seed)

    def says(self, now=NOW):
        return parse_any(self.handshake.offer(now, self.entropy))

    def hears(self, message, now=NOW):
        if isinstance(message, AdnlMessageCreateChannel):
            self.handshake.offered(now, self.entropy, message)
        else:
            self.handshake.confirmed(message)

    @property
    def state(self):
        return (self.handshake.channel is not None, self.handshake.ready)


FRESH, HALF, READY = (False, False), (True, False), (True, True)


@pytest.fixture
def sides():
    return Side(A, B, 1), Side(B, A, 2)


def speak_to_each_other(first, second):
    plain = b"plain"
    ours, theirs = first.handshake.channel, second.handshake.channel
    return theirs.unseal(ours.seal(plain)) == ours.unseal(theirs.seal(plain)) == plain


def test_one_round_trip_makes_a_channel(sides):
    first, second = sides
    assert (first.state, second.state) == (FRESH, FRESH)
    second.hears(first.says())
    assert (first.state, second.state) == (FRESH, HALF)
    first.hears(second.says())
    assert (first.state, second.state) == (READY, HALF)
    assert speak_to_each_other(first, second)


def test_an_offer_is_dated_by_when_its_key_was_drawn(sides):
    first, _ = sides
    offer = first.says(NOW)
    assert offer.date == 1_000
    assert first.says(NOW + 60) == offer


@pytest.mark.parametrize("own", [A, B])
def test_both_may_begin_at_once(own):
    """With equal ids too: a node that speaks to itself."""
    first, second = Side(A, own, 1), Side(own, A, 2)
    offers = first.says(), second.says()
    first.hears(offers[1])
    second.hears(offers[0])
    assert (first.state, second.state) == (HALF, HALF)
    answers = first.says(), second.says()
    first.hears(answers[1])
    second.hears(answers[0])
    assert (first.state, second.state) == (READY, READY)
    assert speak_to_each_other(first, second)


def test_an_offer_that_comes_again_changes_nothing(sides):
    first, second = sides
    offer = first.says()
    second.hears(offer)
    first.hears(second.says())
    channel = second.handshake.channel
    second.handshake.ready = True
    second.hears(offer)
    assert second.handshake.channel is channel
    assert second.state == READY


@pytest.mark.parametrize(
    ("change", "state"),
    [(-1, READY), (0, READY), (1, HALF)],
    ids=["older", "of the same date", "newer"],
)
def test_another_key_counts_only_if_its_date_is_newer(sides, change, state):
    first, second = sides
    second.hears(first.says())
    second.handshake.ready = True
    channel = second.handshake.channel
    second.hears(AdnlMessageCreateChannel(KeyPair(b"n" * 32).public, 1_000 + change))
    assert second.state == state
    assert (second.handshake.channel is channel) is (state == READY)


def test_a_confirmation_of_another_key_of_ours_is_refused(sides):
    first, second = sides
    second.hears(first.says())
    told = second.says()
    for stranger in (Side(A, B, 3), Side(A, B, 4)):
        if stranger.entropy is not None:
            stranger.says()
        with pytest.raises(AdnlError) as caught:
            stranger.hears(told)
        assert caught.value.reason is Drop.CHANNEL
        assert stranger.state == FRESH


def test_a_confirmation_before_any_offer_of_ours_is_refused(sides):
    first, _ = sides
    with pytest.raises(AdnlError):
        first.hears(AdnlMessageConfirmChannel(KeyPair(b"n" * 32).public, bytes(32), 5))


def test_an_older_confirmation_does_not_make_a_newer_key_ready(sides):
    first, second = sides
    second.hears(first.says())
    late = second.says()
    first.hears(AdnlMessageCreateChannel(KeyPair(b"n" * 32).public, 2_000))
    assert first.state == HALF
    first.hears(late)
    assert first.state == HALF


def test_a_key_that_is_none_is_refused_and_forgotten(sides):
    first, second = sides
    with pytest.raises(AdnlError) as caught:
        second.hears(AdnlMessageCreateChannel(bytes(32), 1_000))
    assert caught.value.reason is Drop.KEY
    assert second.state == FRESH
    second.hears(first.says())
    assert second.state == HALF


def test_whoever_forgot_the_channel_begins_anew(sides):
    first, second = sides
    second.hears(first.says())
    first.hears(second.says())
    forgetful = Side(A, B, 9)
    second.hears(forgetful.says(NOW + 1))
    assert second.state == HALF
    forgetful.hears(second.says(NOW + 1))
    assert forgetful.state == READY
    assert speak_to_each_other(forgetful, second)
