"""What a peer can send, and what it cannot bring about with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p import tl
from p2p.entropy import seeded
from p2p.errors import RemoteError, TlError
from p2p.identity import AdnlId
from p2p.rldp import receiving
from p2p.rldp.core import RldpCore
from p2p.rldp.events import Answered, Drop, Failed, Message, Payload
from p2p.rldp.fec import limit_of, symbols_of
from p2p.rldp.receiving import MEMORY, OVERHEAD, TRANSFERS, UNASKED_MEMORY, UNSOLICITED
from p2p.rldp.transfer import HEAD_SIZE, PART_SIZE, SEQNO_END
from p2p.ton import (
    AdnlPing,
    FecRaptorQ,
    Rldp2Complete,
    Rldp2Confirm,
    Rldp2MessagePart,
    RldpAnswer,
    RldpMessage,
    RldpQuery,
)
from tests.p2p.rldp.pipe import T0, A, B, Pipe

ID = b"i" * 32


def symbol(total=3_000, part=0, seqno=0, transfer=ID, **changes):
    """A message with a symbol as it should be, but for the changes."""
    size = min(PART_SIZE, total - part * PART_SIZE)
    fec = {"data_size": size, "symbol_size": 768, "symbols_count": symbols_of(size)}
    data = changes.pop("data", bytes(768))
    fec |= changes
    return tl.pack(
        Rldp2MessagePart(transfer, FecRaptorQ(**fec), part, total, seqno, data), boxed=True
    )


def dropped(core):
    return {reason: count for reason, count in core.statistics().drops.items() if count}


@pytest.fixture
def core():
    return RldpCore(seeded(1))


# --- symbols ---


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", Drop.UNKNOWN),
        (b"junk", Drop.UNKNOWN),
        (tl.pack(AdnlPing(1)), Drop.UNKNOWN),
        (tl.pack(RldpMessage(ID, b"bare")), Drop.UNKNOWN),
        (symbol()[:-1], Drop.SYMBOL),
        (symbol() + b"\0", Drop.SYMBOL),
        (symbol(data=bytes(764)), Drop.SYMBOL),
        (symbol(data=bytes(772)), Drop.SYMBOL),
        (symbol(symbol_size=764), Drop.SYMBOL),
        (symbol(symbols_count=5), Drop.SYMBOL),
        (symbol(symbols_count=2**31 - 1), Drop.SYMBOL),
        (symbol(data_size=2_999), Drop.SYMBOL),
        (symbol(total=0, data_size=0, symbols_count=0), Drop.SYMBOL),
        (symbol(total=-5, data_size=768, symbols_count=1), Drop.SYMBOL),
        (symbol(part=1), Drop.SYMBOL),
        (symbol(part=-1), Drop.SYMBOL),
        (symbol(total=2**62), Drop.TOO_BIG),
        (symbol(total=UNSOLICITED + OVERHEAD + 1), Drop.TOO_BIG),
        (symbol(seqno=-1), Drop.SEQNO),
        (symbol(seqno=limit_of(3_000)), Drop.SEQNO),
        (symbol(seqno=2**31 - 1), Drop.SEQNO),
    ],
)
def test_lie_is_dropped_and_counted(core, message, reason):
    core.receive(T0, A, message)
    assert dropped(core) == {reason: 1}
    assert core.drain() == []
    assert core.sizes()["rldp_symbols"] == 0


def test_symbol_that_contradicts_its_transfer_is_dropped(core):
    core.receive(T0, A, symbol(total=3_000))
    core.receive(T0, A, symbol(total=3_001, seqno=1))
    assert dropped(core) == {Drop.SYMBOL: 1}
    core.receive(T0, B, symbol(total=3_001, seqno=1))
    assert core.sizes()["rldp_incoming"] == 2


def test_same_symbol_twice_is_neither_news_nor_a_lie(core):
    core.receive(T0, A, symbol())
    core.receive(T0, A, symbol(data=b"x" * 768))
    assert dropped(core) == {}
    assert core.statistics().symbols_received == 1


def test_parts_are_open_in_order_and_four_at_most(core):
    core.allow(A, 12 * PART_SIZE)
    for part in (3, 4, 9, 0, 1, 2):
        core.receive(T0, A, symbol(total=10 * PART_SIZE, part=part))
    assert dropped(core) == {Drop.PART: 2}
    assert core.sizes()["rldp_parts"] == 4


def test_one_peer_opens_sixteen_transfers_unasked(core):
    for number in range(TRANSFERS + 3):
        core.receive(T0, A, symbol(transfer=bytes([number]) * 32))
    assert dropped(core) == {Drop.TOO_MANY: 3}
    assert core.sizes()["rldp_incoming"] == TRANSFERS
    core.receive(T0, B, symbol())
    assert core.sizes()["rldp_incoming"] == TRANSFERS + 1


def test_many_peers_share_half_of_the_memory(core):
    for number in range(4_000):
        peer = AdnlId(number.to_bytes(32, "big"))
        core.receive(T0, peer, symbol(total=UNSOLICITED))
    assert core.sizes()["rldp_reserved"] <= UNASKED_MEMORY
    assert dropped(core)[Drop.MEMORY] > 1_000
    while (when := core.next_deadline()) is not None:
        core.handle_timer(when)
    assert core.sizes()["rldp_reserved"] == core.sizes()["rldp_incoming_peers"] == 0


def test_answers_share_all_of_it(core):
    for _ in range(8):
        core.query(T0, B, b"?", timeout=9, max_answer=2**24 - 1)
    answers = list(core._receiving._peers[B].expected)
    for answer in answers:
        core.receive(T0, B, symbol(total=2**24, transfer=answer))
    assert dropped(core) == {Drop.MEMORY: 8 - MEMORY // (2**24 + receiving.COST)}


def test_transfers_that_are_over_are_remembered_for_a_while(core):
    assert receiving.DONE_KEPT == 128
    for number in range(200):
        done = symbol(total=4, transfer=number.to_bytes(32, "big"))
        core.receive(T0, A, done)
    assert core.sizes()["rldp_done"] == 200
    core.receive(T0 + 21, A, symbol(total=4, transfer=b"z" * 32))
    assert core.sizes()["rldp_done"] == 128


# --- what is in them ---


def deliver(core, content, now=T0, transfer=ID):
    for seqno in range(symbols_of(len(content))):
        piece = content[seqno * 768 : (seqno + 1) * 768].ljust(768, b"\0")
        core.receive(now, A, symbol(total=len(content), seqno=seqno, transfer=transfer, data=piece))
    return [output for output in core.drain() if not isinstance(output, Payload)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"junk", Drop.CONTENT),
        (bytes(1_000), Drop.CONTENT),
        (tl.pack(AdnlPing(1)), Drop.CONTENT),
        (tl.pack(RldpAnswer(ID, b"to nothing")), Drop.CONTENT),
        (tl.pack(RldpMessage(ID, b"x")) + b"more", Drop.CONTENT),
        (tl.pack(RldpQuery(ID, 99, int(T0), b"?")), Drop.EXPIRED),
        (tl.pack(RldpQuery(ID, 99, -1, b"?")), Drop.EXPIRED),
    ],
)
def test_content_that_is_none_is_dropped(core, content, reason):
    assert deliver(core, content) == []
    assert dropped(core) == {reason: 1}


@pytest.mark.parametrize("limit", [-(2**63), -1, 0, 43, 2**63 - 1])
def test_limit_of_an_answer_is_whatever_a_peer_says(core, limit):
    (query,) = deliver(core, tl.pack(RldpQuery(ID, limit, int(T0) + 9, b"?")))
    assert 0 <= query.max_answer <= 2**24 - 1
    core.answer(T0, query.token, bytes(min(query.max_answer, 5_000)))
    assert core.statistics().answers_refused == (limit < 40)


@pytest.mark.parametrize(
    "content", [b"junk", tl.pack(RldpAnswer(bytes(32), b"")), tl.pack(RldpMessage(ID, b""))]
)
def test_answer_that_is_none_fails_its_query(core, content):
    ticket = core.query(T0, A, b"?", timeout=9, max_answer=5_000)
    (answer,) = core._receiving._peers[A].expected
    (failed,) = deliver(core, content, transfer=answer)
    assert failed.ticket == ticket
    assert isinstance(failed.error, TlError)


def test_answer_counts_from_the_peer_that_was_asked_alone(core):
    ticket = core.query(T0, B, b"?", timeout=9, max_answer=5_000)
    query = core._queries[ticket]
    answer = tl.pack(RldpAnswer(query.id, b"forged"))
    assert deliver(core, answer, transfer=query.answer) == []
    assert dropped(core) == {Drop.CONTENT: 1}


def test_symbols_that_never_decode_end_their_transfer(core, monkeypatch):
    monkeypatch.setattr("p2p.rldp.fec.Decoder._solve", lambda decoder: None)
    core.query(T0, A, b"?", timeout=9, max_answer=5_000)
    (answer,) = core._receiving._peers[A].expected
    for seqno in range(4, 20):
        core.receive(T0, A, symbol(seqno=seqno))
        core.receive(T0, A, symbol(seqno=seqno, transfer=answer))
    assert dropped(core) == {Drop.UNDECODABLE: 1}
    (failed,) = [output for output in core.drain() if isinstance(output, Failed)]
    assert type(failed.error) is RemoteError
    assert core.sizes()["rldp_symbols"] == 0


# --- confirms ---


@pytest.fixture
def sending(core):
    """A core that has sent 15 symbols of a message to A, and its transfer."""
    core.send(T0, A, bytes(50_000))
    assert core.statistics().symbols_sent == 15
    (transfer,) = core._paths._paths[A].under_way()
    core.drain()
    return core, transfer


@pytest.mark.parametrize(
    ("confirm", "reason"),
    [
        ((0, 16, 1, 1), Drop.MISLED),
        ((0, 15, 1, 16), Drop.MISLED),
        ((0, 4, 0x1F, 5), Drop.MISLED),
        ((0, 15, -1, 15), Drop.MISLED),
        ((0, -1, 0, 0), Drop.MISLED),
        ((0, 2**31 - 1, -1, 2**31 - 1), Drop.MISLED),
        ((1, 1, 1, 1), Drop.MISLED),
        ((-1, 1, 1, 1), Drop.MISLED),
    ],
)
def test_confirm_of_what_was_never_sent_is_dropped(sending, confirm, reason):
    core, transfer = sending
    core.receive(T0 + 0.1, A, tl.pack(Rldp2Confirm(transfer, *confirm)))
    assert dropped(core) == {reason: 1}
    assert core.drain() == []


def test_completion_of_what_was_never_sent_is_dropped(sending):
    core, transfer = sending
    core.receive(T0, A, tl.pack(Rldp2Complete(transfer, 1)))
    core.receive(T0, A, tl.pack(Rldp2Complete(b"x" * 32, 0)))
    core.receive(T0, B, tl.pack(Rldp2Complete(transfer, 0)))
    assert dropped(core) == {Drop.MISLED: 1, Drop.LATE: 2}
    assert core.sizes()["rldp_outgoing"] == 1
    core.receive(T0, A, tl.pack(Rldp2Complete(transfer, 0)))
    core.receive(T0, A, tl.pack(Rldp2Complete(transfer, 0)))
    assert dropped(core) == {Drop.MISLED: 1, Drop.LATE: 3}
    assert core.sizes()["rldp_outgoing"] == 0


def seqnos(core):
    """Numbers of the symbols that the core wants carried."""
    return [
        int.from_bytes(output.data[HEAD_SIZE:SEQNO_END], "little")
        for output in core.drain()
        if isinstance(output, Payload)
    ]


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        (lambda sent: -1 if sent >= 32 else (1 << sent) - 1, lambda sent: sent),
        (lambda sent: 0, lambda sent: sent),
        (lambda sent: 0, lambda sent: 0),
    ],
    ids=["all is here", "all is here, unnamed", "all is lost"],
)
def test_peer_that_never_completes_ends_nothing_but_its_transfer(sending, name, counted):
    core, transfer = sending
    sent, now = 15, T0
    while core.sizes()["rldp_outgoing"]:
        now += 0.05
        confirm = Rldp2Confirm(transfer, 0, sent, name(sent), counted(sent))
        core.receive(now, A, tl.pack(confirm))
        while (when := core.next_deadline()) is not None and when <= now:
            core.handle_timer(now)
        sent = max([sent, *(seqno + 1 for seqno in seqnos(core))])
    assert sent <= 4 * symbols_of(50_100) + 64
    assert dropped(core) == ({Drop.MISLED: 1} if counted(sent) == sent else {})
    assert core.sizes()["rldp_outgoing_bytes"] == 0


def test_symbols_that_are_counted_before_they_are_named_slow_nothing_down(sending):
    core, transfer = sending
    core.receive(T0 + 0.01, A, tl.pack(Rldp2Confirm(transfer, 0, 15, 0, 15)))
    sent = 1 + max(seqnos(core))
    core.receive(T0 + 0.02, A, tl.pack(Rldp2Confirm(transfer, 0, sent, 1, 15)))
    core.handle_timer(core.next_deadline())
    assert seqnos(core)


# --- anything at all ---

SMALL = st.integers(-2, 40)
WILD = st.one_of(SMALL, st.integers(-(2**31), 2**31 - 1))
IDS = st.sampled_from([b"1" * 32, b"2" * 32, b"3" * 32])
FEC = st.builds(FecRaptorQ, WILD, st.sampled_from([0, 767, 768]), WILD)
TOTALS = st.one_of(st.integers(-1, 9_000), st.integers(-(2**63), 2**63 - 1))
HONEST = st.builds(symbol, st.integers(1, 9_000), st.just(0), SMALL, IDS)
FALSE = st.builds(
    Rldp2MessagePart, IDS, FEC, WILD, TOTALS, WILD, st.sampled_from([b"", bytes(768)])
).map(tl.pack)
CONFIRMS = st.builds(Rldp2Confirm, IDS, WILD, WILD, WILD, WILD).map(tl.pack)
COMPLETES = st.builds(Rldp2Complete, IDS, WILD).map(tl.pack)
ANYTHING = st.one_of(st.binary(max_size=900), HONEST, FALSE, CONFIRMS, COMPLETES)


@settings(max_examples=60)
@given(st.lists(st.tuples(ANYTHING, st.floats(0, 3)), max_size=40), st.integers(0, 999))
def test_nothing_that_arrives_raises_or_grows(messages, seed):
    pipe = Pipe(seed=seed, answer=lambda data: data)
    pipe.a.query(T0, B, b"?" * 3_000, timeout=60, max_answer=3_000)
    pipe.run(0.005)
    ids = [*pipe.a._paths._paths[B].under_way(), *pipe.a._receiving._peers[B].expected]
    for message, wait in messages:
        for old, new in zip((b"1" * 32, b"2" * 32), ids, strict=False):
            message = message.replace(old, new)
        pipe.a.receive(pipe.now, B, message)
        pipe.run(wait)
        sizes = pipe.a.sizes()
        assert sizes["rldp_reserved"] <= MEMORY
        assert sizes["rldp_incoming"] <= TRANSFERS + 1
    pipe.run(120)
    assert len(pipe.told((Answered, Failed))) == 1
    sizes = pipe.a.sizes()
    assert sizes["rldp_reserved"] == sizes["rldp_symbols"] == sizes["rldp_outgoing_bytes"] == 0
    assert pipe.a.next_deadline() is None


@settings(max_examples=25)
@given(st.lists(ANYTHING, max_size=60), st.integers(0, 999))
def test_honest_peer_is_served_whatever_another_one_sends(messages, seed):
    pipe = Pipe(seed=seed)
    pipe.b.allow(A, 9_000)
    pipe.a.send(T0, B, b"honest" * 1_400)
    other = AdnlId(b"o" * 32)
    for message in messages:
        pipe.b.receive(pipe.now, other, message)
        pipe.run(0.002)
    pipe.run(5.0)
    assert Message(A, b"honest" * 1_400) in pipe.told(Message)
