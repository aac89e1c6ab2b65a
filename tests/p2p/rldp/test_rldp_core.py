"""Two cores over a path: what is sent arrives, in time, and costs little more than itself."""

import gc

import pytest

from p2p.entropy import seeded
from p2p.errors import AnswerTooBig, Closed, NoCapacity, Timeout
from p2p.identity import AdnlId
from p2p.rldp import paths
from p2p.rldp.core import ASKED, RldpCore
from p2p.rldp.events import Answered, Drop, Failed, Message, Payload, Query, Token
from p2p.rldp.paths import PER_PEER
from p2p.rldp.receiving import LIFE, UNSOLICITED
from p2p.ton import Rldp2Complete, Rldp2Confirm
from tests.p2p.rldp.pipe import T0, A, B, Path, Pipe

LARGEST = 2**24 - 1
CONTENT = seeded(0).token(1_000) * 17_000

SMALL = [1, 767, 768, 769, 1_024]
PART = [1_999_960 - 1, 1_999_960, 1_999_960 + 1]
"""with what is around it, the second is a part exactly"""
LARGE = [1_999_999, 2_000_000, 2_000_001, 3 * 2**20, LARGEST]


def download(size, path=None, seed=1):
    """B answers `size` bytes; the pipe once A has them."""
    pipe = Pipe(path, seed, answer=lambda data: CONTENT[:size])
    pipe.a.query(T0, B, b"?", timeout=60, max_answer=size)
    pipe.run(until=lambda: pipe.told((Answered, Failed)))
    return pipe


def upload(size, path=None, seed=1):
    """A asks with `size` bytes; the pipe once it is answered."""
    pipe = Pipe(path, seed, answer=lambda data: b"!")
    pipe.b.allow(A, size)
    pipe.a.query(T0, B, CONTENT[:size], timeout=60, max_answer=1)
    pipe.run(until=lambda: pipe.told((Answered, Failed)))
    return pipe


def check_download(size, path):
    pipe = download(size, path)
    assert [event.data == CONTENT[:size] for event in pipe.told(Answered)] == [True]
    return pipe


def check_upload(size, path):
    pipe = upload(size, path)
    assert [event.data == CONTENT[:size] for event in pipe.told(Query)] == [True]
    assert [event.data for event in pipe.told(Answered)] == [b"!"]
    return pipe


BOTH = pytest.mark.parametrize("check", [check_download, check_upload])


@BOTH
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("size", SMALL)
def test_few_bytes_arrive(check, size, loss):
    for seed in range(3):
        check(size, Path(loss=loss, latency=0.02 + 0.01 * seed))


@BOTH
@pytest.mark.parametrize("size", PART)
def test_bytes_around_a_part_arrive(check, size):
    check(size, Path(loss=0.1))


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("size", LARGE)
def test_many_bytes_arrive(check, size, loss):
    check(size, Path(loss=loss))


@BOTH
@pytest.mark.parametrize("path", [Path(jitter=0.03), Path(duplicates=0.3, jitter=0.01, loss=0.05)])
def test_order_and_copies_do_not_matter(check, path):
    pipe = check(300_000, path)
    pipe.run(5.0)
    assert len(pipe.told(Query)) == len(pipe.told(Answered)) == 1


# --- what it costs ---


@pytest.mark.parametrize(("loss", "extra"), [(0.0, 0.02), (0.1, 0.16), (0.3, 0.55)])
def test_symbols_sent_are_those_needed_and_what_the_path_loses(loss, extra):
    pipe = download(3 * 2**20, Path(loss=loss))
    pipe.run(1.0)
    sent = pipe.b.statistics()
    assert sent.symbols_needed == 4_097
    assert sent.symbols_sent <= (1 + extra) * sent.symbols_needed
    assert pipe.a.statistics().symbols_received <= 1.01 * sent.symbols_needed


@pytest.mark.parametrize(("size", "most"), [(1, 5), (8_193, 20), (50_000, 100)])
def test_short_transfer_over_an_unknown_path_costs_little(size, most):
    pipe = download(size)
    pipe.run(1.0)
    assert pipe.b.statistics().symbols_sent <= most
    assert pipe.a.statistics().symbols_sent <= 5
    assert pipe.carried[B] <= most + 3


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_transfer_takes_most_of_what_the_path_bears(loss):
    path = Path(rate=1e6, latency=0.03, loss=loss)
    pipe = download(2_000_000, path)
    symbols = 2_606 * (840 + 150) / path.rate
    assert pipe.now - T0 <= 1.25 * symbols / (1 - loss)


def test_two_transfers_share_the_path():
    pipe = Pipe(Path(rate=1e6), answer=lambda data: CONTENT[: int(data)])
    pipe.a.query(T0, B, b"1500000", timeout=60, max_answer=LARGEST)
    pipe.run(0.5)
    pipe.a.query(pipe.now, B, b"60000", timeout=60, max_answer=LARGEST)
    begun = pipe.now
    pipe.run(until=lambda: pipe.told(Answered))
    assert len(pipe.told(Answered)[0].data) == 60_000
    assert pipe.now - begun < 0.4


# --- a path that fails for a while ---


def test_transfer_survives_a_path_that_is_dead_for_seconds():
    path = Path(rate=1e6)
    pipe = Pipe(path, answer=lambda data: CONTENT[:400_000])
    pipe.a.query(T0, B, b"?", timeout=60, max_answer=LARGEST)
    pipe.run(0.2)
    assert not pipe.told(Answered)
    path.loss = 1.0
    sent = pipe.b.statistics().symbols_sent
    pipe.run(5.0)
    assert pipe.b.statistics().symbols_sent - sent <= 100
    path.loss = 0.0
    pipe.run(2.0, until=lambda: pipe.told(Answered))
    assert [event.data for event in pipe.told(Answered)] == [CONTENT[:400_000]]


def test_peer_that_hears_but_is_not_heard_is_left_alone_in_the_end():
    pipe = Pipe(Path(loss=1.0))
    ticket = pipe.a.query(T0, B, b"?", timeout=20, max_answer=1)
    pipe.run()
    (failed,) = pipe.told(Failed)
    assert failed.ticket == ticket
    assert isinstance(failed.error, Timeout)
    assert pipe.now == T0 + 20
    assert pipe.a.statistics().symbols_sent <= 50
    assert pipe.a.next_deadline() is None


def test_lost_completes_are_told_again():
    pipe = Pipe()
    pipe.keep = lambda data: not data.startswith(Rldp2Complete.tl.id)
    pipe.a.send(T0, B, CONTENT[:5_000])
    pipe.run(0.5)
    assert len(pipe.told(Message)) == 1
    assert pipe.a.sizes()["rldp_outgoing"] == 1
    pipe.keep = lambda data: True
    pipe.run(2.0)
    assert pipe.a.sizes()["rldp_outgoing"] == 0
    assert len(pipe.told(Message)) == 1


def test_lost_confirms_are_told_again_and_then_asked_for():
    pipe = Pipe()
    pipe.keep = lambda data: not data.startswith(Rldp2Confirm.tl.id)
    pipe.a.send(T0, B, CONTENT[:15_000])
    pipe.run(3.0)
    assert len(pipe.told(Message)) == 1
    assert pipe.a.sizes()["rldp_outgoing"] == 0


# --- queries ---


def test_query_and_answer_name_each_other():
    pipe = Pipe(answer=lambda data: data.upper())
    tickets = {pipe.a.query(T0, B, word, timeout=5, max_answer=9): word for word in (b"x", b"yz")}
    pipe.run(1.0)
    assert {event.ticket: event.data.lower() for event in pipe.told(Answered)} == tickets
    for core in pipe.cores.values():
        kept = {name: size for name, size in core.sizes().items() if size}
        assert kept.keys() <= {"rldp_paths", "rldp_done"}
        assert core.next_deadline() is None


def test_message_is_told_and_not_answered():
    pipe = Pipe()
    pipe.a.send(T0, B, b"hello")
    pipe.run(1.0)
    assert pipe.events == [(B, Message(A, b"hello"))]


def test_query_that_is_not_answered_ends_in_time():
    pipe = Pipe()
    ticket = pipe.a.query(T0, B, b"?", timeout=3, max_answer=9)
    pipe.run()
    assert [event.ticket for event in pipe.told(Failed)] == [ticket]
    assert pipe.now == T0 + 3
    (query,) = pipe.told(Query)
    pipe.b.answer(pipe.now, query.token, b"late")
    assert pipe.b.drain() == []
    assert pipe.b.statistics().answers_refused == 1


@pytest.mark.parametrize("timeout", [5.0, 600.0])
def test_query_of_a_peer_is_kept_a_minute_at_most(timeout):
    pipe = Pipe()
    pipe.a.query(T0, B, b"?", timeout=timeout, max_answer=9)
    pipe.run(1.0)
    assert pipe.b.sizes()["rldp_asked"] == 1
    pipe.run(min(timeout, 60.0))
    assert pipe.b.sizes()["rldp_asked"] == 0


def test_cancelled_query_says_nothing_and_its_answer_is_cut_short():
    pipe = Pipe(Path(rate=1e6), answer=lambda data: CONTENT[:2_000_000])
    ticket = pipe.a.query(T0, B, b"?", timeout=60, max_answer=LARGEST)
    pipe.run(0.3)
    pipe.a.cancel(pipe.now, ticket)
    pipe.a.cancel(pipe.now, ticket)
    pipe.run(1.0)
    assert pipe.told((Answered, Failed)) == []
    assert pipe.b.sizes()["rldp_outgoing"] == 0
    assert pipe.a.sizes()["rldp_reserved"] == 0


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_answer_as_large_as_was_asked_for_is_taken_and_no_larger_is_sent(size):
    pipe = download(size)
    assert [event.data for event in pipe.told(Answered)] == [CONTENT[:size]]

    pipe = Pipe(answer=lambda data: CONTENT[: size + 65])
    pipe.a.query(T0, B, b"?", timeout=2, max_answer=size)
    pipe.run()
    assert pipe.b.statistics().answers_refused == 1
    assert isinstance(pipe.told(Failed)[0].error, Timeout)


def test_answer_that_is_larger_all_the_same_fails_its_query_at_once():
    pipe = Pipe(answer=lambda data: CONTENT[:5_000])
    pipe.a.query(T0, B, b"?", timeout=60, max_answer=5_000)
    (transfer,) = pipe.a._receiving._peers[B].expected
    pipe.a._receiving.expect(B, transfer, 3_000)
    pipe.run(1.0)
    assert isinstance(pipe.told(Failed)[0].error, AnswerTooBig)
    assert pipe.b.sizes()["rldp_outgoing"] == 0


def test_forgotten_peer_ends_all_that_is_under_way():
    pipe = Pipe(Path(rate=1e6), answer=lambda data: CONTENT[:1_000_000])
    pipe.a.query(T0, B, b"?", timeout=60, max_answer=LARGEST)
    pipe.run(0.2)
    pipe.a.send(pipe.now, B, b"and")
    pipe.a.forget(pipe.now, B)
    pipe.b.forget(pipe.now, A)
    pipe.run(0.0)
    assert isinstance(pipe.told(Failed)[0].error, Closed)
    for core in pipe.cores.values():
        assert not any(size for name, size in core.sizes().items() if name != "rldp_done")


# --- what may come unasked ---


@pytest.mark.parametrize("size", [UNSOLICITED, UNSOLICITED + 1_000])
def test_peer_may_send_16_kib_unasked_and_more_if_it_is_allowed(size):
    pipe = Pipe()
    pipe.a.send(T0, B, CONTENT[:size])
    pipe.run()
    assert len(pipe.told(Message)) == (size <= UNSOLICITED)

    pipe = Pipe()
    pipe.b.allow(A, size)
    pipe.a.send(T0, B, CONTENT[:size])
    pipe.run()
    assert pipe.told(Message) == [Message(A, CONTENT[:size])]


def test_transfer_that_nobody_asked_for_lives_ten_seconds():
    pipe = Pipe()
    pipe.a.send(T0, B, CONTENT[:3_000])
    payloads = [output.data for output in pipe.a.drain() if isinstance(output, Payload)]
    pipe.b.receive(T0, A, payloads[0])
    assert pipe.b.sizes()["rldp_incoming"] == 1
    while (when := pipe.b.next_deadline()) is not None:
        pipe.b.handle_timer(when)
    assert when is None
    assert pipe.b._now == T0 + LIFE
    assert pipe.b.sizes()["rldp_incoming"] == pipe.b.sizes()["rldp_reserved"] == 0
    pipe.b.drain()
    pipe.b.receive(T0 + LIFE + 1, A, payloads[1])
    (told,) = pipe.b.drain()
    assert told.data.startswith(Rldp2Complete.tl.id), "it is not begun anew"


# --- bounds ---


def test_bounds_of_our_own_are_told_to_the_caller():
    core = RldpCore(seeded(1))
    for _ in range(PER_PEER):
        core.send(T0, B, b"x")
    with pytest.raises(NoCapacity):
        core.send(T0, B, b"x")
    with pytest.raises(NoCapacity):
        core.query(T0, B, b"x", timeout=1, max_answer=1)
    core.send(T0, A, b"x")
    with pytest.raises(ValueError, match="bytes"):
        core.send(T0, A, bytes(2**24))


def test_memory_of_what_is_sent_is_bounded():
    core = RldpCore(seeded(1))
    for _ in range(7):
        core.send(T0, B, CONTENT[:LARGEST])
    with pytest.raises(NoCapacity):
        core.send(T0, B, CONTENT[:LARGEST])
    assert core.sizes()["rldp_outgoing_bytes"] <= 128 * 2**20


def test_peers_that_confirm_nothing_keep_no_path_and_stop_at_a_bound(monkeypatch):
    monkeypatch.setattr(paths, "TRANSFERS", 20)
    monkeypatch.setattr(paths, "PATHS", 30)
    core = RldpCore(seeded(1))
    peers = [AdnlId(bytes([number]) * 32) for number in range(60)]
    for peer in peers[:20]:
        core.send(T0, peer, b"x")
    with pytest.raises(NoCapacity):
        core.send(T0, peers[20], b"x")
    for when in range(1, 3):
        core.handle_timer(T0 + 20 * when)
        for peer in peers[20 * when : 20 * when + 20]:
            core.send(T0 + 20 * when, peer, b"x")
        assert core.sizes()["rldp_paths"] == 30
    assert core.statistics().symbols_needed == 60


def test_peer_with_many_open_questions_gets_no_more_heard():
    pipe = Pipe()
    for _ in range(ASKED + 5):
        pipe.a.query(pipe.now, B, b"?", timeout=30, max_answer=1)
        pipe.run(0.2)
    assert len(pipe.told(Query)) == ASKED
    assert pipe.b.statistics().drops[Drop.BUSY] == 5


def test_answer_to_an_unknown_token_is_counted():
    core = RldpCore(seeded(1))
    core.answer(T0, Token(7), b"")
    assert core.statistics().answers_refused == 1


def test_time_does_not_fall():
    core = RldpCore(seeded(1))
    core.handle_timer(T0)
    with pytest.raises(ValueError, match="time falls"):
        core.receive(T0 - 1, A, b"")


def test_no_reference_cycle_is_left_behind():
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        download(100_000, Path(loss=0.1)).run(1.0)
        gc.collect()
        kinds = {type(thing).__name__ for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not {"Sending", "Receiving", "Incoming", "IncomingPart", "Outgoing"} & kinds
