"""Calls between nodes: each ends once and in time, and no peer makes the tables grow."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import calls, codec, defaults
from p2p.calls import Calls, Query, Reach, Replied, Unanswered, Write, is_call
from p2p.errors import (
    AnswerTooBig,
    Closed,
    CodecError,
    NoCapacity,
    Rejected,
    Timeout,
    Unreachable,
)
from p2p.identity import AdnlId
from p2p.overlay import bodies as directory
from p2p.overlay.bodies import Refusal
from p2p.wire import Kind, Link, Message

PEER, OTHER = AdnlId(b"p" * 32), AdnlId(b"o" * 32)
LINK, SECOND = Link(PEER, 1), Link(PEER, 2)
ASK, TELL = codec.pack({"t": "ask"}), codec.pack({"t": "tell"})
BUSY = directory.pack_refusal(Refusal.BUSY)
LARGE = codec.pack({"x": bytes(defaults.MAX_CALL)})


@pytest.fixture
def core():
    return Calls()


@pytest.fixture
def linked(core):
    """A core with a query under way to PEER over LINK, and its number."""
    number = core.query(0.0, PEER, ASK)
    core.link_up(LINK)
    core.drain()
    return core, number


def under_way(outputs):
    return [out.message.number for out in outputs if isinstance(out, Write)]


def failures(outputs):
    return [(out.number, type(out.error)) for out in outputs if isinstance(out, Unanswered)]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 70_000])
def test_a_map_of_any_size_is_told_by_its_first_byte(size):
    assert is_call(codec.pack(dict.fromkeys(range(size))))


@pytest.mark.parametrize("value", [None, 0, 127, -1, b"", "map", [], [1] * 20, True])
def test_nothing_else_is_a_call(value):
    assert not is_call(codec.pack(value))
    assert not is_call(b"")


# --- asking ---


def test_a_query_waits_for_a_link_and_is_answered(core):
    number = core.query(0.0, PEER, ASK)
    assert number >= calls.FIRST
    assert core.drain() == [Reach(PEER)]
    core.link_up(LINK)
    assert core.drain() == [Write(LINK, Message(Kind.QUERY, number, ASK))]
    core.answered(LINK, number, TELL)
    assert core.drain() == [Replied(number, TELL)]
    assert core.next_deadline() is None
    assert not any(core.sizes().values())


def test_only_the_link_that_was_asked_over_answers_and_only_once(linked):
    core, number = linked
    core.answered(SECOND, number, TELL)
    core.answered(Link(OTHER, 1), number, TELL)
    core.answered(LINK, number + 1, TELL)
    assert core.drain() == []
    core.answered(LINK, number, TELL)
    core.answered(LINK, number, TELL)
    assert core.drain() == [Replied(number, TELL)]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (BUSY, Rejected),
        (codec.pack([1, 2**63]), Rejected),
        (directory.pack_done(), CodecError),
        (LARGE, AnswerTooBig),
        (b"", CodecError),
        (b"nonsense", CodecError),
        (b"\x92" * 1_000, CodecError),
        (codec.pack([bytes(2**20)]), CodecError),
    ],
)
def test_an_answer_that_is_none_is_the_peers_fault(linked, body, error):
    core, number = linked
    core.answered(LINK, number, body)
    assert failures(core.drain()) == [(number, error)]


def test_a_refusal_says_why(linked):
    core, number = linked
    core.answered(LINK, number, BUSY)
    (refused,) = core.drain()
    assert refused.error.args == (Refusal.BUSY,)


def test_silence_ends_in_ten_seconds_and_a_late_answer_is_ignored(linked):
    core, number = linked
    assert core.next_deadline() == 10.0
    core.handle_timer(9.9)
    assert core.drain() == []
    core.handle_timer(10.0)
    assert failures(core.drain()) == [(number, Timeout)]
    core.answered(LINK, number, TELL)
    assert core.drain() == []


def test_a_dial_counts_into_the_ten_seconds(core):
    number = core.query(0.0, PEER, ASK)
    core.handle_timer(10.0)
    assert failures(core.drain()) == [(number, Timeout)]
    core.link_up(LINK)
    assert core.drain() == []


def test_a_peer_that_cannot_be_reached_fails_all_that_wait(core):
    numbers = [core.query(0.0, PEER, ASK) for _ in range(3)]
    core.query(0.0, OTHER, ASK)
    core.drain()
    core.dial_failed(PEER)
    assert failures(core.drain()) == [(number, Unreachable) for number in numbers]
    assert core.sizes()["calls_asked"] == 1


def test_a_lost_link_fails_what_was_under_way_and_is_dialled_for_the_rest(core):
    numbers = [core.query(0.0, PEER, ASK) for _ in range(defaults.CALLS_OPEN + 2)]
    core.link_up(LINK)
    core.drain()
    core.link_down(SECOND)
    assert core.drain() == []
    core.link_down(LINK)
    lost = core.drain()
    assert failures(lost) == [(number, Closed) for number in numbers[: defaults.CALLS_OPEN]]
    assert lost[-1] == Reach(PEER)
    core.link_up(SECOND)
    assert under_way(core.drain()) == numbers[defaults.CALLS_OPEN :]


def test_no_more_is_under_way_than_a_peer_keeps_open_and_no_more_waits_than_is_useful(core):
    numbers = [core.query(0.0, PEER, ASK) for _ in range(defaults.CALLS_OUTSTANDING)]
    with pytest.raises(NoCapacity):
        core.query(0.0, PEER, ASK)
    core.query(0.0, OTHER, ASK)
    core.link_up(LINK)
    assert under_way(core.drain()) == numbers[: defaults.CALLS_OPEN]
    core.answered(LINK, numbers[0], TELL)
    assert under_way(core.drain()) == [numbers[defaults.CALLS_OPEN]]
    core.forget(numbers[1])
    assert under_way(core.drain()) == [numbers[defaults.CALLS_OPEN + 1]]
    core.forget(numbers[-1])
    assert core.drain() == []
    core.query(0.0, PEER, ASK)
    core.query(0.0, PEER, ASK)
    core.query(0.0, PEER, ASK)
    with pytest.raises(NoCapacity):
        core.query(0.0, PEER, ASK)


def test_what_is_forgotten_is_not_told_of(linked):
    core, number = linked
    core.forget(number)
    core.forget(number)
    core.answered(LINK, number, TELL)
    core.handle_timer(10.0)
    assert core.drain() == []
    assert not any(core.sizes().values())


@pytest.mark.parametrize("body", [b"", BUSY, b"text", LARGE])
def test_what_is_no_call_is_not_sent(core, body):
    with pytest.raises(ValueError, match="map"):
        core.query(0.0, PEER, body)
    core.asked(0.0, LINK, 1, ASK)
    (query,) = core.drain()
    with pytest.raises(ValueError, match="map"):
        core.answer(query, body)
    assert core.sizes()["calls_asked"] == core.sizes()["calls_outputs"] == 0


# --- being asked ---


def test_a_peers_query_is_answered_under_its_number(core):
    core.asked(0.0, LINK, 7, ASK)
    (query,) = core.drain()
    assert query == Query(PEER, LINK, 7, ASK)
    core.answer(query, TELL)
    assert core.drain() == [Write(LINK, Message(Kind.ANSWER, 7, TELL))]
    core.answer(query, TELL)
    core.refuse(query, Refusal.BUSY)
    assert core.drain() == []


def test_a_query_can_be_refused(core):
    core.asked(0.0, LINK, 7, ASK)
    core.refuse(core.drain()[0], Refusal.BUSY)
    assert core.drain() == [Write(LINK, Message(Kind.ANSWER, 7, BUSY))]


def test_what_is_never_answered_is_forgotten_after_thirty_seconds(core):
    core.asked(0.0, LINK, 7, ASK)
    (query,) = core.drain()
    assert core.next_deadline() == 30.0
    core.handle_timer(30.0)
    core.answer(query, TELL)
    assert core.drain() == []
    assert core.sizes()["calls_open"] == core.sizes()["calls_links"] == 0


def test_the_answer_to_a_link_that_is_gone_stays_here(core):
    core.asked(0.0, LINK, 7, ASK)
    (query,) = core.drain()
    core.link_down(LINK)
    core.answer(query, TELL)
    assert core.drain() == []
    assert core.sizes()["calls_open"] == 0


def test_more_than_sixteen_at_once_are_refused(core):
    for number in range(20):
        core.asked(0.0, LINK, number, ASK)
    outputs = core.drain()
    queries = [out for out in outputs if isinstance(out, Query)]
    assert len(queries) == defaults.CALLS_OPEN
    assert outputs[16:] == [
        Write(LINK, Message(Kind.ANSWER, number, BUSY)) for number in range(16, 20)
    ]
    core.asked(0.0, Link(OTHER, 9), 1, ASK)
    assert isinstance(core.drain()[0], Query), "another peer is not in their way"
    core.answer(queries[0], TELL)
    core.asked(0.0, LINK, 30, ASK)
    assert isinstance(core.drain()[1], Query)


def test_a_peer_that_asks_too_often_is_refused_even_over_a_new_link(core):
    for number in range(int(defaults.CALL_BURST)):
        core.asked(0.0, LINK, number, ASK)
        core.answer(core.drain()[-1], TELL)
    core.drain()
    core.asked(0.0, LINK, 1_000, ASK)
    core.asked(0.0, SECOND, 1_001, ASK)
    assert [out.message.payload for out in core.drain()] == [BUSY, BUSY]
    core.asked(1 / defaults.CALL_RATE, SECOND, 1_002, ASK)
    assert isinstance(core.drain()[0], Query)


def test_a_call_too_long_or_of_a_number_in_use_breaks_a_rule(core):
    with pytest.raises(CodecError):
        core.asked(0.0, LINK, 1, LARGE)
    core.asked(0.0, LINK, 1, ASK)
    with pytest.raises(CodecError):
        core.asked(0.0, LINK, 1, ASK)
    assert len(core.drain()) == 1
    core.asked(0.0, SECOND, 1, ASK)
    assert len(core.drain()) == 1


def test_no_more_peers_are_remembered_than_the_table_holds(monkeypatch):
    monkeypatch.setattr(defaults, "CALL_PEERS", 3)
    core = Calls()
    for number in range(9):
        core.asked(0.0, Link(AdnlId(number.to_bytes(32, "big")), number), 1, ASK)
        core.drain()
    assert core.sizes()["calls_peers"] == 3


def test_a_link_with_calls_under_way_is_in_use(core):
    assert not core.uses(LINK)
    number = core.query(0.0, PEER, ASK)
    core.link_up(LINK)
    assert core.uses(LINK)
    assert not core.uses(SECOND)
    core.answered(LINK, number, TELL)
    assert not core.uses(LINK)
    core.asked(0.0, LINK, 7, ASK)
    assert core.uses(LINK)
    core.answer(core.drain()[-1], TELL)
    assert not core.uses(LINK)


# --- any order of events ---


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 60)), max_size=120))
def test_every_query_ends_exactly_once_and_nothing_is_left(steps):
    """A random walk over two peers; `owed` are the numbers that still owe their caller a word."""
    core, now, names = Calls(), 0.0, count(1)
    links: dict[AdnlId, Link] = {}
    owed: dict[int, AdnlId] = {}
    told, reached = Counter(), []

    def look():
        for out in core.drain():
            match out:
                case Replied(number, _) | Unanswered(number, _):
                    told[number] += 1
                    del owed[number]
                case Reach(peer):
                    reached.append(peer)
                case Write(link, message):
                    assert links[link.peer] == link
                    assert message.kind == Kind.QUERY

    for action, choice in steps:
        peer = (PEER, OTHER)[choice % 2]
        match action:
            case 0 | 1 | 2:
                if list(owed.values()).count(peer) < defaults.CALLS_OUTSTANDING:
                    owed[core.query(now, peer, ASK)] = peer
            case 3 if owed:
                number = list(owed)[choice % len(owed)]
                if owed[number] in links:
                    core.answered(links[owed[number]], number, (TELL, BUSY, b"")[choice % 3])
            case 4 if owed:
                number = list(owed)[choice % len(owed)]
                core.forget(number)
                del owed[number]
            case 5:
                now += choice / 7
                core.handle_timer(now)
            case 6 if peer in links:
                core.link_down(links.pop(peer))
            case 7:
                core.dial_failed(peer)
        look()
        while reached:  # as a stack does: an open link answers at once, a dial now or never
            peer = reached.pop()
            if peer not in links and choice % 3:
                links[peer] = Link(peer, next(names))
            if peer in links:
                core.link_up(links[peer])
            look()
        deadline = core.next_deadline()
        assert (deadline is None) == (not owed)

    core.handle_timer(now + 10)
    look()
    assert not owed
    assert set(told.values()) <= {1}
    assert core.next_deadline() is None
    assert not any(core.sizes().values())
