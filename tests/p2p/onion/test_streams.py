"""Streams: bytes in order, both ways, whatever the other end says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p import defaults
from p2p.errors import NoCapacity, OnionError
from p2p.onion.cell import MAX_DATA, Cell, Kind
from p2p.onion.streams import Streams


def cells_of(streams):
    cells = []
    while (cell := streams.next()) is not None:
        cells.append(cell)
    return cells


def move(sender, receiver):
    """Every cell of one end to the other; what the other is told."""
    said = [receiver.take(cell) for cell in cells_of(sender)]
    return [cell for cell in said if cell is not None]


def both_ends():
    asker, endpoint = Streams(asker=True), Streams(asker=False)
    asker.send(1, b"question")
    move(asker, endpoint)
    return asker, endpoint


def test_bytes_are_cut_into_full_cells_with_their_places():
    streams = Streams(asker=True)
    streams.send(1, b"x" * (2 * MAX_DATA + 5))
    cells = cells_of(streams)
    assert [(cell.offset, len(cell.data)) for cell in cells] == [
        (0, MAX_DATA),
        (MAX_DATA, MAX_DATA),
        (2 * MAX_DATA, 5),
    ]


def test_end_rides_on_the_last_bytes():
    streams = Streams(asker=True)
    streams.send(1, b"x" * (MAX_DATA + 1))
    streams.end(1)
    assert [cell.kind for cell in cells_of(streams)] == [Kind.DATA, Kind.END]


def test_bytes_that_wait_share_cells():
    streams = Streams(asker=True)
    for _ in range(10):
        streams.send(1, b"token")
    assert [cell.data for cell in cells_of(streams)] == [b"token" * 10]


def test_asker_may_pay_until_the_answer_ends():
    asker, endpoint = both_ends()
    asker.end(1)
    asker.send(1, b"tick")
    kinds = [(cell.kind, cell.data) for cell in move(asker, endpoint)]
    assert kinds == [(Kind.END, b""), (Kind.DATA, b"tick")]

    endpoint.end(1)
    move(endpoint, asker)
    asker.send(1, b"late tick")
    assert cells_of(asker) == []


def test_late_tick_is_ignored_by_an_endpoint_that_has_ended():
    asker, endpoint = both_ends()
    endpoint.end(1)
    asker.send(1, b"tick")
    assert move(asker, endpoint) == []


def test_answer_that_has_ended_takes_no_more():
    _, endpoint = both_ends()
    endpoint.send(1, b"answer")
    endpoint.end(1)
    endpoint.send(1, b"more")
    assert [cell.data for cell in cells_of(endpoint)] == [b"answer"]


def test_reset_drops_what_waits_and_is_heard():
    asker, endpoint = both_ends()
    endpoint.send(1, b"x" * 100_000)
    assert endpoint.writable == defaults.UPLOAD_CAP - 100_000
    endpoint.reset(1, 9)
    assert endpoint.writable == defaults.UPLOAD_CAP
    assert [(cell.kind, cell.data) for cell in move(endpoint, asker)] == [(Kind.RESET, b"\x09")]
    asker.send(1, b"too late")
    assert cells_of(asker) == []


def test_reset_stops_an_answer_that_has_ended_but_not_left():
    asker, endpoint = both_ends()
    endpoint.send(1, b"x" * 100_000)
    endpoint.end(1)
    asker.reset(1, 0)
    move(asker, endpoint)
    assert cells_of(endpoint) == []
    assert endpoint.queued == 0


def test_cells_on_the_way_when_reset_are_ignored():
    asker, endpoint = both_ends()
    endpoint.send(1, b"answer")
    asker.reset(1, 1)
    assert move(endpoint, asker) == []


def test_ping_is_answered_once_at_a_time():
    asker, endpoint = both_ends()
    for _ in range(5):
        asker.ping()
    assert move(asker, endpoint) == []
    assert [cell.kind for cell in move(endpoint, asker)] == [Kind.PONG]
    asker.ping()
    move(asker, endpoint)
    assert [cell.kind for cell in move(endpoint, asker)] == [Kind.PONG]


def test_dummies_say_nothing():
    assert Streams(asker=True).take(Cell(0, Kind.DUMMY, 0, 0, b"")) is None


@pytest.mark.parametrize(
    "cell",
    [
        Cell(1, Kind.DATA, 0, 7, b"gap"),
        Cell(1, Kind.DATA, 0, 9, b"gap"),
        Cell(1, Kind.RESET, 0, 0, b"\0"),
        Cell(3, Kind.DATA, 0, 0, b"skipped 2"),
        Cell(0, Kind.DATA, 0, 0, b"not its own"),
        Cell(1, Kind.PING, 0, 8, b""),
        Cell(65, Kind.DATA, 0, 0, b"too many"),
    ],
    ids=str,
)
def test_cell_that_no_honest_asker_sends_is_an_error(cell):
    _, endpoint = both_ends()
    with pytest.raises(OnionError):
        endpoint.take(cell)


@pytest.mark.parametrize(
    "cell", [Cell(2, Kind.DATA, 0, 0, b"unasked"), Cell(1, Kind.DATA, 0, 1, b"gap")], ids=str
)
def test_cell_that_no_honest_endpoint_sends_is_an_error(cell):
    asker, _ = both_ends()
    with pytest.raises(OnionError):
        asker.take(cell)


def test_second_end_is_an_error():
    _, endpoint = both_ends()
    endpoint.take(Cell(1, Kind.END, 0, 8, b""))
    with pytest.raises(OnionError):
        endpoint.take(Cell(1, Kind.END, 0, 8, b""))


def test_stream_never_wraps():
    _, endpoint = both_ends()
    endpoint._streams[1].received = 2**32 - 1
    with pytest.raises(OnionError):
        endpoint.take(Cell(1, Kind.DATA, 0, 2**32 - 1, b"x"))


def test_streams_are_opened_in_order_by_the_asker():
    streams = Streams(asker=True)
    with pytest.raises(ValueError, match="in order"):
        streams.send(2, b"x")
    with pytest.raises(ValueError, match="asker"):
        Streams(asker=False).send(1, b"x")


def test_circuit_has_64_streams():
    streams = Streams(asker=True)
    for stream in range(1, 65):
        streams.send(stream, b"x")
    with pytest.raises(NoCapacity):
        streams.send(65, b"x")


def test_no_more_waits_than_the_cap():
    streams = Streams(asker=True)
    streams.send(1, bytes(defaults.UPLOAD_CAP))
    with pytest.raises(NoCapacity):
        streams.send(1, b"x")
    streams.next()
    streams.send(1, bytes(MAX_DATA))


class TwoEnds(RuleBasedStateMachine):
    """Streams against the plainest model: what was sent is what is heard, in order, once."""

    def __init__(self):
        super().__init__()
        self.ends = {True: Streams(asker=True), False: Streams(asker=False)}
        self.sent = {True: {}, False: {}}
        self.heard = {True: {}, False: {}}
        self.ended = {True: {}, False: {}}
        self.known = {True: 0, False: 0}

    @rule(data=st.binary(min_size=1, max_size=3_000))
    def ask(self, data):
        self.known[True] += 1
        self._send(True, self.known[True], data)

    @precondition(lambda self: self.known[True] > 0)
    @rule(data=st.binary(max_size=3_000), pick=st.integers(0, 63), asker=st.booleans())
    def say_more(self, data, pick, asker):
        if self.known[asker]:
            stream = 1 + pick % self.known[asker]
            if not self.ended[False].get(stream):
                self._send(asker, stream, data)

    @rule(pick=st.integers(0, 63), asker=st.booleans())
    def end(self, pick, asker):
        if self.known[asker]:
            stream = 1 + pick % self.known[asker]
            self.ends[asker].end(stream)
            self.ended[asker][stream] = True

    @rule(count=st.integers(1, 5), asker=st.booleans())
    def deliver(self, count, asker):
        for _ in range(count):
            cell = self.ends[asker].next()
            if cell is None:
                return
            said = self.ends[not asker].take(Cell.unpack(cell.pack(4)))
            if not asker or said is not None:
                self.known[not asker] = max(self.known[not asker], cell.stream)
            if said is not None:
                heard = self.heard[asker]
                heard[said.stream] = heard.get(said.stream, b"") + said.data

    def _send(self, asker, stream, data):
        self.ends[asker].send(stream, data)
        self.sent[asker][stream] = self.sent[asker].get(stream, b"") + data

    @invariant()
    def nothing_is_heard_that_was_not_sent(self):
        for asker in (True, False):
            for stream, heard in self.heard[asker].items():
                assert self.sent[asker].get(stream, b"").startswith(heard)

    def teardown(self):
        self.deliver(10_000, False)
        for stream, sent in self.sent[False].items():
            assert self.heard[False].get(stream, b"") == sent


TestTwoEnds = TwoEnds.TestCase


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(Kind)), st.binary(max_size=10))
def test_any_cell_is_an_error_or_no_trouble(offset, kind, data):
    _, endpoint = both_ends()
    try:
        endpoint.take(Cell(offset % 70, kind, 0, offset, data))
    except OnionError:
        return
    assert endpoint.queued == 0
