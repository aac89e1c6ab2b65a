"""Frames of a link: cutting and joining, credit, and what goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p import codec
from p2p.defaults import LINK_CREDIT, LINK_QUEUE
from p2p.errors import CodecError
from p2p.transport import frames
from p2p.wire import FRAME, MAX_MESSAGE, MAX_PAYLOAD, Kind, Message, pack

KINDS = st.sampled_from([Kind.MESSAGE, Kind.QUERY, Kind.ANSWER])
NUMBERS = st.integers(0, 2**64 - 1)
EDGE = frames.PIECE
SIZES = st.sampled_from([0, 1, EDGE - 1, EDGE, EDGE + 1, 2 * EDGE, 2 * EDGE + 1, MAX_MESSAGE])


def bodies(message):
    unframer = codec.Unframer(frames.MAX_BODY)
    for frame in frames.cut(message):
        unframer.feed(frame)
    return list(unframer)


def joined(bodies):
    joiner = frames.Joiner()
    return [message for body in bodies if (message := joiner.add(body)) is not None]


@given(KINDS, NUMBERS, SIZES)
def test_what_is_cut_is_joined_to_the_same(kind, number, size):
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    message = pack(Message(kind, number, payload))
    assert joined(bodies(message)) == [message]
    assert all(len(frame) <= frames.MAX_WRITE for frame in frames.cut(message))


def test_onion_messages_may_stand_between_pieces():
    long, onion = (
        pack(Message(Kind.QUERY, 1, bytes(200_000))),
        pack(Message(Kind.ONION, 0, bytes(FRAME))),
    )
    first, *rest = bodies(long)
    assert joined([first, onion, *rest, onion]) == [onion, long, onion]


def test_the_longest_message_is_joined_and_one_byte_more_is_refused():
    head = bytes([Kind.ANSWER | frames.MORE]) + bytes(8)
    whole = [head + bytes(MAX_PAYLOAD)] * (MAX_MESSAGE // MAX_PAYLOAD)
    last = bytes([Kind.ANSWER]) + bytes(8)
    assert joined([*whole, last]) == [last + bytes(MAX_MESSAGE)]
    with pytest.raises(CodecError):
        joined([*whole, last + b"x"])


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1), st.binary(max_size=3))))
def test_no_frames_make_the_joiner_raise_anything_else(some):
    joiner = frames.Joiner()
    for kind, number, payload in some:
        body = bytes([kind]) + number.to_bytes(8, "little") + payload
        try:
            message = joiner.add(body)
        except CodecError:
            return
        assert message is None or message[0] & frames.MORE == 0


@given(st.binary(max_size=64))
def test_no_greeting_makes_the_check_raise_anything_else(payload):
    body = bytes([Kind.HELLO]) + bytes(8) + payload
    with pytest.raises(CodecError):
        frames.check_hello(body, 1, bytes(32))


class Writing(RuleBasedStateMachine):
    """Two ends joined by a pipe that a test empties: nothing lost, no bound broken."""

    def __init__(self):
        super().__init__()
        self.outbox, self.intake, self.joiner = frames.Outbox(), frames.Intake(), frames.Joiner()
        self.unframer = codec.Unframer(frames.MAX_BODY)
        self.outbox.greet(frames.hello(1, bytes(32)))
        self.greeted = False
        self.onion, self.rest = [], []
        self.queued = 0

    @rule(kind=KINDS, number=st.integers(0, 3), size=st.integers(0, 300_000))
    def put(self, kind, number, size):
        message = pack(Message(kind, number, bytes(size)))
        if self.outbox.put(message):
            self.rest.append(message)
        else:
            assert self.outbox.messages > 0

    @rule(count=st.integers(1, 54))
    def put_onion(self, count):
        message = pack(Message(Kind.ONION, 0, bytes(count * FRAME)))
        if self.outbox.put(message):
            self.onion.append(message)

    @rule(number=st.integers(0, 9))
    def own(self, number):
        self.outbox.ping(number)
        self.outbox.pong(number)

    @rule()
    def write(self):
        data = self.outbox.next_write()
        assert len(data) <= frames.MAX_WRITE
        self.unframer.feed(data)
        for body in self.unframer:
            self.arrive(body)

    def arrive(self, body):
        if not self.greeted:
            frames.check_hello(body, 1, bytes(32))
            self.greeted = True
        elif body[0] & ~frames.MORE in frames.FROM_CORES:
            self.intake.arrived(body)
            if (message := self.joiner.add(body)) is not None:
                lane = self.onion if message[0] == Kind.ONION else self.rest
                assert lane.pop(0) == message
        else:
            assert body[0] in (Kind.PING, Kind.PONG)

    @rule()
    def return_credit(self):
        if due := self.intake.due():
            assert due >= LINK_CREDIT // 2
            self.outbox.granted(due)

    @invariant()
    def the_count_is_right(self):
        assert self.outbox.messages == len(self.onion) + len(self.rest)

    @precondition(lambda self: len(self.rest) < 4)
    @rule()
    def everything_gets_through(self):
        while self.onion or self.rest:
            self.write()
            self.return_credit()


test_writing = Writing.TestCase


def test_nothing_leaves_before_the_greeting():
    outbox = frames.Outbox()
    outbox.put(pack(Message(Kind.MESSAGE, 0, b"")))
    outbox.ping(1)
    assert outbox.next_write() == b""
    outbox.greet(b"hello")
    assert outbox.next_write().startswith(b"hello")


def test_without_credit_only_the_carriers_own_frames_leave():
    outbox = frames.Outbox()
    outbox.greet(b"")
    message = pack(Message(Kind.MESSAGE, 0, bytes(60_000)))
    for _ in range(5):
        outbox.put(message)
    assert [bool(outbox.next_write()) for _ in range(5)] == [True, True, True, True, False]
    outbox.ping(7)
    assert frames.split(outbox.next_write()[4:]) == (Kind.PING, 7, b"")
    outbox.granted(240_052)
    assert len(outbox.next_write()) == len(message) + 4


def test_a_full_queue_takes_no_more_and_has_room_again_once_written():
    outbox = frames.Outbox()
    outbox.greet(b"")
    message = pack(Message(Kind.MESSAGE, 0, bytes(60_000)))
    while outbox.put(message):
        assert outbox.messages * len(message) <= LINK_QUEUE
    assert outbox.messages == LINK_QUEUE // (len(message) + 4)
    outbox.next_write()
    assert outbox.put(message)


def test_a_farewell_is_the_last_frame():
    outbox = frames.Outbox()
    outbox.greet(b"")
    outbox.put(pack(Message(Kind.MESSAGE, 0, b"last")))
    outbox.bye()
    unframer = codec.Unframer(frames.MAX_BODY)
    unframer.feed(outbox.next_write())
    assert [body[0] for body in unframer] == [Kind.MESSAGE, Kind.BYE]
    assert outbox.finished
    assert outbox.next_write() == b""


def test_credit_is_owed_from_half_on():
    intake, body = frames.Intake(), bytes(LINK_CREDIT // 4 - 4)
    intake.arrived(body)
    assert intake.due() == 0
    intake.arrived(body)
    assert intake.due() == LINK_CREDIT // 2
    assert intake.due() == 0
