"""Where a peer is looked for."""

import pytest

from p2p.adnl.address import address_list
from p2p.adnl.whereabouts import DOUBT, FORGET, IDLE, SILENCE, TURN, Whereabouts
from p2p.wire import Endpoint

HEARD, LISTED, TOLD = (Endpoint(f"10.0.0.{i}", 1) for i in (1, 2, 3))


@pytest.fixture
def where():
    return Whereabouts()


def targets(where, now, told=(), seconds=6):
    return [where.target(now + TURN * i, told) for i in range(seconds)]


def test_nothing_is_known_at_first(where):
    assert where.target(0.0, ()) is None
    assert where.silent(0.0)


def test_a_peer_never_heard_is_looked_for_where_others_say(where):
    assert targets(where, 0.0, [TOLD, LISTED]) == [TOLD, LISTED] * 3


def test_a_burst_goes_to_one_place(where):
    assert {where.target(0.1 * i, [TOLD, LISTED]) for i in range(10)} == {TOLD}


def test_a_peer_is_where_it_was_heard_whatever_it_lists(where):
    assert where.hear(0.0, HEARD)
    assert not where.hear(1.0, HEARD)
    where.learn(1.0, address_list([LISTED], 1))
    assert targets(where, 1.0, [TOLD]) == [HEARD] * 6
    assert where.hear(2.0, TOLD)
    assert where.target(2.0, ()) == TOLD


def test_a_silent_peer_is_tried_everywhere(where):
    where.hear(0.0, HEARD)
    where.learn(0.0, address_list([LISTED, HEARD], 1))
    assert targets(where, IDLE, [TOLD, LISTED]) == [HEARD, LISTED, TOLD] * 2


def test_what_a_peer_said_is_forgotten_after_ten_minutes(where):
    where.hear(0.0, HEARD)
    where.learn(0.0, address_list([LISTED], 1))
    assert where.target(FORGET - 1.0, ()) == HEARD
    assert where.target(FORGET, ()) is None
    assert where.target(FORGET, [TOLD]) == TOLD


def test_what_others_said_counts_as_wrong_after_ten_minutes_of_trying(where):
    where.target(0.0, [TOLD])
    assert not where.tried_in_vain(FORGET - 1.0)
    assert where.tried_in_vain(FORGET)
    where.try_anew()
    assert not where.tried_in_vain(FORGET)
    where.target(FORGET, [TOLD])
    where.hear(2 * FORGET, HEARD)
    assert not where.tried_in_vain(3 * FORGET)


def test_only_newer_lists_are_learnt(where):
    where.learn(0.0, address_list([LISTED], 5))
    where.learn(0.0, address_list([TOLD], 5))
    where.learn(0.0, address_list([TOLD], 4))
    assert where.target(0.0, ()) == LISTED
    where.learn(0.0, address_list([TOLD], 6))
    assert where.target(0.0, ()) == TOLD
    where.restart()
    where.learn(0.0, address_list([LISTED], 1))
    assert where.target(0.0, ()) == LISTED


def test_an_idle_peer_is_silent(where):
    where.hear(0.0, HEARD)
    assert not where.silent(IDLE - 0.1)
    assert where.silent(IDLE)


def test_a_message_into_silence_makes_a_peer_silent_ten_seconds_on(where):
    where.hear(0.0, HEARD)
    where.speak(SILENCE)
    assert not where.silent(SILENCE + DOUBT)
    where.speak(SILENCE + 0.1)
    where.speak(SILENCE + 5.0)
    assert not where.silent(SILENCE + DOUBT)
    assert where.silent(SILENCE + 0.1 + DOUBT)


def test_a_sign_of_life_ends_all_doubt(where):
    where.hear(0.0, HEARD)
    where.speak(SILENCE + 0.1)
    where.hear(SILENCE + 1.0, HEARD)
    assert not where.silent(SILENCE + 1.0 + DOUBT)
