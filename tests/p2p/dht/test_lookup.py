"""The walk towards a key, among nodes that are no more than what they answer."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.core import Mailbox, Procedures
from p2p.dht.lookup import Reply, together, walk
from p2p.dht.node import Node
from p2p.dht.settings import Settings
from p2p.identity import AdnlId
from p2p.ton import AdnlAddressList, DhtNode, PubEd25519

TARGET = bytes(32)
NOWHERE = AdnlAddressList((), 0, 0, 0, 0)
SETTINGS = Settings(k=3, width=2)


def node(distance):
    identity = AdnlId(distance.to_bytes(32, "big"))
    record = DhtNode(PubEd25519(identity), NOWHERE, 1, b"")
    return Node(
        id=identity, public=identity, record=record, addresses=NOWHERE, subnet=b"", packed=b""
    )


def number(it):
    return int.from_bytes(it.id, "big")


class Net:
    """Nodes by their distances: whom each names, who is silent, who has the value."""

    def __init__(self, links, silent=(), holders=()):
        self.links, self.silent, self.holders = links, silent, holders
        self.asked = []
        self.under_way = self.most = 0
        self.procedures = Procedures()
        self.waiting = []

    async def ask(self, it):
        self.asked.append(number(it))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        mailbox = Mailbox()
        self.waiting.append((number(it), mailbox))
        try:
            await mailbox.get()
        finally:
            self.under_way -= 1
        if number(it) in self.silent:
            return None
        if number(it) in self.holders:
            return Reply(value="value")
        return Reply([node(other) for other in self.links.get(number(it), ())])

    def walk(self, start, settings=SETTINGS, order=lambda waiting: 0):
        ended = []

        async def run():
            ended.append(
                await walk(TARGET, [node(it) for it in start], self.ask, self.procedures, settings)
            )

        self.procedures.start(run())
        self.procedures.run()
        while self.waiting and not ended:
            self.waiting.pop(order(self.waiting))[1].put(None)
            self.procedures.run()
        return ended[0]


def test_nobody_to_begin_with_is_the_end():
    ended = Net({}).walk([])
    assert (ended.value, ended.nearest, ended.hops, ended.asked) == (None, (), 0, 0)


def test_the_nearest_are_found_through_those_who_name_them():
    net = Net({90: [50, 60], 50: [10, 20], 10: [1, 2, 3]})
    ended = net.walk([90])
    assert [number(it) for it in ended.nearest] == [1, 2, 3]
    assert ended.hops == 4
    assert ended.failed == 0


def test_a_value_ends_the_walk():
    net = Net({90: [50, 60], 50: [10, 20]}, holders=[10])
    ended = net.walk([90])
    assert ended.value == "value"
    assert ended.hops == 3
    assert net.under_way == 0, "what was under way is dropped"


def test_no_more_are_asked_at_once_than_allowed():
    net = Net({it: range(1, 40) for it in range(40, 60)})
    net.walk(range(40, 60))
    assert net.most == SETTINGS.width


def test_each_is_asked_once_however_often_it_is_named():
    net = Net({it: range(12) for it in range(12)})
    net.walk([11, 11, 5])
    assert sorted(net.asked) == sorted(set(net.asked))


def test_who_is_silent_is_replaced_by_the_next_nearest():
    net = Net({90: [1, 2, 3, 4, 5]}, silent=[1, 3])
    ended = net.walk([90])
    assert [number(it) for it in ended.nearest] == [2, 4, 5]
    assert ended.failed == 2


def test_the_walk_ends_when_the_k_nearest_have_answered_whoever_is_slow():
    net = Net({1: [], 2: [], 3: []})
    ended = net.walk([1, 2, 3, 50], order=lambda waiting: -1)
    assert 50 not in net.asked
    assert [number(it) for it in ended.nearest] == [1, 2, 3]


def test_nodes_without_end_are_not_asked_without_end():
    class Endless(dict):
        def get(self, it, default=None):
            return [it - 1]

    settings = Settings(k=3, width=2, max_asked=10)
    net = Net(Endless())
    assert net.walk([10**6], settings).asked == 10


def test_all_silent_is_an_end_too():
    ended = Net({}, silent=range(20)).walk(range(20))
    assert ended.nearest == ()
    assert ended.failed == 20


@given(st.data())
def test_whatever_the_net_and_the_order_the_walk_finds_what_its_links_reach(data):
    nodes = data.draw(st.lists(st.integers(0, 60), unique=True, min_size=1, max_size=15))
    links = {it: data.draw(st.lists(st.sampled_from(nodes), max_size=6)) for it in nodes}
    silent = data.draw(st.lists(st.sampled_from(nodes), max_size=4))
    start = data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3))
    net = Net(links, silent)

    ended = net.walk(start, order=lambda w: data.draw(st.integers(0, len(w) - 1)))

    # The oracle counts reachable nodes only: a walk asks the k nearest of whom it has heard.
    heard, answered = set(start), [number(it) for it in ended.nearest]
    for it in net.asked:
        assert it in heard or any(it in links[other] for other in net.asked)
    for it in set(net.asked) - set(silent):
        heard |= set(links[it])
    missed = heard - set(net.asked)
    assert answered == sorted(answered)
    assert not set(answered) & set(silent)
    if len(answered) < SETTINGS.k:
        assert not missed
    else:
        assert all(it > answered[-1] for it in missed)
    assert net.under_way == 0


def test_coroutines_run_together_and_all_results_come():
    procedures, results, mailboxes = Procedures(), [], [Mailbox() for _ in range(3)]

    async def run():
        results.append(await together(procedures, [mailbox.get() for mailbox in mailboxes]))

    procedures.start(run())
    for mailbox, value in zip(reversed(mailboxes), "abc", strict=True):
        procedures.run()
        assert results == []
        mailbox.put(value)
    procedures.run()
    assert sorted(results[0]) == ["a", "b", "c"]


def test_a_walk_that_is_dropped_drops_what_it_asked():
    net = Net({})
    procedure = net.procedures.start(
        walk(TARGET, [node(1), node(2)], net.ask, net.procedures, SETTINGS)
    )
    net.procedures.run()
    assert net.under_way == 2
    procedure.cancel()
    assert net.under_way == 0
