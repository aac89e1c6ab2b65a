"""Whom this node knows: 256 buckets by the length of the prefix that an id shares with ours.

A bucket holds k active nodes, which are asked and named to others, and k backup nodes in reserve.

- Who introduces itself enters as backup, unproven, and is pinged at once. It is proven, and may
  be active, once it has answered us at the address of its record: TON's nodes trust the record,
  and whoever cannot be reached then costs every lookup a timeout.
- A newer record with other addresses makes a node unproven again.
- Who misses a query or a ping is pinged again soon. A proven node that has missed more than
  `max_missed` of them is lost: it becomes backup, is pinged ever more seldom, and gives way to any
  other. An unproven one is then forgotten.
- A proven backup that has missed nothing takes the place of an active node that is lost.
- A newcomer finds room, or takes that of a backup node that misses pings; who is proven takes that
  of any unproven one. So long as they answer, those who have been here longest stay.
- Addresses are cheap in blocks: few nodes of one /24 or /48 are in the table, fewer in a bucket.

Pure; the order of everything depends on the calls alone.
"""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from p2p.dht.node import Node, distance
from p2p.dht.settings import Settings
from p2p.identity import AdnlId
from p2p.ton import AdnlAddress

ID_BITS: Final = 256

_STALE_ENTRIES: Final = 64
"""entries of the queue of pings that may be void, besides one per node, before it is purged."""


class TableStatistics(NamedTuple):
    """A snapshot."""

    active: int
    backup: int
    proven: int
    """Those that have answered at their address, active or not."""


@dataclass(slots=True, eq=False)
class _Contact:
    node: Node
    place: int
    """Of its bucket: the bucket itself would make a ring of the two."""
    interval: float
    due: float
    proven: bool = False
    active: bool = False
    missed: int = 0
    missed_at: float = -math.inf
    pinged_at: float = -math.inf
    queued: float | None = None
    """When its entry of the queue of pings is due: that may be before `due`, never after."""
    gone: bool = False


@final
class _Bucket:
    __slots__ = ("active", "backup")

    def __init__(self) -> None:
        self.active: list[_Contact] = []
        self.backup: list[_Contact] = []

    def all(self) -> Iterator[_Contact]:
        yield from self.active
        yield from self.backup


@final
class Table:
    """See the module."""

    def __init__(self, own: AdnlId, settings: Settings) -> None:
        self._own = own
        self._settings = settings
        self._buckets: dict[int, _Bucket] = {}
        self._contacts: dict[AdnlId, _Contact] = {}
        self._subnets: dict[bytes, int] = {}
        self._pings: list[tuple[float, int, _Contact]] = []
        self._queued = 0
        self.active_count = 0

    # --- what is learnt ---

    def introduce(self, now: float, node: Node) -> bool:
        """A node says that it exists; False if there is no room for it. It is pinged if need be."""
        known = self._contacts.get(node.id)
        if known is None:
            return self._enter(now, node, proven=False) is not None
        if node.version > known.node.version:
            self._renew(now, known, node)
        if known.missed or not known.proven:
            self._schedule(known, max(now, known.pinged_at + self._settings.retry_interval))
        return True

    def answered(self, now: float, node: Node) -> None:
        """This node answered a query that we sent to an address of its record."""
        self.introduce(now, node)
        contact = self._contacts.get(node.id) or self._enter(now, node, proven=True)
        if contact is None or contact.node.addresses.addrs != node.addresses.addrs:
            return
        contact.proven = True
        contact.missed = 0
        contact.interval = self._settings.ping_interval
        self._schedule(contact, now + contact.interval)
        self._promote(self._buckets[contact.place])

    def assume(self, known: Iterable[tuple[float, Node]]) -> None:
        """As if each of these nodes had been met and had `answered` at its time, but all at once.

        A node that is known already, or for which there is no room, is left as it is.
        """
        for when, node in known:
            if node.id != self._own and node.id not in self._contacts:
                self._assume(when, node)
        heapq.heapify(self._pings)

    def _assume(self, when: float, node: Node) -> None:
        place = self._place(node.id)
        bucket = self._buckets.setdefault(place, _Bucket())
        is_active = len(bucket.active) < self._settings.k
        held = bucket.active if is_active else bucket.backup
        if len(held) >= self._settings.k or not self._subnet_has_room(node, bucket, None):
            return
        interval = self._settings.ping_interval
        due = when + interval
        contact = _Contact(node, place, interval, due, True, is_active, queued=due)
        held.append(contact)
        self.active_count += is_active
        self._contacts[node.id] = contact
        self._subnets[node.subnet] = self._subnets.get(node.subnet, 0) + 1
        self._pings.append((due, self._queued, contact))
        self._queued += 1

    def missed(self, now: float, node: AdnlId) -> None:
        """This node did not answer a query. Many at once count as one."""
        contact = self._contacts.get(node)
        if contact is None or now < contact.missed_at + self._settings.retry_interval / 2:
            return
        contact.missed += 1
        contact.missed_at = now
        if contact.missed <= self._settings.max_missed:
            self._schedule(contact, now + self._settings.retry_interval)
        elif contact.proven:
            self._lose(contact)
        else:
            self._remove(contact)

    # --- what is asked ---

    def find(self, node: AdnlId) -> Node | None:
        """The node of this id, whether it can be reached or not."""
        contact = self._contacts.get(node)
        return None if contact is None else contact.node

    def address(self, node: Node) -> AdnlAddress:
        """Where to ask a node: at its first address, or at another if it has missed something."""
        contact = self._contacts.get(node.id)
        missed = 0 if contact is None else contact.missed
        return node.addresses.addrs[missed % len(node.addresses.addrs)]

    def is_active(self, node: AdnlId) -> bool:
        """Whether a node is one of those that are asked and named."""
        contact = self._contacts.get(node)
        return contact is not None and contact.active

    def active(self) -> list[Node]:
        """All nodes that are asked and named."""
        return [contact.node for contact in self._contacts.values() if contact.active]

    def proven(self) -> list[Node]:
        """All nodes that have answered at their addresses, the active ones first."""
        known = [contact for contact in self._contacts.values() if contact.proven]
        known.sort(key=lambda contact: not contact.active)
        return [contact.node for contact in known]

    def nearest(self, target: bytes, count: int) -> list[Node]:
        """The active nodes nearest to a key, nearest first."""
        return _sorted(self._gather(target, count), target)[:count]

    def reserve(self, target: bytes, count: int) -> list[Node]:
        """The nearest of those that once answered: whom to ask when nobody is active."""
        return _sorted(self.proven(), target)[:count]

    def nearer(self, target: bytes) -> int:
        """How many active nodes are nearer to a key than this one."""
        own = distance(self._own, target)
        place = ID_BITS - own.bit_length()
        deeper = (bucket for at, bucket in self._buckets.items() if at > place)
        closer = (
            distance(contact.node.id, target) < own
            for bucket in deeper
            for contact in bucket.active
        )
        return self._count(place) + sum(closer)

    def with_room(self) -> list[int]:
        """The buckets that have room for an active node, up to the first behind all that hold any.

        Beyond that one no more nodes are to be expected.
        """
        deepest = max((place for place, one in self._buckets.items() if one.active), default=-1)
        places = range(min(deepest + 2, ID_BITS))
        return [place for place in places if self._count(place) < self._settings.k]

    # --- pings ---

    def due(self, now: float) -> list[Node]:
        """Whom to ping now. Each is not due again before its interval has passed."""
        found: list[Node] = []
        while (when := self.next_due()) is not None and when <= now:
            contact = heapq.heappop(self._pings)[2]
            contact.queued = None
            if contact.due <= now:
                found.append(contact.node)
                contact.due = now + contact.interval
                contact.pinged_at = now
            self._schedule(contact, contact.due)
        return found

    def next_due(self) -> float | None:
        """When the next node may have to be pinged."""
        while self._pings and self._is_stale(self._pings[0]):
            heapq.heappop(self._pings)
        return self._pings[0][0] if self._pings else None

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "dht_contacts": len(self._contacts),
            "dht_subnets": len(self._subnets),
            "dht_pings": len(self._pings),
        }

    def statistics(self) -> TableStatistics:
        """A snapshot of the counts."""
        proven = sum(contact.proven for contact in self._contacts.values())
        return TableStatistics(self.active_count, len(self._contacts) - self.active_count, proven)

    def __len__(self) -> int:
        return len(self._contacts)

    # --- coming and going ---

    def _enter(self, now: float, node: Node, *, proven: bool) -> _Contact | None:
        if node.id == self._own:
            return None
        place = self._place(node.id)
        bucket = self._buckets.setdefault(place, _Bucket())
        victim = None
        if len(bucket.backup) >= self._settings.k:
            victim = _weakest(bucket, proven=proven)
            if victim is None:
                return None
        if not self._subnet_has_room(node, bucket, victim):
            return None
        if victim is not None:
            self._remove(victim)
        return self._add(now, node, place)

    def _add(self, now: float, node: Node, place: int) -> _Contact:
        contact = _Contact(node, place, self._settings.retry_interval, now)
        self._buckets[place].backup.append(contact)
        self._contacts[node.id] = contact
        self._subnets[node.subnet] = self._subnets.get(node.subnet, 0) + 1
        self._schedule(contact, now)
        return contact

    def _remove(self, contact: _Contact) -> None:
        bucket = self._buckets[contact.place]
        if contact.active:
            bucket.active.remove(contact)
            self.active_count -= 1
        else:
            bucket.backup.remove(contact)
        contact.gone = True
        del self._contacts[contact.node.id]
        self._forget_subnet(contact.node.subnet)
        self._promote(bucket)

    def _renew(self, now: float, contact: _Contact, node: Node) -> None:
        """A newer record: what was proven of other addresses is not of these."""
        moved = contact.node.addresses.addrs != node.addresses.addrs
        if moved and not self._subnet_has_room(node, self._buckets[contact.place], contact):
            self._remove(contact)
            return
        self._forget_subnet(contact.node.subnet)
        self._subnets[node.subnet] = self._subnets.get(node.subnet, 0) + 1
        contact.node = node
        if moved:
            contact.proven = False
            contact.missed = 0
            contact.interval = self._settings.retry_interval
            self._demote(contact)

    def _lose(self, contact: _Contact) -> None:
        slower = contact.interval * self._settings.ping_slowdown
        contact.interval = min(slower, self._settings.ping_slowest)
        self._demote(contact)

    def _demote(self, contact: _Contact) -> None:
        """Make a node a backup; whoever must leave for it leaves, itself perhaps."""
        if not contact.active:
            return
        bucket = self._buckets[contact.place]
        bucket.active.remove(contact)
        bucket.backup.append(contact)
        contact.active = False
        self.active_count -= 1
        self._promote(bucket)
        if len(bucket.backup) > self._settings.k:
            self._remove(_weakest(bucket, proven=True) or contact)

    def _promote(self, bucket: _Bucket) -> None:
        while len(bucket.active) < self._settings.k:
            ready = (one for one in bucket.backup if one.proven and not one.missed)
            contact = next(ready, None)
            if contact is None:
                return
            bucket.backup.remove(contact)
            bucket.active.append(contact)
            contact.active = True
            self.active_count += 1

    # --- subnets ---

    def _subnet_has_room(self, node: Node, bucket: _Bucket, leaving: _Contact | None) -> bool:
        settings = self._settings
        if node.subnet not in self._subnets:
            return settings.per_subnet != 0 != settings.per_subnet_and_bucket
        left = int(leaving is not None and leaving.node.subnet == node.subnet)
        here = sum(one.node.subnet == node.subnet for one in bucket.all()) - left
        everywhere = self._subnets.get(node.subnet, 0) - left
        return _below(everywhere, settings.per_subnet) and _below(
            here, settings.per_subnet_and_bucket
        )

    def _forget_subnet(self, subnet: bytes) -> None:
        self._subnets[subnet] -= 1
        if not self._subnets[subnet]:
            del self._subnets[subnet]

    # --- places ---

    def _place(self, node: bytes) -> int:
        return ID_BITS - distance(self._own, node).bit_length()

    def _count(self, place: int) -> int:
        bucket = self._buckets.get(place)
        return 0 if bucket is None else len(bucket.active)

    def _nodes(self, place: int) -> list[Node]:
        bucket = self._buckets.get(place)
        return [] if bucket is None else [contact.node for contact in bucket.active]

    def _gather(self, target: bytes, count: int) -> list[Node]:
        """At least the `count` nearest nodes: whole buckets, in the order of their distance.

        A key shares p bits with us. The nodes of bucket p share more with it, those of all deeper
        buckets exactly p, those of bucket q < p exactly q.
        """
        place = self._place(target)
        found = list(self._nodes(place))
        if len(found) < count:
            for deeper in self._buckets:
                if deeper > place:
                    found += self._nodes(deeper)
        shallower = place - 1
        while len(found) < count and shallower >= 0:
            found += self._nodes(shallower)
            shallower -= 1
        return found

    # --- the queue of pings ---

    def _schedule(self, contact: _Contact, when: float) -> None:
        """Ping at `when`; an entry that comes sooner is left, and put off when it is met."""
        contact.due = when
        if contact.queued is None or when < contact.queued:
            contact.queued = when
            heapq.heappush(self._pings, (when, self._queued, contact))
            self._queued += 1
        if len(self._pings) > 2 * len(self._contacts) + _STALE_ENTRIES:
            self._pings = [entry for entry in self._pings if not self._is_stale(entry)]
            heapq.heapify(self._pings)

    def _is_stale(self, entry: tuple[float, int, _Contact]) -> bool:
        when, _, contact = entry
        return contact.gone or contact.queued != when


def _below(count: int, bound: int | None) -> bool:
    return bound is None or count < bound


def _weakest(bucket: _Bucket, *, proven: bool) -> _Contact | None:
    """Who makes room for a newcomer, proven or not: one that misses pings, the worst of them."""
    candidates = [one for one in bucket.backup if one.missed or (proven and not one.proven)]
    return max(candidates, key=lambda one: (not one.proven, one.missed), default=None)


def _sorted(nodes: list[Node], target: bytes) -> list[Node]:
    return sorted(nodes, key=lambda node: distance(node.id, target))
