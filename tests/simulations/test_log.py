"""The event log: its published vectors, its order, its checkpoints."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.core import DATAGRAM, TIMER
from p2p.transport.fabric import EPOCH
from simulations.log import Checkpoint, EventLog

HALF = EPOCH + 0.5


def test_digest_is_the_published_one():
    log = EventLog()
    log.add(HALF, 2, DATAGRAM, 1, b"abc")
    assert log.digest == "0452a7ccfc57dfe3141bdc4c62df8000"
    log.add(HALF, 1, TIMER, None, b"")
    assert log.digest == "465157ae2b9fa42004ed7801c949eb32"


def test_digest_of_nothing_is_zero():
    assert EventLog().digest == "00" * 16


happenings = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.binary(max_size=5)), max_size=20
)


def digest(happenings):
    log = EventLog()
    for node, kind, data in happenings:
        log.add(HALF, node, kind, 0, data)
    return log.digest


@given(happenings, st.randoms())
def test_order_between_nodes_is_not_in_the_digest(happenings, rng):
    queues = {node: [h for h in happenings if h[0] == node] for node in range(4)}
    merged = []
    while any(queues.values()):
        merged.append(rng.choice([queue for queue in queues.values() if queue]).pop(0))
    assert digest(merged) == digest(happenings)


@given(happenings, st.randoms())
def test_order_within_a_node_is_in_the_digest(happenings, rng):
    mine = list(dict.fromkeys(h for h in happenings if h[0] == 0))
    shuffled = random.Random(rng.random()).sample(mine, len(mine))
    assert (digest(shuffled) == digest(mine)) == (shuffled == mine)


@pytest.mark.parametrize("change", ["now", "node", "kind", "peer", "data"])
def test_every_field_counts(change):
    fields = {"now": HALF, "node": 2, "kind": 2, "peer": 1, "data": b"abc"}
    other = dict(fields, **{change: b"abd" if change == "data" else fields[change] + 1})
    logs = EventLog(), EventLog()
    logs[0].add(**fields)
    logs[1].add(**other)
    assert logs[0].digest != logs[1].digest


def test_resolver_turns_sources_into_indexes():
    index, named = EventLog(), EventLog({"alice": 1}.__getitem__)
    index.add(HALF, 2, DATAGRAM, 1, b"abc")
    named.add(HALF, 2, DATAGRAM, "alice", b"abc")
    assert named.digest == index.digest


def test_source_that_no_resolver_was_given_for_is_a_type_error():
    with pytest.raises(TypeError):
        EventLog().add(HALF, 2, DATAGRAM, "alice", b"abc")


def test_checkpoint_stands_where_a_second_begins():
    log = EventLog()
    for now in [0.25, 0.75, 1.0, 3.5]:
        log.add(EPOCH + now, 0, TIMER, None, b"")

    before = EventLog()
    for now in [0.25, 0.75]:
        before.add(EPOCH + now, 0, TIMER, None, b"")
    second = int(EPOCH)
    assert log.checkpoints[0] == Checkpoint(second + 1, 2, before.digest)
    assert [(c.second, c.records) for c in log.checkpoints] == [(second + 1, 2), (second + 3, 3)]


def test_sink_sees_every_record_with_its_number():
    kept = []
    log = EventLog(sink=kept.append)
    log.add(HALF, 2, DATAGRAM, 1, b"abc")
    log.add(HALF, 2, TIMER, None, b"")
    log.add(HALF, 1, TIMER, None, b"")
    assert [(r.node, r.number, r.kind, r.peer) for r in kept] == [
        (2, 0, DATAGRAM, 1),
        (2, 1, TIMER, 0),
        (1, 0, TIMER, 0),
    ]


def test_sample_is_a_share_and_the_same_for_every_order_of_nodes():
    def kept(nodes):
        records = []
        log = EventLog(sink=records.append, keep=0.1)
        for node in nodes:
            for number in range(50):
                log.add(HALF, node, TIMER, None, bytes([number]))
        return sorted(records)

    sample = kept(range(40))
    assert sample == kept(reversed(range(40)))
    assert 120 < len(sample) < 280
