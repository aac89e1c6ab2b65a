"""Two cores over a network that loses, repeats and reorders: what still must hold."""

from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.adnl.events import Answered, Failed, Query
from p2p.adnl.limits import Limits
from tests.p2p.adnl.net import Net

FATES = st.sampled_from(["carry"] * 6 + ["lose", "repeat", "hold"])
SIZES = st.sampled_from([1, 40, 1_000, 1_145, 3_000, 8_192])
WANTS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["send", "query"]), SIZES), min_size=1, max_size=10
)


class Weather(Net):
    """Decides over each datagram by a list of fates; those held come after the next ones."""

    def __init__(self, fates):
        super().__init__()
        self.fates = list(fates)
        self.held = []

    def carry(self, source, to, data):
        fate = self.fates.pop() if self.fates else "carry"
        if fate == "lose":
            return
        if fate == "hold":
            self.held.append((source, to, data))
            return
        super().carry(source, to, data)
        if fate == "repeat":
            super().carry(source, to, data)
        if len(self.held) > 2:
            self.clear()

    def clear(self):
        held, self.held = self.held, []
        for datagram in held:
            super().carry(*datagram)


def pair(fates, limits=None):
    net = Weather(fates)
    limits = limits or Limits(source_burst=10_000, peer_burst=10_000)
    first, second = net.node(1, limits=limits), net.node(2, limits=limits)
    first.knows(second)
    second.knows(first)
    return net, first, second


def payload(number, size):
    return number.to_bytes(2, "big").ljust(max(size, 2), b"x")[: max(size, 2)]


@settings(max_examples=60)
@given(st.lists(FATES, max_size=120), WANTS)
def test_nothing_is_told_twice_or_falsely_and_every_query_ends(fates, wants):
    net, *nodes = pair(fates)
    sent = {node: [] for node in nodes}
    asked = {node: {} for node in nodes}
    for number, (which, kind, size) in enumerate(wants):
        node, other = nodes if which else nodes[::-1]
        one = payload(number, size)
        if kind == "send":
            node.send(other, one)
            sent[node].append(one)
        else:
            asked[node][node.query(other, one, timeout=8.0)] = one
        net.run()
        net.wait(0.3)
    net.clear()
    net.wait(9.0)

    for node, other in (nodes, nodes[::-1]):
        assert len(other.payloads()) == len(set(other.payloads()))
        assert set(other.payloads()) <= set(sent[node])
        questions = [e.payload for e in other.heard(Query)]
        assert len(questions) == len(set(questions))
        assert set(questions) <= set(asked[node].values())

        ended = [e.ticket for e in node.told if isinstance(e, Answered | Failed)]
        assert sorted(ended) == sorted(asked[node])
        for ticket, answer in node.answered().items():
            assert answer == asked[node][ticket].upper()


@settings(max_examples=40)
@given(st.lists(FATES, max_size=60), WANTS)
def test_when_the_weather_clears_all_goes_through(fates, wants):
    """Whatever became of the handshake, in whatever order its packets came."""
    net, first, second = pair(fates)
    for number, (which, _, size) in enumerate(wants):
        node, other = (first, second) if which else (second, first)
        node.send(other, payload(number, size))
        net.run()
        net.wait(1.0)
    net.fates.clear()
    net.clear()
    net.wait(20.0)

    for node in (first, second):
        node.told.clear()
    tickets = first.query(second, b"a" * 3_000), second.query(first, b"b" * 3_000)
    net.run()
    net.wait(3.0)
    assert first.answered() == {tickets[0]: b"A" * 3_000}
    assert second.answered() == {tickets[1]: b"B" * 3_000}


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_a_handshake_that_lost_anything_is_made_by_the_next_query(lost, also, both):
    net, first, second = pair([])
    losing = {lost, also}
    count = iter(range(100))
    net.lose = lambda *_: next(count) in losing
    for attempt in range(6):
        ticket = first.query(second, bytes([65 + attempt]), timeout=1.0)
        if both:
            second.query(first, bytes([75 + attempt]), timeout=1.0)
        net.wait(1.5)
    assert ticket in first.answered()
    first.query(second)
    before = first.core.statistics().sent_direct
    net.wait(1.0)
    first.query(second)
    assert first.core.statistics().sent_direct == before
