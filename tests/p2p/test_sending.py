"""A payload takes the way there is; a query ends by one outcome, whatever becomes of the way."""

from itertools import count

import pytest

from p2p.adnl.address import address_list, to_address
from p2p.adnl.core import AdnlCore
from p2p.adnl.limits import Limits
from p2p.core import Procedures, Send
from p2p.entropy import seeded
from p2p.errors import (
    AnswerTooBig,
    Closed,
    LocalError,
    NoCapacity,
    Timeout,
    TussahError,
    Unreachable,
)
from p2p.identity import Identity
from p2p.rldp.core import RldpCore
from p2p.rldp.paths import PER_PEER
from p2p.sender import MAX_ANSWER, MAX_QUESTION
from p2p.sending import FIRST, PARKED, QUERIES_PENDING, Reach, Sending, Write
from p2p.ton import DhtPing, DhtPong
from p2p.wire import Endpoint, Kind, Link, Message

START = 1_800_000_000
PING = DhtPing.tl.id

_links = count(1)


class Echo:
    """A core that answers with what it is asked, and remembers what it is told."""

    def __init__(self):
        self.heard = []
        self.silent = False

    def message(self, now, peer, payload):
        self.heard.append((peer, payload))

    def query(self, now, peer, payload):
        return None if self.silent else payload + b"!"


class End:
    """A node's sending, its handler, and what has come of its queries."""

    def __init__(self, number, *, udp=True, limits=None):
        self.identity = Identity(bytes([number]) * 32)
        self.id = self.identity.id
        self.endpoint = Endpoint(f"192.0.2.{number}", 4_000)
        self.procedures = Procedures()
        entropy = seeded(number)
        adnl = AdnlCore([self.identity], entropy.fork("adnl"), START, limits=limits)
        self.shown = []
        self.sending = Sending(
            self.id,
            adnl,
            RldpCore(entropy.fork("rldp")),
            udp=udp,
            tap=lambda peer, sent, payload: self.shown.append((sent, payload)),
        )
        self.echo = Echo()
        self.sending.subscribe(self.echo, PING)
        self.outcomes = []

    def ask(self, peer, payload, **limits):
        return self._start(self.sending.query(peer.id, payload, **{"timeout": 5.0, **limits}))

    def ask_at(self, peer, endpoint, payload):
        asked = self.sending.query_at(peer.id, to_address(endpoint), payload, timeout=5.0)
        return self._start(asked)

    def _start(self, query):
        async def question():
            try:
                self.outcomes.append(await query)
            except TussahError as error:
                self.outcomes.append(error)

        return self.procedures.start(question())

    def knows(self, peer):
        self.sending.learn(peer.identity.public, address_list([peer.endpoint], 0))


class Street:
    """Two ends and what travels between them, at once."""

    def __init__(self, here, there):
        self.now = float(START + 1)
        self.ends = [here, there]
        self.wants = []
        self.lost = False
        self.settle()

    def settle(self):
        moved = True
        while moved:
            moved = False
            for end in self.ends:
                end.sending.at(self.now)
                end.procedures.run()
                for output in end.sending.drain():
                    moved = True
                    self._carry(end, output)

    def wait(self, seconds):
        until = self.now + seconds
        while True:
            due = [end.sending.next_deadline() for end in self.ends]
            self.now = max(self.now, min([until, *(when for when in due if when is not None)]))
            for end in self.ends:
                end.sending.at(self.now)
                end.sending.handle_timer(self.now)
            self.settle()
            if self.now >= until:
                return

    def link(self):
        number = next(_links)
        here, there = (Link(end.id, number) for end in reversed(self.ends))
        self.ends[0].sending.link_up(here)
        self.ends[1].sending.link_up(there)
        self.settle()
        return here, there

    def _carry(self, end, output):
        far = self.ends[1 - self.ends.index(end)]
        match output:
            case Send(to, data) if to == far.endpoint and not self.lost:
                far.sending.receive(self.now, end.endpoint, data)
            case Write(link, message) if not self.lost:
                far.sending.linked(Link(end.id, link.number), message)
            case Reach(peer):
                self.wants.append(peer)


@pytest.fixture
def here():
    return End(1)


@pytest.fixture
def there():
    return End(2)


@pytest.fixture
def street(here, there):
    return Street(here, there)


@pytest.fixture
def near(street, here, there):
    """The two know where they are."""
    here.knows(there)
    there.knows(here)
    return street


def test_query_and_message_go_over_udp_to_who_has_an_address(near, here, there):
    here.sending.send(there.id, PING + b"told")
    here.ask(there, PING + b"asked")
    near.settle()
    assert there.echo.heard == [(here.id, PING + b"told")]
    assert here.outcomes == [PING + b"asked!"]
    assert near.wants == []


@pytest.mark.parametrize(("asked", "most"), [(100, 50_000), (9_000, 20_000)])
def test_what_may_be_long_takes_rldp(near, here, there, asked, most):
    here.ask(there, PING + bytes(asked), max_answer=most)
    near.wait(1.0)
    assert here.outcomes == [PING + bytes(asked) + b"!"]
    assert here.sending.statistics().over_rldp == 1
    assert here.sending.statistics().over_udp == 0


def test_open_link_comes_before_udp(near, here, there):
    near.link()
    here.ask(there, PING + bytes(10_000), max_answer=20_000)
    here.sending.send(there.id, PING)
    near.settle()
    assert here.outcomes == [PING + bytes(10_000) + b"!"]
    assert there.echo.heard == [(here.id, PING)]
    assert here.sending.statistics().over_udp == here.sending.statistics().over_rldp == 0


def test_query_at_an_address_takes_no_link(near, here, there):
    near.link()
    here.ask_at(there, there.endpoint, PING)
    near.settle()
    assert here.outcomes == [PING + b"!"]
    assert here.sending.statistics().over_udp == 1
    assert here.sending.statistics().over_links == 0


def test_query_at_an_address_where_the_peer_is_not_is_not_answered_over_a_link(near, here, there):
    near.link()
    here.ask_at(there, Endpoint("192.0.2.99", 1), PING)
    near.settle()
    near.wait(5.1)
    assert isinstance(here.outcomes[0], Timeout)
    assert near.wants == []


def test_node_without_a_socket_asks_at_no_address(there):
    here = End(1, udp=False)
    street = Street(here, there)
    here.knows(there)
    here.ask_at(there, there.endpoint, PING)
    street.settle()
    assert isinstance(here.outcomes[0], Unreachable)


def test_link_is_asked_for_once_and_what_waits_leaves_over_it(street, here, there):
    here.sending.send(there.id, PING + b"1")
    here.ask(there, PING + b"2")
    street.settle()
    assert street.wants == [there.id]
    assert here.outcomes == []
    street.link()
    assert there.echo.heard == [(here.id, PING + b"1")]
    assert here.outcomes == [PING + b"2!"]


def test_what_waits_leaves_over_udp_once_an_address_is_learnt(street, here, there):
    here.ask(there, PING + b"2")
    street.settle()
    here.knows(there)
    street.settle()
    assert here.outcomes == [PING + b"2!"]


def test_node_without_a_socket_never_sends_datagrams(there):
    here = End(1, udp=False)
    street = Street(here, there)
    here.knows(there)
    here.ask(there, PING)
    street.settle()
    assert street.wants == [there.id]


def test_way_that_cannot_be_had_fails_what_waits(street, here, there):
    here.sending.send(there.id, PING)
    here.ask(there, PING)
    street.settle()
    here.sending.unreachable(there.id)
    street.settle()
    (error,) = here.outcomes
    assert type(error) is Unreachable
    assert here.sending.statistics().nowhere == 2


def test_only_so_much_waits_for_a_way(street, here, there):
    for _ in range(PARKED + 3):
        here.ask(there, PING)
    street.settle()
    assert [type(error) for error in here.outcomes] == [Unreachable] * 3


@pytest.mark.parametrize("outcome", ["cancelled", "late"])
def test_query_given_up_while_it_waits_for_a_way_makes_room_for_others(
    street, here, there, outcome
):
    for _ in range(2):
        procedures = [here.ask(there, PING, timeout=1.0) for _ in range(PARKED)]
        street.settle()
        assert here.sending.sizes()["sending_parked"] == PARKED
        if outcome == "late":
            street.wait(1.0)
        for procedure in procedures:
            procedure.cancel()
        assert here.sending.sizes()["sending_parked"] == 0
    street.link()
    assert here.sending.statistics().over_links == 0
    assert [type(error) for error in here.outcomes] == [Timeout] * len(here.outcomes)


@pytest.mark.parametrize("linked", [True, False])
def test_what_no_way_carries_is_refused_whichever_there_is(near, here, there, linked):
    if linked:
        near.link()
    longest = PING + bytes(MAX_QUESTION - len(PING))
    with pytest.raises(LocalError):
        here.sending.send(there.id, longest + b"!")
    here.ask(there, longest + b"!")
    here.ask(there, longest, max_answer=MAX_ANSWER)
    near.settle()
    near.wait(1.0)
    assert type(here.outcomes[0]) is LocalError
    assert here.outcomes[1:] == [longest + b"!"]


@pytest.mark.parametrize("linked", [True, False])
def test_answer_that_no_way_carries_is_silence(near, here, there, linked):
    if linked:
        near.link()
    there.echo.query = lambda *_: bytes(MAX_ANSWER + 1)
    here.ask(there, PING, max_answer=2 * MAX_ANSWER)
    near.settle()
    near.wait(5.1)
    assert [type(error) for error in here.outcomes] == [Timeout]
    assert there.sending.statistics().silent == 1


def test_silence_ends_in_a_timeout(near, here, there):
    there.echo.silent = True
    here.ask(there, PING, timeout=2.0)
    near.settle()
    near.wait(1.9)
    assert here.outcomes == []
    near.wait(0.2)
    assert [type(error) for error in here.outcomes] == [Timeout]
    assert there.sending.statistics().silent == 1


def test_lost_link_fails_what_was_asked_over_it(street, here, there):
    link, _ = street.link()
    street.lost = True
    here.ask(there, PING)
    street.settle()
    here.sending.link_down(link)
    street.settle()
    assert [type(error) for error in here.outcomes] == [Closed]


def test_answer_longer_than_was_allowed_is_refused(street, here, there):
    street.link()
    here.ask(there, PING + bytes(50), max_answer=50)
    street.settle()
    assert [type(error) for error in here.outcomes] == [AnswerTooBig]


def test_answer_of_another_link_or_number_is_nobodys(street, here, there):
    link, _ = street.link()
    there.echo.silent = True
    here.ask(there, PING)
    street.settle()
    pong = DhtPong.tl.id
    here.sending.linked(link, Message(Kind.ANSWER, FIRST + 99, pong))
    here.sending.linked(Link(there.id, 10_000), Message(Kind.ANSWER, FIRST + 1, pong))
    street.settle()
    assert here.outcomes == []
    here.sending.linked(link, Message(Kind.ANSWER, FIRST + 1, pong))
    here.sending.linked(link, Message(Kind.ANSWER, FIRST + 1, b"again"))
    street.settle()
    assert here.outcomes == [pong]


def test_payload_that_no_core_reads_is_counted(near, here, there):
    here.sending.send(there.id, b"none")
    here.ask(there, b"none", timeout=1.0)
    near.wait(2.0)
    assert there.sending.statistics().unclaimed == 2
    assert there.sending.claims(PING)
    assert not there.sending.claims(b"none")


def test_queries_under_way_are_bounded(near, here, there):
    near.lost = True
    for _ in range(QUERIES_PENDING + 1):
        here.ask(there, PING)
    near.settle()
    assert [type(error) for error in here.outcomes] == [NoCapacity]


def test_query_given_up_is_forgotten(near, here, there):
    near.lost = True
    procedure = here.ask(there, PING)
    near.settle()
    assert here.sending.sizes()["sending_pending"] == 1
    procedure.cancel()
    assert here.sending.sizes()["sending_pending"] == 0
    near.wait(6.0)
    assert here.outcomes == []


@pytest.mark.parametrize("most", [100, 50_000])
def test_query_given_up_makes_room_below_for_others(there, most):
    here = End(1, limits=Limits(pending=1))
    near = Street(here, there)
    here.knows(there)
    near.lost = True
    for _ in range(100):
        procedure = here.ask(there, PING, max_answer=most)
        near.settle()
        assert here.sending.sizes()["sending_tickets"] == 1
        procedure.cancel()
    sizes = here.sending.sizes()
    assert sizes["sending_tickets"] == sizes["adnl_asked"] == sizes["rldp_queries"] == 0
    assert sizes["rldp_outgoing"] == 0
    assert here.outcomes == []


@pytest.mark.parametrize("most", [100, 50_000])
def test_answer_to_a_query_that_was_just_given_up_is_nobodys(near, here, there, most):
    procedure = here.ask(there, PING, max_answer=most)
    carried = near._carry

    def carry(end, output):
        carried(end, output)
        if end is there:
            procedure.cancel()

    near._carry = carry
    near.settle()
    near.wait(6.0)
    assert here.outcomes == []
    assert here.sending.sizes()["sending_tickets"] == 0


def test_query_that_waited_for_a_way_fails_if_there_is_no_room_then(there):
    here = End(1, limits=Limits(pending=2))
    street = Street(here, there)
    for _ in range(4):
        here.ask(there, PING)
    street.settle()
    street.lost = True
    here.knows(there)
    street.settle()
    assert [type(error) for error in here.outcomes] == [NoCapacity] * 2


@pytest.mark.parametrize("size", [100, 9_000])
def test_message_for_which_there_is_no_room_is_lost_in_silence(there, size):
    here, third = End(1, limits=Limits(peers=1)), End(3)
    street = Street(here, there)
    here.knows(third)
    here.knows(there)
    here.ask(third, PING)
    street.settle()
    here.sending.send(there.id, PING + bytes(size))
    street.wait(1.0)
    assert there.echo.heard == []
    assert here.sending.statistics().nowhere == (size == 100)


def test_messages_beyond_what_rldp_holds_are_lost_in_silence(near, here, there):
    near.lost = True
    for _ in range(PER_PEER + 3):
        here.sending.send(there.id, PING + bytes(9_000))
    near.settle()
    assert here.sending.statistics().over_rldp == PER_PEER
    assert here.sending.statistics().nowhere == 3


def test_tap_sees_what_goes_over_udp_and_nothing_of_links(near, here, there):
    here.ask(there, PING + b"udp")
    near.settle()
    near.link()
    here.ask(there, PING + b"link")
    near.settle()
    assert here.shown == [(True, PING + b"udp")]
    assert there.shown == [(False, PING + b"udp"), (True, PING + b"udp!")]
