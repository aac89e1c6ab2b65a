"""A directory server answers everybody, and nobody too much."""

import pytest

from p2p import defaults
from p2p.entropy import seeded
from p2p.errors import CodecError
from p2p.overlay import calls
from p2p.overlay.calls import News, Publish, Refusal, Refused, Sync
from p2p.overlay.directory import Directory
from p2p.overlay.serve import DirectoryServer

OURS = 100
PEER = 1


@pytest.fixture
def directory(nodes):
    return Directory(nodes.rules, nodes.id(OURS))


@pytest.fixture
def server(nodes, directory):
    return DirectoryServer(directory, nodes.rules, seeded(1))


@pytest.fixture
def ask(nodes, server):
    """Ask as a numbered node, at a time after the start."""

    def ask(call, peer=PEER, after=0.0):
        body = server.answer(nodes.now + after, nodes.id(peer), calls.pack_call(call))
        return calls.read_done(body) if isinstance(call, Publish) else calls.read_news(body)

    return ask


def test_a_node_publishes_its_advert(nodes, directory, ask):
    assert ask(Publish(nodes.advert(PEER))) is None
    assert directory.find(nodes.id(PEER)) is not None
    assert ask(Publish(nodes.advert(PEER))) is None


def test_a_node_speaks_for_itself_only(nodes, directory, ask):
    assert ask(Publish(nodes.advert(2))) == Refused(Refusal.REFUSED)
    assert directory.status().count == 0


def test_bad_and_old_adverts_are_refused(nodes, ask):
    assert ask(Publish(b"nonsense")) == Refused(Refusal.REFUSED)
    assert ask(Publish(nodes.advert(PEER, seq=5))) is None
    assert ask(Publish(nodes.advert(PEER, seq=4))) == Refused(Refusal.REFUSED)


def test_a_full_directory_says_that_it_is_too_much(nodes, ask, monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERTS", 0)
    assert ask(Publish(nodes.advert(PEER))) == Refused(Refusal.TOO_MUCH)


def test_an_advert_a_second_and_three_at_once(nodes, ask):
    buffers = [nodes.advert(PEER, seq=seq) for seq in range(1, 7)]
    answers = [ask(Publish(buffer)) for buffer in buffers[:4]]
    assert answers == [None, None, None, Refused(Refusal.BUSY)]
    assert ask(Publish(buffers[4]), after=1.0) is None
    assert ask(Publish(buffers[5]), after=1.5) == Refused(Refusal.BUSY)


def test_newcomers_are_let_in_at_a_rate(nodes, directory, monkeypatch):
    monkeypatch.setattr(defaults, "NEW_NODES_BURST", 5)
    server = DirectoryServer(directory, nodes.rules, seeded(1))

    def publish(peer, after=0.0, **changes):
        call = calls.pack_call(Publish(nodes.advert(peer, **changes)))
        return calls.read_done(server.answer(nodes.now + after, nodes.id(peer), call))

    assert [publish(peer) for peer in range(1, 7)] == [None] * 5 + [Refused(Refusal.BUSY)]
    assert publish(1, seq=2**40) is None
    assert publish(7, after=0.06) is None


def test_sync_gives_everything_and_then_what_is_new(nodes, directory, ask):
    for number in (2, 3):
        directory.add(nodes.now, nodes.advert(number))
    everything = ask(calls.ALL)
    assert len(everything.adverts) == 2
    assert not everything.more
    nothing = ask(Sync(everything.session, everything.next))
    assert nothing == News(everything.session, everything.next, False, [])
    directory.add(nodes.now, nodes.advert(4))
    news = ask(Sync(everything.session, everything.next))
    assert news.adverts == [nodes.advert(4)]


def test_a_stranger_to_the_session_starts_at_the_beginning(nodes, directory, ask):
    directory.add(nodes.now, nodes.advert(2))
    assert len(ask(Sync(b"another!", 5)).adverts) == 1


def test_a_number_from_the_future_brings_nothing(nodes, directory, ask):
    directory.add(nodes.now, nodes.advert(2))
    session = ask(calls.ALL).session
    assert ask(Sync(session, 2**60)) == News(session, 2**60, False, [])


def test_a_long_list_comes_in_pieces(nodes, directory, ask, monkeypatch):
    size = len(nodes.advert(1))
    monkeypatch.setattr(defaults, "SYNC_ANSWER", 3 * size)
    buffers = [nodes.advert(number) for number in range(1, 8)]
    for buffer in buffers:
        directory.add(nodes.now, buffer)
    got, call = [], calls.ALL
    for more in (True, True, False):
        news = ask(call)
        assert len(news.adverts) <= 3
        assert news.more is more
        got += news.adverts
        call = Sync(news.session, news.next)
    assert got == buffers


def test_whole_lists_are_given_seldom(nodes, directory, ask):
    assert ask(calls.ALL).adverts == []
    directory.add(nodes.now, nodes.advert(2))
    answers = [ask(calls.ALL) for _ in range(4)]
    assert [isinstance(answer, News) for answer in answers] == [True, True, True, False]
    assert answers[3] == Refused(Refusal.BUSY)
    assert isinstance(ask(calls.ALL, peer=3), News)
    assert isinstance(ask(calls.ALL, after=10), News)


def test_too_many_calls_are_not_answered_with_work(nodes, ask):
    for _ in range(defaults.SYNC_CALLS):
        assert isinstance(ask(calls.ALL), News)
    assert ask(calls.ALL) == Refused(Refusal.BUSY)
    assert isinstance(ask(calls.ALL, peer=2), News)
    assert isinstance(ask(calls.ALL, after=1.0), News)


def test_unknown_calls_are_named_so_and_nonsense_is_an_error(nodes, server):
    answer = server.answer(nodes.now, nodes.id(PEER), b"\x91\x07")
    assert calls.read_done(answer) == Refused(Refusal.UNKNOWN)
    with pytest.raises(CodecError):
        server.answer(nodes.now, nodes.id(PEER), b"nonsense")


def test_the_peers_remembered_are_bounded(nodes, server, monkeypatch):
    monkeypatch.setattr(defaults, "SYNC_PEERS", 3)
    for number in range(10):
        server.answer(nodes.now, nodes.id(number), calls.pack_call(calls.ALL))
    assert server.sizes() == {"directory_peers": 3}
    assert list(server._peers) == [nodes.id(number) for number in (7, 8, 9)]
