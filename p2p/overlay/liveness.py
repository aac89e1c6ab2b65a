"""Who is still there: the pulses of listed nodes, checked against their adverts' anchors.

For each node and kind the last value known is kept, so that a check walks from there and not from
the anchor. What is no news costs nothing; what is forged costs the steps it claims to be ahead, and
those are rationed: all together take 5 % of a core, and no sender can take more than its share.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from p2p import defaults
from p2p.bucket import Buckets, full_bucket
from p2p.identity import AdnlId
from p2p.overlay import pulse as pulses_of
from p2p.overlay.pulse import ANCHORS_SIZE, PREFIX_SIZE, SLOTS, VALUE_SIZE, Kind, Pulse

SLOTS_BACK, SLOTS_AHEAD = 2, 1
"""slots from the current one in which a pulse is news: clocks drift and casts are gathered."""

STEPS_RATE: Final = 100_000.0
"""steps of a chain walked a second: 5 % of a core at 0.45 us each."""

STEPS_BURST: Final = 2_000_000.0
"""steps at once: the first pulses of 10,000 nodes, whose adverts are half a life old, and again."""

SENDER_RATE: Final = STEPS_RATE / 10
"""steps a second for what one peer sends: 30 times the pulses of 10,000 nodes."""

SENDER_BURST: Final = STEPS_BURST / 2
"""steps at once for one peer: as above, once."""

SENDERS: Final = 1_024
"""peers whose steps are counted."""


class State(Enum):
    """What is known of a node."""

    GONE = "neither a pulse nor an advert of this or the last slot"
    OPEN = "there"
    BUSY = "there, but takes no work"


class Fate(Enum):
    """What becomes of a pulse."""

    ACCEPTED = "valid and new"
    UNKNOWN = "of a node that is not listed, or whose advert has no anchors"
    UNTIMELY = "too old, or ahead of time"
    KNOWN = "no newer than what we have"
    FORGED = "not of that chain"
    RATIONED = "not looked at, as its sender or all together cost too much"


@dataclass(slots=True)
class _Node:
    id: AdnlId
    anchors: bytes
    issued: float
    """When its newest advert was."""
    slots: list[int]
    values: list[bytes]
    """By kind: the last known, at first the anchor in slot 0."""


@final
class PulseBook:
    """The newest pulse of every node that is `expect`ed, of each kind."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._nodes: dict[bytes, _Node] = {}
        self._all = full_bucket(STEPS_RATE, STEPS_BURST, 0.0)
        self._senders = Buckets[AdnlId](SENDER_RATE, SENDER_BURST, SENDERS)
        self._fates = dict.fromkeys(Fate, 0)

    # --- what adverts say ---

    def expect(self, node: AdnlId, issued: float, anchors: bytes) -> bool:
        """Take the anchors of a node's newest advert; its earlier pulses count no longer.

        False if there is no room, or if another node's id begins with the same 8 bytes: the first
        keeps its place.
        """
        if len(anchors) != ANCHORS_SIZE:
            raise ValueError("two anchors of 16 bytes")
        prefix = node[:PREFIX_SIZE]
        there = self._nodes.get(prefix)
        if there.id != node if there else len(self._nodes) >= defaults.MAX_ADVERTS:
            return False
        if there is None or there.anchors != anchors:
            values = [anchors[:VALUE_SIZE], anchors[VALUE_SIZE:]]
            self._nodes[prefix] = _Node(node, anchors, issued, [0, 0], values)
        return True

    def forget(self, node: AdnlId) -> None:
        """Its advert has gone; harmless if it was not expected."""
        if (there := self._nodes.get(node[:PREFIX_SIZE])) and there.id == node:
            del self._nodes[node[:PREFIX_SIZE]]

    # --- what pulses say ---

    def take(self, now: float, sender: AdnlId, pulses: Sequence[Pulse]) -> list[Pulse]:
        """Those of them that are valid and new, in order: to be told on, once."""
        taken = []
        for pulse in pulses:
            fate = self._judge(now, sender, pulse)
            self._fates[fate] += 1
            if fate is Fate.ACCEPTED:
                taken.append(pulse)
        return taken

    def state(self, now: float, node: AdnlId) -> State:
        """Whether it is there, as far as is known; BUSY beats OPEN within a slot."""
        there = self._nodes.get(node[:PREFIX_SIZE])
        if there is None or there.id != node:
            return State.GONE
        current = pulses_of.slot_of(now, there.issued, self._epoch)
        if max(there.slots) < current - 1:
            return State.GONE
        open_, busy = there.slots
        return State.BUSY if busy and busy >= max(open_, current - 1) else State.OPEN

    def newest(self, nodes: Iterable[AdnlId]) -> list[Pulse]:
        """The last pulses known of these nodes: the last, and OPEN before BUSY if of one slot."""
        known = [self._nodes.get(node[:PREFIX_SIZE]) for node in nodes]
        return [pulse for there in known if there for pulse in _newest(there)]

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"pulse_nodes": len(self._nodes), "pulse_senders": len(self._senders)}

    def statistics(self) -> Mapping[Fate, int]:
        """How many pulses met which fate so far."""
        return dict(self._fates)

    def _judge(self, now: float, sender: AdnlId, pulse: Pulse) -> Fate:
        """Cheapest checks first."""
        there = self._nodes.get(pulse.prefix)
        if there is None:
            return Fate.UNKNOWN
        current = pulses_of.slot_of(now, there.issued, self._epoch)
        if not current - SLOTS_BACK <= pulse.slot <= min(current + SLOTS_AHEAD, SLOTS):
            return Fate.UNTIMELY
        steps = pulse.slot - there.slots[pulse.kind]
        if steps <= 0:
            return Fate.KNOWN
        if not (self._senders.take(now, sender, steps) and self._all.take(now, steps)):
            return Fate.RATIONED
        if pulses_of.walk(there.id, pulse.value, steps) != there.values[pulse.kind]:
            return Fate.FORGED
        there.slots[pulse.kind], there.values[pulse.kind] = pulse.slot, pulse.value
        return Fate.ACCEPTED


def _newest(there: _Node) -> list[Pulse]:
    """A BUSY older than OPEN says nothing any more, an OPEN older than BUSY neither."""
    last = max(there.slots)
    return [
        Pulse(there.id[:PREFIX_SIZE], last, kind, there.values[kind])
        for kind in Kind
        if last and there.slots[kind] == last
    ]
