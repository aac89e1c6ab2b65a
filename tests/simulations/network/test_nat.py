"""NATs by the rules of RFC 4787: who is seen where, who gets in, and which pairs can meet."""

from itertools import product

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH, GRID
from p2p.wire import Endpoint
from simulations.network.nat import LIFETIME, MIX, SHARERS, Boxes, Nat, drawing

RENDEZVOUS = 9
HOME = Endpoint("192.168.1.2", 4_001)
BEHIND = [nat for nat in Nat if nat not in (Nat.OPEN, Nat.FIREWALL)]


def world(*nats):
    """Nodes 0, 1 ... behind boxes of these classes, and an open one that all can ask."""
    boxes = Boxes()
    for node, nat in [*enumerate(nats), (RENDEZVOUS, Nat.OPEN)]:
        public = Endpoint(f"45.0.{node}.1", 4_001)
        home = HOME if nat in BEHIND else public
        boxes.settle(node, nat, home, public.host)
    return boxes


def at(node, port=4_001):
    return Endpoint(f"45.0.{node}.1", port)


def say(boxes, now, node, to):
    """Whom it reaches and what they see; None if it does not get through."""
    reached = boxes.reach(now, node, to)
    if reached is None:
        return None
    dst, source = reached
    return (dst, source) if boxes.admits(now + 0.01, dst, to, source) else None


def seen(boxes, now, node):
    """Where the rendezvous sees a node."""
    reached = boxes.reach(now, node, at(RENDEZVOUS))
    return None if reached is None else reached[1]


# --- what is seen, and who gets in ---


def test_open_node_is_seen_where_it_is_and_hears_everybody():
    boxes = world(Nat.OPEN, Nat.PORT_RESTRICTED)
    assert seen(boxes, EPOCH, 0) == at(0)
    assert say(boxes, EPOCH, 1, at(0))[0] == 0


def test_mapping_independent_of_the_endpoint_is_one_for_all():
    boxes = world(Nat.RESTRICTED)
    assert boxes.leave(EPOCH, 0, at(3)) == boxes.leave(EPOCH, 0, at(4)) != at(0)


def test_symmetric_box_shows_another_port_to_each():
    boxes = world(Nat.SYMMETRIC)
    ports = [boxes.leave(EPOCH, 0, to).port for to in (at(3), at(4), at(4, 5), at(3))]
    assert len(set(ports[:3])) == 3
    assert ports[3] == ports[0]


def test_blocked_node_says_and_hears_nothing():
    boxes = world(Nat.BLOCKED)
    assert boxes.leave(EPOCH, 0, at(RENDEZVOUS)) is None
    assert boxes.reach(EPOCH, RENDEZVOUS, at(0)) is None


@pytest.mark.parametrize(
    ("nat", "stranger", "other_port", "same"),
    [
        (Nat.OPEN, True, True, True),
        (Nat.FIREWALL, False, False, True),
        (Nat.FULL_CONE, True, True, True),
        (Nat.RESTRICTED, False, True, True),
        (Nat.PORT_RESTRICTED, False, False, True),
        (Nat.SYMMETRIC, False, False, True),
        (Nat.CGNAT, False, False, True),
    ],
)
def test_filter_lets_in_whom_its_class_says(nat, stranger, other_port, same):
    boxes = world(nat)
    outside = boxes.leave(EPOCH, 0, at(3))
    later = EPOCH + 1.0
    assert boxes.admits(later, 0, outside, at(4)) is stranger
    assert boxes.admits(later, 0, outside, at(3, 9)) is other_port
    assert boxes.admits(later, 0, outside, at(3)) is same


def test_nobody_gets_in_where_a_node_says_that_it_is_behind_its_box():
    boxes = world(Nat.FULL_CONE)
    boxes.leave(EPOCH, 0, at(3))
    assert boxes.reach(EPOCH + 1.0, RENDEZVOUS, at(0)) is None
    assert boxes.reach(EPOCH + 1.0, RENDEZVOUS, HOME) is None


# --- time ---


@pytest.mark.parametrize("nat", [Nat.FIREWALL, *BEHIND[:-1]])
def test_hole_closes_a_lifetime_after_the_last_datagram_out(nat):
    boxes = world(nat)
    boxes.leave(EPOCH, 0, at(3))
    outside = boxes.leave(EPOCH + 10.0, 0, at(3))
    end = EPOCH + 10.0 + LIFETIME
    assert boxes.admits(end - 1.0, 0, outside, at(3))
    assert boxes.admits(end, 0, outside, at(3))
    assert not boxes.admits(end + 1.0, 0, outside, at(3))


@pytest.mark.parametrize("nat", BEHIND[:-1])
def test_mapping_ends_a_lifetime_after_the_last_datagram_out(nat):
    kept, lost = world(nat), world(nat)
    before = kept.leave(EPOCH, 0, at(3))
    assert kept.leave(EPOCH + LIFETIME - 1.0, 0, at(3)) == before
    assert lost.leave(EPOCH, 0, at(3)) == before
    assert lost.leave(EPOCH + LIFETIME + 1.0, 0, at(3)) != before


@pytest.mark.parametrize("nat", BEHIND[:-1])
def test_box_that_rebinds_shows_its_node_elsewhere_and_lets_nobody_in(nat):
    boxes = world(nat)
    before = boxes.leave(EPOCH, 0, at(3))
    assert boxes.admits(EPOCH + 1.0, 0, before, at(3))
    boxes.rebind(0)
    assert not boxes.admits(EPOCH + 1.0, 0, before, at(3))
    after = boxes.leave(EPOCH + 2.0, 0, at(3))
    assert after != before
    assert boxes.admits(EPOCH + 3.0, 0, after, at(3))
    assert not boxes.admits(EPOCH + 3.0, 0, before, at(3))


@pytest.mark.parametrize("first", ["in", "out"])
def test_at_one_instant_it_does_not_matter_who_comes_first(first):
    boxes = world(Nat.PORT_RESTRICTED)
    outside = boxes.leave(EPOCH, 0, at(3))
    now = EPOCH + 1.0
    admitted = []
    for turn in (["in", "out"], ["out", "in"])[first == "out"]:
        if turn == "out":
            boxes.leave(now, 0, at(4))
        else:
            admitted.append(boxes.admits(now, 0, outside, at(4)))
    assert admitted == [False]
    assert boxes.admits(now + GRID, 0, outside, at(4))


def test_tables_are_as_long_as_what_is_in_use():
    boxes = world(Nat.SYMMETRIC, Nat.PORT_RESTRICTED)
    for n in range(2_000):
        for node in (0, 1):
            boxes.leave(EPOCH + n, node, at(2, 1 + n))
    assert boxes.sizes()["nat_holes"] < 2 * 2 * 2 * LIFETIME
    assert boxes.sizes()["nat_mappings"] < 2 * 2 * LIFETIME


# --- many behind one ---


def test_carrier_grade_box_holds_sixty_four_at_one_address():
    boxes = Boxes()
    for node in range(SHARERS + 1):
        boxes.settle(node, Nat.CGNAT, HOME, f"45.0.{node}.1")
    ends = [boxes.leave(EPOCH, node, at(200)) for node in range(SHARERS + 1)]
    assert len(set(ends)) == SHARERS + 1
    assert {end.host for end in ends[:SHARERS]} == {"45.0.0.1"}
    assert ends[SHARERS].host == "45.0.64.1"
    assert all(end.port < 65_536 for end in ends)
    assert boxes.reach(EPOCH, 0, ends[1]) is None  # no hairpin


def test_classes_are_drawn_by_their_shares_and_one_by_one():
    draw = drawing(MIX, seeded(1))
    classes = [draw(node) for node in range(4_000)]
    assert [draw(node) for node in range(10)] == classes[:10]
    for nat, share in MIX.items():
        assert classes.count(nat) / 4_000 == pytest.approx(share, abs=0.03)


# --- who can meet whom ---


def punch(first, second):
    """Both send to where a rendezvous saw the other, and then to where they heard it last."""
    boxes = world(first, second)
    there = {0: seen(boxes, EPOCH, 1), 1: seen(boxes, EPOCH, 0)}
    heard = {}
    for turn in range(4):
        arrivals = []
        for node in (0, 1):
            to = heard.get(node) or there[node]
            if to is not None and (reached := boxes.reach(EPOCH + turn, node, to)) is not None:
                arrivals.append((reached, to))
        for (dst, source), to in arrivals:
            if dst in (0, 1) and boxes.admits(EPOCH + turn + 0.5, dst, to, source):
                heard[dst] = source
    return len(heard) == 2


HARD = {
    frozenset([Nat.SYMMETRIC, other])
    for other in (Nat.SYMMETRIC, Nat.PORT_RESTRICTED, Nat.CGNAT, Nat.FIREWALL)
} | {frozenset([Nat.BLOCKED, other]) for other in Nat}


@pytest.mark.parametrize(("first", "second"), list(product(Nat, Nat)))
def test_hole_punching_works_for_just_the_pairs_that_the_rules_say(first, second):
    behind_one = first is second is Nat.CGNAT
    assert punch(first, second) is (frozenset([first, second]) not in HARD and not behind_one)


@pytest.mark.parametrize("nat", list(Nat))
def test_direct_dial_without_rendezvous_works_towards_open_and_full_cone_only(nat):
    boxes = world(nat, Nat.OPEN)
    outside = boxes.leave(EPOCH, 0, at(RENDEZVOUS)) or at(0)
    got_in = say(boxes, EPOCH + 1.0, 1, outside) is not None
    assert got_in is (nat in (Nat.OPEN, Nat.FULL_CONE))
