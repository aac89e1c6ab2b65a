"""The list of nodes: believed adverts by id, the newest of each, bounded and expiring.

Pure. It holds no clock: what it says is true as of the last `now` it was told, and whoever holds
it calls `expire` at `next_deadline`. How adverts travel is not known here.

An advert gives way to another of its node with a greater (seq, digest), whatever came first, so
that all lists converge. Two bodies with one seq prove the node's fault. An advert that is replaced
leaves its time of expiry behind: until then nothing older is taken, so that nobody can bring back
a node that has left.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from ipaddress import ip_address
from itertools import takewhile
from typing import Final, final

from p2p import defaults
from p2p.identity import AdnlId
from p2p.onion.path import RelayView
from p2p.overlay import advert as adverts
from p2p.overlay.advert import DAY, Advert, Role, Rules
from p2p.overlay.advert import Evidence as Evidence
from p2p.overlay.fields import LOAD_FULL
from p2p.overlay.listing import STABLE_DAYS
from p2p.overlay.listing import DirectoryStatus as DirectoryStatus
from p2p.overlay.listing import Entry as Entry
from p2p.wire import Endpoint

MAX_EVIDENCE: Final = 16
"""pairs of contradicting adverts kept until they are taken."""

_WEEK: Final = (1 << 7) - 1


class Verdict(Enum):
    """What became of an advert offered to the directory."""

    NEW = "new"
    KNOWN = "known"
    """These very bytes are listed already."""
    OLD = "old"
    """A newer one of the same node is listed."""
    FULL = "full"
    """A bound of the directory is reached."""


@dataclass(slots=True)
class _Record:
    advert: Advert
    arrival: int
    until: float
    """When an older advert of this node would be taken again."""
    seen_day: int
    seen_days: int
    """Bit i: listed i days before `seen_day`."""


@final
class Directory:
    """Believed adverts; `usable`, `find`, `relay` and `relays` are how circuits are planned.

    A node's group is, in a dev network, its own id; else its operator, its subnet (/16 or /32), or
    its first attachment. This node itself is listed but never usable.
    """

    def __init__(self, rules: Rules, self_id: AdnlId) -> None:
        self._rules = rules
        self._self_id = self_id
        self._now = 0.0
        self._confirmed: float | None = None

        self._records: dict[AdnlId, _Record] = {}
        self._arrivals = 0
        self._ends: list[tuple[float, AdnlId, int]] = []
        self._crowding: dict[bytes, int] = {}
        self._evidence: list[Evidence] = []

        self.version = 0
        """Grows whenever the list changes."""
        self._root: tuple[int, bytes] | None = None
        self._relays: tuple[int, list[RelayView]] | None = None

    # --- asking ---

    def usable(self, role: Role, model: bytes | None = None) -> list[Entry]:
        """Others with this role (and serving this model), ordered by id."""
        return [
            self._entry(record)
            for record in self._listed()
            if role in record.advert.roles
            and record.advert.id != self._self_id
            and (model is None or any(model == item.identity for item in record.advert.models))
        ]

    def find(self, node: AdnlId) -> Entry | None:
        """The listed node of this id."""
        record = self._records.get(node)
        return self._entry(record) if record is not None and self._is_listed(record) else None

    def relay(self, node_id: AdnlId) -> RelayView | None:
        """Any listed relay, worker or mint, as circuits see it."""
        record = self._records.get(node_id)
        return self._view(record) if record is not None and self._is_listed(record) else None

    def relays(self) -> Sequence[RelayView]:
        """The usable relays, ordered by id."""
        if self._relays is None or self._relays[0] != self.version:
            views = (self._view(record) for record in self._listed() if _can_relay(record.advert))
            own = self._self_id
            self._relays = self.version, [v for v in views if v is not None and v.id != own]
        return self._relays[1]

    def status(self) -> DirectoryStatus:
        """A snapshot."""
        listed = self._listed()
        return DirectoryStatus(
            epoch=self._epoch(self._now),
            root=self._hash(listed),
            count=len(listed),
            live=sum(self._is_live(record.advert) for record in listed),
            age=None if self._confirmed is None else self._now - self._confirmed,
        )

    def is_stale(self, now: float) -> bool:
        """Whether it was fetched once, and that is too long ago to choose from it."""
        last = defaults.STALE_EPOCHS * self._rules.epoch
        return self._confirmed is not None and now - self._confirmed > last

    def newest(self, node: AdnlId) -> Advert | None:
        """The newest advert known of a node, even if it has left."""
        record = self._records.get(node)
        return None if record is None else record.advert

    def since(self, arrival: int) -> list[tuple[int, Advert]]:
        """Adverts that came after that number, with their own, in order of arrival."""
        newer = takewhile(lambda record: record.arrival > arrival, reversed(self._records.values()))
        live = [(r.arrival, r.advert) for r in newer if r.advert.expires > self._now]
        return live[::-1]

    # --- learning ---

    def add(self, now: float, buffer: bytes) -> Verdict:
        """Offer an advert. Raises `AdvertError` if it breaks a rule."""
        self._now = max(self._now, now)
        advert = adverts.read(buffer, now, self._rules)
        old = self._records.get(advert.id)
        if old is not None and advert.digest == old.advert.digest:
            return Verdict.KNOWN
        if old is not None and advert.seq < old.advert.seq:
            return Verdict.OLD
        adverts.verify(advert, self._rules)
        if old is not None and advert.seq == old.advert.seq:
            self._accuse(old.advert, advert)
            if advert.digest < old.advert.digest:
                return Verdict.OLD
        if not self._has_room(advert, old):
            return Verdict.FULL
        self._put(now, advert, old)
        return Verdict.NEW

    def confirm(self, now: float) -> None:
        """Somebody else's list is known to be in ours."""
        self._confirmed = self._now = max(self._now, now)

    def take_evidence(self) -> list[Evidence]:
        """Faults proven since the last call."""
        taken, self._evidence = self._evidence, []
        return taken

    # --- time ---

    def expire(self, now: float) -> bool:
        """Forget what has run out; whether anything listed had."""
        self._now = max(self._now, now)
        before = self.version
        while self._ends and self._ends[0][0] <= now:
            _, node, arrival = heapq.heappop(self._ends)
            record = self._records.get(node)
            if record is not None and record.arrival == arrival:
                self._end(record)
        return self.version != before

    def next_deadline(self) -> float | None:
        """When something runs out."""
        return self._ends[0][0] if self._ends else None

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"adverts": len(self._records), "ends": len(self._ends)}

    def _end(self, record: _Record) -> None:
        self.version += 1
        if record.until <= self._now:
            self._count_crowding(record.advert, -1)
            del self._records[record.advert.id]
        else:
            heapq.heappush(self._ends, (record.until, record.advert.id, record.arrival))

    def _put(self, now: float, advert: Advert, old: _Record | None) -> None:
        if old is not None:
            self._count_crowding(old.advert, -1)
            del self._records[advert.id]
        self._count_crowding(advert, 1)
        self._arrivals += 1
        self.version += 1

        until = float(advert.expires) if old is None else max(advert.expires, old.until)
        day, days = _seen(now, old)
        self._records[advert.id] = _Record(advert, self._arrivals, until, day, days)
        heapq.heappush(self._ends, (advert.expires, advert.id, self._arrivals))
        self._prune_ends()

    def _prune_ends(self) -> None:
        """Drop the ends of adverts that were replaced, once they are the greater part."""
        if len(self._ends) > 2 * len(self._records) + 16:
            current = {(r.advert.id, r.arrival): None for r in self._records.values()}
            self._ends = [end for end in self._ends if end[1:] in current]
            heapq.heapify(self._ends)

    def _accuse(self, first: Advert, second: Advert) -> None:
        if len(self._evidence) < MAX_EVIDENCE:
            self._evidence.append(Evidence(first.buffer, second.buffer))

    # --- bounds ---

    def _has_room(self, advert: Advert, old: _Record | None) -> bool:
        """Who came first stays: age is the only thing a crowd of new names cannot have."""
        if old is None and len(self._records) >= defaults.MAX_ADVERTS:
            return False
        held = {} if old is None else dict.fromkeys(self._crowds(old.advert))
        return all(
            key in held or self._crowding.get(key, 0) < bound
            for key, bound in self._crowds(advert).items()
        )

    def _crowds(self, advert: Advert) -> dict[bytes, int]:
        """What this advert counts towards, and how many that may be."""
        if self._rules.dev:
            return {}
        if advert.addresses:
            return {_network(advert.addresses[0], 3, 6): defaults.ADVERTS_PER_SUBNET}
        return dict.fromkeys(advert.attachments, defaults.ADVERTS_PER_ATTACHMENT)

    def _count_crowding(self, advert: Advert, change: int) -> None:
        for key in self._crowds(advert):
            count = self._crowding.get(key, 0) + change
            if count:
                self._crowding[key] = count
            else:
                del self._crowding[key]

    # --- views ---

    def _listed(self) -> list[_Record]:
        return [record for _, record in sorted(self._records.items()) if self._is_listed(record)]

    def _is_listed(self, record: _Record) -> bool:
        return record.advert.roles != 0 and record.advert.expires > self._now

    def _is_live(self, advert: Advert) -> bool:
        return self._epoch(advert.issued) >= self._epoch(self._now) - 1

    def _epoch(self, when: float) -> int:
        return int(when // self._rules.epoch)

    def _entry(self, record: _Record) -> Entry:
        capacity = record.advert.fields.capacity
        return Entry(
            advert=record.advert,
            live=self._is_live(record.advert),
            open=capacity is None or capacity.load < LOAD_FULL,
            days=self._days(record),
            group=self._group(record.advert),
        )

    def _view(self, record: _Record) -> RelayView | None:
        advert = record.advert
        if advert.onion is None:
            return None
        return RelayView(
            id=advert.id,
            onion_key=advert.onion.key,
            operator=self._group(advert),
            subnet=_public_subnet(advert.addresses),
            roles=advert.roles,
            stable=self._days(record) >= STABLE_DAYS,
            weight=1.0,
            attachments=advert.attachments,
        )

    def _group(self, advert: Advert) -> bytes:
        if self._rules.dev:
            return advert.id
        if advert.fields.operator is not None:
            return advert.fields.operator
        return _public_subnet(advert.addresses) or b"".join(advert.attachments[:1]) or advert.id

    def _days(self, record: _Record) -> int:
        passed = int(self._now // DAY) - record.seen_day
        return (record.seen_days << passed & _WEEK).bit_count() if passed < 7 else 0

    def _hash(self, listed: Sequence[_Record]) -> bytes:
        """Hash of 256 hashes, each over the entries whose id begins with that byte."""
        if self._root is None or self._root[0] != self.version:
            buckets = [sha256() for _ in range(256)]
            for record in listed:
                buckets[record.advert.id[0]].update(record.advert.id + record.advert.digest)
            joined = b"".join(bucket.digest()[:16] for bucket in buckets)
            self._root = self.version, sha256(joined).digest()
        return self._root[1]


def _can_relay(advert: Advert) -> bool:
    return Role.RELAY in advert.roles and Role.DIALABLE in advert.roles


def _seen(now: float, old: _Record | None) -> tuple[int, int]:
    day = int(now // DAY)
    if old is None:
        return day, 1
    passed = min(day - old.seen_day, 7)
    return day, (old.seen_days << passed | 1) & _WEEK


def _network(endpoint: Endpoint, size4: int, size6: int) -> bytes:
    packed = ip_address(endpoint.host).packed
    return packed[: size4 if len(packed) == 4 else size6]


def _public_subnet(addresses: Sequence[Endpoint]) -> bytes:
    """/16 or /32 of the first address; empty for one that is not public."""
    if not addresses or not ip_address(addresses[0].host).is_global:
        return b""
    return _network(addresses[0], 2, 4)
