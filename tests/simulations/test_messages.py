"""The message seam in virtual time: delays, losses, addresses, timers, and its seed."""

import pytest

from p2p.entropy import seeded
from p2p.errors import AnswerTooBig, Livelock, LocalError, Timeout, Unreachable
from p2p.identity import Identity
from p2p.transport.fabric import EPOCH, Constant
from simulations.log import EventLog
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from simulations.network.nat import LIFETIME, Boxes, Nat
from simulations.network.places import address_of, endpoint_of
from simulations.seat import HEAD, HEARD_LIFE, Seat

DELAY = 0.1


class Echo:
    """Answers with what it is asked, remembers what it is told, and ticks."""

    def __init__(self, tick=None):
        self.heard = []
        self.ticks = []
        self._tick = tick
        self._due = None if tick is None else EPOCH + tick

    def message(self, now, peer, payload):
        self.heard.append((now, peer, payload))

    def query(self, now, peer, payload):
        self.heard.append((now, peer, payload))
        return None if payload == b"hush" else payload[::-1]

    def handle_timer(self, now):
        self.ticks.append(now)
        self._due += self._tick

    def next_deadline(self):
        return self._due


def world(fabric=None):
    return MessageWorld(seeded(1), fabric or Constant(DELAY))


def seat(world, number, core=None, **options):
    place = world.seat(Identity(bytes([number]) * 32), **options)
    place.attach(core or Echo())
    return place


def say(one, other, payload):
    one.call(lambda now: one.send(other.identity.id, payload))


def introduce(one, other):
    one.learn(other.identity.public, other.addresses)


def test_an_answer_takes_two_delays():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)

    outcome = a.start(a.query(b.identity.id, b"abc", timeout=3.0))

    assert w.finish(outcome, within=5.0) == b"cba"
    assert outcome.ended == pytest.approx(EPOCH + 2 * DELAY)


def test_silence_ends_in_a_timeout_at_its_time():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)

    outcome = a.start(a.query(b.identity.id, b"hush", timeout=3.0))

    with pytest.raises(Timeout):
        w.finish(outcome, within=5.0)
    assert outcome.ended == pytest.approx(EPOCH + 3.0)


def test_an_answer_longer_than_allowed_is_an_error():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)
    with pytest.raises(AnswerTooBig):
        w.finish(a.start(a.query(b.identity.id, b"abcd", timeout=3.0, max_answer=3)), within=5.0)


def test_whom_nothing_is_known_of_cannot_be_asked():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    with pytest.raises(Unreachable, match="nothing says"):
        w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0)


def test_who_was_heard_from_can_be_asked_back():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)
    say(a, b, b"hello")
    w.run(w.now + 1.0)
    assert w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0) == b"cba"


def test_a_node_behind_a_nat_hears_answers_but_nothing_sent_to_its_address():
    w = world()
    a, b = seat(w, 1, nat=Nat.PORT_RESTRICTED), seat(w, 2)
    introduce(a, b)
    introduce(b, a)

    with pytest.raises(Timeout):
        w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0)
    assert w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0) == b"cba"


def test_a_nat_lets_in_whom_its_node_has_spoken_to_for_a_while():
    w = world()
    a, b = seat(w, 1, nat=Nat.PORT_RESTRICTED), seat(w, 2)
    introduce(a, b)
    say(a, b, b"hello")
    w.run(w.now + 1.0)

    assert w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0) == b"cba"
    w.run(w.now + 2 * LIFETIME)
    with pytest.raises(Timeout):
        w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0)


def test_a_nat_lets_nobody_in_who_asks_at_the_address_whatever_its_node_has_said():
    w = world()
    a, b = seat(w, 1, nat=Nat.PORT_RESTRICTED), seat(w, 2)
    introduce(a, b)
    introduce(b, a)
    say(a, b, b"hello")
    w.run(w.now + 1.0)

    there = a.addresses.addrs[0]
    with pytest.raises(Timeout):
        w.finish(b.start(b.query_at(a.identity.id, there, b"abc", timeout=3.0)), within=5.0)
    back = a.start(a.query_at(b.identity.id, b.addresses.addrs[0], b"abc", timeout=3.0))
    assert w.finish(back, within=5.0) == b"cba"


def test_who_was_heard_is_found_again_though_it_was_said_to_be_elsewhere():
    w = world()
    a, b, c = seat(w, 1), seat(w, 2), seat(w, 3)
    introduce(a, b)
    b.learn(a.identity.public, c.addresses)
    say(a, b, b"hello")
    w.run(w.now + 1.0)
    assert w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0) == b"cba"

    w.run(w.now + 2 * HEARD_LIFE)
    with pytest.raises(Timeout):
        w.finish(b.start(b.query(a.identity.id, b"abc", timeout=3.0)), within=5.0)


def test_a_claimed_address_that_is_another_node_leads_nowhere():
    w = world()
    a, b, c = seat(w, 1), seat(w, 2), seat(w, 3)
    a.learn(b.identity.public, c.addresses)
    with pytest.raises(Timeout):
        w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0)


def test_a_crashed_node_is_silent_and_a_new_seat_takes_its_place():
    w = world()
    a, b = seat(w, 1), seat(w, 2, Echo(tick=1.0))
    introduce(a, b)
    b.crash()
    with pytest.raises(Timeout):
        w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0)

    again = seat(w, 2)

    assert again.addresses == b.addresses
    assert w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0) == b"cba"


def test_timers_run_when_they_are_due():
    w = world()
    core = Echo(tick=0.25)
    seat(w, 1, core)
    w.run(EPOCH + 1.0)
    assert core.ticks == [EPOCH + 0.25 * i for i in range(1, 5)]


def test_a_deadline_that_stays_in_the_past_is_a_livelock():
    class Stuck(Echo):
        def handle_timer(self, now):
            pass

    w = world()
    seat(w, 1, Stuck(tick=1.0))
    with pytest.raises(Livelock):
        w.run(EPOCH + 2.0)


def test_two_cores_of_a_node_are_told_apart_by_how_payloads_begin():
    w = world()
    a, b = seat(w, 1), w.seat(Identity(bytes(32)))
    first, rest = Echo(), Echo()
    b.attach(first, b"abcd")
    b.attach(rest)
    introduce(a, b)

    say(a, b, b"abcdef")
    say(a, b, b"xyz")
    w.run(w.now + 1.0)

    assert [payload for *_, payload in first.heard] == [b"abcdef"]
    assert [payload for *_, payload in rest.heard] == [b"xyz"]


def test_a_running_procedure_has_no_result():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)
    outcome = a.start(a.query(b.identity.id, b"abc", timeout=3.0))
    with pytest.raises(LocalError, match="has not ended"):
        w.finish(outcome, within=DELAY)


def test_what_is_for_somebody_else_or_is_no_letter_is_dropped():
    core = Echo()
    place = Seat(Identity(bytes(32)), 0, seeded(1), address_of(0), EPOCH)
    place.attach(core)
    there = endpoint_of(1)
    place.receive(EPOCH, there, HEAD.pack(0, bytes(32), bytes(32), 0) + b"for another")
    place.receive(EPOCH, there, b"short")
    place.receive(EPOCH, "no endpoint", HEAD.pack(0, place.identity.id, bytes(32), 0))
    assert core.heard == []
    place.receive(EPOCH, there, HEAD.pack(0, place.identity.id, bytes(32), 0) + b"for us")
    assert core.heard == [(EPOCH, bytes(32), b"for us")]
    assert place.sizes() == {
        "seat_book": 1,
        "seat_waiting": 0,
        "seat_timeouts": 0,
        "seat_procedures": 0,
    }


def test_an_answer_ends_its_timeout():
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)
    w.finish(a.start(a.query(b.identity.id, b"abc", timeout=3.0)), within=5.0)
    assert a.sizes()["seat_timeouts"] == 0
    assert a.next_deadline() is None


def test_commands_inside_a_turn_are_part_of_it():
    """A core that starts a procedure while it is spoken to does not step its seat again."""
    w = world()
    a, b = seat(w, 1), seat(w, 2)
    introduce(a, b)
    begun = []
    a.call(lambda now: begun.append(a.start(a.query(b.identity.id, b"abc", timeout=3.0))))
    assert w.finish(begun[0], within=5.0) == b"cba"


def test_log_tells_worlds_of_two_seeds_apart():
    digests = []
    for seed in (1, 1, 2):
        boxes = Boxes()
        log = EventLog(boxes.index)
        w = MessageWorld(seeded(1), Network(seeded(seed), loss=0.3), boxes=boxes, log=log)
        a, b = seat(w, 1), seat(w, 2)
        introduce(a, b)
        for _ in range(20):
            say(a, b, b"abc")
            w.run(w.now + 0.1)
        digests.append(log.digest)
    assert digests[0] == digests[1] != digests[2]


def storm(seed):
    w = world(Network(seeded(seed), loss=0.3))
    cores = [Echo() for _ in range(5)]
    seats = [seat(w, number, core) for number, core in enumerate(cores)]
    for one in seats:
        for other in seats:
            introduce(one, other)
            say(one, other, bytes(3))
    w.run(w.now + 10.0)
    return [core.heard for core in cores], w.statistics()


def test_losses_are_as_rare_as_asked_and_a_seed_repeats_them():
    heard, statistics = storm(7)
    assert storm(7) == (heard, statistics)
    assert storm(8) != (heard, statistics)
    assert 0 < statistics.lost < statistics.sent == 25
    assert sum(map(len, heard)) == 25 - statistics.lost
