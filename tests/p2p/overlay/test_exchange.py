"""Whom a node asks for the directory, when, and what it makes of the answers."""

import pytest

from p2p import codec, defaults
from p2p.entropy import seeded
from p2p.overlay import calls
from p2p.overlay.advert import Role
from p2p.overlay.calls import News, Publish, Refusal, Sync
from p2p.overlay.directory import Directory
from p2p.overlay.exchange import (
    Ask,
    Contradiction,
    DirectoryChanged,
    Exchange,
    Joined,
    Misled,
    Published,
    PublishRefused,
    Reach,
)

SELF, FIRST, SECOND = 100, 1, 2
SESSION = b"session1"


@pytest.fixture
def directory(nodes):
    return Directory(nodes.rules, nodes.id(SELF))


@pytest.fixture
def make(nodes, directory):
    def make(*bootstrap, self_number=SELF):
        first = [nodes.id(number) for number in bootstrap]
        rules, entropy = nodes.rules, seeded(1)
        exchange = Exchange(directory, nodes.id(self_number), first, rules, entropy)
        exchange.start(nodes.now)
        return exchange

    return make


def outputs(exchange, now):
    """What it wants and tells once its timers have run."""
    exchange.handle_timer(now)
    return exchange.drain()


def asked(exchange):
    """The one call that it makes."""
    (ask,) = [output for output in exchange.drain() if isinstance(output, Ask)]
    return ask


def call_of(ask):
    return calls.read_call(ask.body)


def news(*adverts, since=5, more=False, session=SESSION):
    return calls.pack_news(News(session, since, more, adverts))


def up(exchange, nodes, number=FIRST, now=None):
    """A link to a server, whose first call is returned."""
    exchange.handle_timer(now or nodes.now)
    exchange.link_up(now or nodes.now, nodes.id(number))
    return asked(exchange)


def test_a_node_reaches_for_its_bootstrap_nodes_and_asks_for_everything(nodes, make):
    exchange = make(FIRST)
    assert outputs(exchange, nodes.now) == [Reach(nodes.id(FIRST))]
    exchange.link_up(nodes.now, nodes.id(FIRST))
    ask = asked(exchange)
    assert ask.peer == nodes.id(FIRST)
    assert call_of(ask) == calls.ALL


def test_the_first_full_answer_is_joining(nodes, directory, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, news(nodes.advert(3), more=True))
    told = exchange.drain()
    assert told[0] == DirectoryChanged()
    assert call_of(told[1]) == Sync(SESSION, 5)
    assert directory.status().age is None

    exchange.answered(nodes.now, ask.peer, told[1].number, news(since=6))
    assert exchange.drain() == [Joined()]
    assert directory.status().age == 0
    assert directory.find(nodes.id(3)) is not None


def test_then_it_asks_for_what_is_new_each_second(nodes, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, news())
    exchange.drain()
    due = exchange.next_deadline()
    assert nodes.now + 0.9 <= due <= nodes.now + 1.0
    assert outputs(exchange, due - 0.001) == []
    exchange.handle_timer(due)
    assert call_of(asked(exchange)) == Sync(SESSION, 5)


def test_nothing_new_is_no_news_to_callers(nodes, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, news(nodes.advert(3)))
    assert exchange.drain() == [DirectoryChanged(), Joined()]
    exchange.handle_timer(exchange.next_deadline())
    again = asked(exchange)
    exchange.answered(nodes.now + 1, again.peer, again.number, news(nodes.advert(3), since=6))
    assert exchange.drain() == []


def test_a_bootstrap_node_has_joined_by_itself(nodes, make):
    for exchange in (make(SELF), make(SELF, FIRST), make()):
        assert Joined() in exchange.drain()
    assert Joined() not in make(FIRST).drain()
    assert make(SELF).next_deadline() is None


def test_at_most_three_bootstrap_nodes_are_asked(nodes, make):
    exchange = make(1, 2, 3, 4, 5)
    reached = [output.peer for output in outputs(exchange, nodes.now)]
    assert len(reached) == 3
    exchange.dial_failed(nodes.now, reached[0])
    later = outputs(exchange, nodes.now + 1)
    assert [type(output) for output in later] == [Reach]
    assert later[0].peer not in reached[1:]
    assert exchange.sizes()["directory_servers"] == 3


# --- failing and trying again ---


def test_a_bootstrap_node_that_is_down_is_tried_for_ever_ever_more_seldom(nodes, make):
    exchange, now, gaps = make(FIRST), nodes.now, []
    for _ in range(8):
        assert outputs(exchange, now) == [Reach(nodes.id(FIRST))]
        exchange.dial_failed(now, nodes.id(FIRST))
        due = exchange.next_deadline()
        gaps.append(due - now)
        now = due
    for gap, most in zip(gaps, [1, 2, 4, 4, 4, 4, 4, 4], strict=True):
        assert 0.9 * most <= gap <= most


def test_once_it_is_up_patience_starts_anew(nodes, make):
    exchange = make(FIRST)
    for now in (nodes.now, nodes.now + 1, nodes.now + 3):
        exchange.handle_timer(now)
        exchange.dial_failed(now, nodes.id(FIRST))
    up(exchange, nodes, now=nodes.now + 7)
    exchange.link_down(nodes.now + 8, nodes.id(FIRST))
    assert exchange.next_deadline() <= nodes.now + 9


def test_a_dial_that_is_never_answered_counts_as_failed(nodes, make):
    exchange = make(FIRST)
    assert outputs(exchange, nodes.now) == [Reach(nodes.id(FIRST))]
    assert outputs(exchange, nodes.now + 30) == []
    assert outputs(exchange, nodes.now + 31) == [Reach(nodes.id(FIRST))]


def test_a_call_that_is_never_answered_counts_as_failed(nodes, make):
    exchange = make(FIRST)
    first = up(exchange, nodes)
    assert outputs(exchange, nodes.now + 10) == []
    assert outputs(exchange, nodes.now + 11) == [Reach(nodes.id(FIRST))]
    exchange.link_up(nodes.now + 11, nodes.id(FIRST))
    second = asked(exchange)
    exchange.answered(nodes.now + 11, first.peer, first.number, news())
    assert exchange.drain() == []
    exchange.answered(nodes.now + 11, second.peer, second.number, news())
    assert exchange.drain() == [Joined()]


def test_a_link_that_the_server_opened_serves_as_well(nodes, make):
    exchange = make(FIRST)
    exchange.link_up(nodes.now, nodes.id(FIRST))
    assert call_of(asked(exchange)) == calls.ALL
    exchange.link_up(nodes.now, nodes.id(FIRST))
    assert exchange.drain() == []


def test_links_of_strangers_are_no_servers(nodes, make):
    exchange = make(FIRST)
    exchange.link_up(nodes.now, nodes.id(9))
    exchange.link_down(nodes.now, nodes.id(9))
    exchange.dial_failed(nodes.now, nodes.id(9))
    exchange.answered(nodes.now, nodes.id(9), 1, news())
    assert exchange.drain() == []


# --- servers learnt from the directory ---


def learn(directory, nodes, numbers):
    for number in numbers:
        directory.add(nodes.now, nodes.advert(number))


def test_while_no_bootstrap_node_is_up_others_are_asked(nodes, directory, make):
    learn(directory, nodes, range(10, 20))
    exchange = make(FIRST)
    outputs(exchange, nodes.now)
    exchange.dial_failed(nodes.now, nodes.id(FIRST))
    reached = {output.peer for output in outputs(exchange, nodes.now + 1)} - {nodes.id(FIRST)}
    assert len(reached) == 3
    assert reached <= {nodes.id(number) for number in range(10, 20)}

    peer = min(reached)
    exchange.link_up(nodes.now + 1, peer)
    ask = asked(exchange)
    exchange.answered(nodes.now + 1, peer, ask.number, news())
    assert exchange.drain() == [Joined()]


def test_others_that_fail_are_replaced_by_others(nodes, directory, make):
    learn(directory, nodes, range(10, 20))
    exchange, now = make(FIRST), nodes.now
    for _ in range(50):
        for output in outputs(exchange, now):
            exchange.dial_failed(now, output.peer)
        assert exchange.sizes()["directory_servers"] <= 4
        now = exchange.next_deadline()
    assert now - nodes.now > 5


def test_others_are_let_go_when_a_bootstrap_node_is_back(nodes, directory, make):
    learn(directory, nodes, range(10, 20))
    exchange = make(FIRST)
    outputs(exchange, nodes.now)
    exchange.dial_failed(nodes.now, nodes.id(FIRST))
    outputs(exchange, nodes.now + 1)
    assert exchange.sizes()["directory_servers"] == 4
    exchange.link_up(nodes.now + 1, nodes.id(FIRST))
    assert exchange.sizes()["directory_servers"] == 1


def test_those_who_served_us_are_known_to_know_us(nodes, directory, make, monkeypatch):
    monkeypatch.setattr(defaults, "SERVERS_MET", 2)
    learn(directory, nodes, range(10, 20))
    exchange = make(FIRST)
    assert exchange.acquainted() == [nodes.id(FIRST)]
    outputs(exchange, nodes.now)
    exchange.dial_failed(nodes.now, nodes.id(FIRST))
    reached = [output.peer for output in outputs(exchange, nodes.now + 1)]
    others = [peer for peer in reached if peer != nodes.id(FIRST)]
    for peer in others:
        exchange.link_up(nodes.now + 1, peer)
        exchange.link_down(nodes.now + 1, peer)
    assert exchange.acquainted() == [nodes.id(FIRST), *others[-2:]]


# --- publishing ---


def test_news_of_ours_goes_out_at_once_and_to_each_server_once(nodes, make):
    exchange = make(FIRST, SECOND)
    asks = [up(exchange, nodes, number) for number in (FIRST, SECOND)]
    for ask in asks:
        exchange.answered(nodes.now, ask.peer, ask.number, news())
    exchange.drain()

    exchange.publish(nodes.now, 7, b"our advert")
    told = exchange.drain()
    assert [call_of(ask) for ask in told] == [Publish(b"our advert")] * 2
    for ask in told:
        exchange.answered(nodes.now, ask.peer, ask.number, calls.pack_done())
    assert exchange.drain() == [Published(7), Published(7)]
    exchange.handle_timer(nodes.now + 1)
    assert {call_of(ask) for ask in exchange.drain()} == {Sync(SESSION, 5)}


def test_news_of_ours_waits_for_a_server_and_for_the_call_under_way(nodes, make):
    exchange = make(FIRST)
    exchange.publish(nodes.now, 7, b"first")
    exchange.drain()
    ask = up(exchange, nodes)
    assert call_of(ask) == Publish(b"first")
    exchange.publish(nodes.now, 8, b"second")
    assert exchange.drain() == []
    exchange.answered(nodes.now, ask.peer, ask.number, calls.pack_done())
    published, again = exchange.drain()
    assert published == Published(7)
    assert call_of(again) == Publish(b"second")


def test_a_server_that_comes_back_is_told_again(nodes, make):
    exchange = make(FIRST)
    exchange.publish(nodes.now, 7, b"advert")
    exchange.drain()
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, calls.pack_done())
    exchange.drain()
    exchange.link_down(nodes.now, nodes.id(FIRST))
    assert call_of(up(exchange, nodes, now=nodes.now + 1)) == Publish(b"advert")


def test_a_refused_advert_is_told_of_and_tried_again_after_news(nodes, make):
    exchange = make(FIRST)
    exchange.publish(nodes.now, 7, b"advert")
    exchange.drain()
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, calls.pack_refusal(Refusal.REFUSED))
    assert exchange.drain() == [PublishRefused(Refusal.REFUSED)]
    exchange.handle_timer(nodes.now + 1)
    sync = asked(exchange)
    assert call_of(sync) == calls.ALL
    exchange.answered(nodes.now + 1, sync.peer, sync.number, news())
    joined, again = exchange.drain()
    assert joined == Joined()
    assert call_of(again) == Publish(b"advert")


def test_a_bootstrap_node_is_listed_when_it_says_so(nodes, make):
    exchange = make(SELF, FIRST)
    exchange.drain()
    exchange.publish(nodes.now, 7, b"advert")
    assert exchange.drain() == [Published(7)]


# --- answers that break rules ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        calls.pack_done(),
        codec.pack([0, SESSION, 5, True, []]),
        codec.pack([0, SESSION, 5, False, [5]]),
        bytes(calls.MAX_ANSWER + 1),
    ],
)
def test_nonsense_from_a_server_is_named_and_asked_again_later(nodes, make, body):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, body)
    (misled,) = exchange.drain()
    assert isinstance(misled, Misled)
    assert misled.peer == nodes.id(FIRST)
    exchange.handle_timer(nodes.now + 1)
    assert call_of(asked(exchange)) == calls.ALL


def test_bad_adverts_among_good_ones_are_counted_and_left_out(nodes, directory, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    forged = nodes.advert(4)[:-1] + b"\0"
    body = news(nodes.advert(3), forged, b"", nodes.advert(5))
    exchange.answered(nodes.now, ask.peer, ask.number, body)
    assert exchange.refused == 2
    assert [entry.id for entry in directory.usable(Role.RELAY)] == sorted(
        [nodes.id(3), nodes.id(5)]
    )


def test_contradictions_are_handed_on(nodes, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    twins = nodes.advert(3, seq=5), nodes.advert(3, "worker", seq=5)
    exchange.answered(nodes.now, ask.peer, ask.number, news(*twins))
    assert Contradiction(twins) in exchange.drain()


def test_a_busy_server_is_asked_again_later(nodes, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, calls.pack_refusal(Refusal.BUSY))
    assert exchange.drain() == []
    assert exchange.next_deadline() > nodes.now


def test_a_late_answer_is_ignored(nodes, make):
    exchange = make(FIRST)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number + 1, news())
    exchange.answered(nodes.now, nodes.id(SECOND), ask.number, news())
    assert exchange.drain() == []


def test_outside_dev_networks_calls_are_rarer(nodes, directory):
    rules = type(nodes.rules)(network=7)
    exchange = Exchange(directory, nodes.id(SELF), [nodes.id(FIRST)], rules, seeded(1))
    exchange.start(nodes.now)
    ask = up(exchange, nodes)
    exchange.answered(nodes.now, ask.peer, ask.number, news())
    assert 27 <= exchange.next_deadline() - nodes.now <= defaults.SYNC_INTERVAL
