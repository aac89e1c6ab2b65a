"""All adverts that may yet be listed, and the list of any moment made from them.

    effective time of an advert = max(its issue, when it was first seen - margin)
    S(c) = of each node the advert with the greatest (seq, digest) among those effective by c;
           then without those that end before c + epoch, or say that their node leaves

A merge is a maximum: the order in which adverts come never matters. An advert that comes within the
margin after its issue counts from its issue everywhere, and backdating one gains nothing.

Of each node only those are kept that some list may need: the newest, and those of the last frozen
cut and of the next. A node is remembered until the last advert seen of it has run out, so that
nobody can bring back an older one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, final

from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Advert, Digest, Evidence, Rules
from p2p.overlay.epochs import Calendar
from p2p.overlay.groups import Registry, nobody
from p2p.overlay.places import Places
from p2p.overlay.snapshot import Snapshot

MAX_EVIDENCE: Final = 16
"""pairs of contradicting adverts kept until they are taken."""

Read: TypeAlias = Callable[[bytes, float, Rules], Advert]
"""`advert.read`; a simulation of many nodes puts one with a memo here."""


class Verdict(Enum):
    """What became of an advert offered to the pool."""

    NEW = "new"
    KNOWN = "known"
    """These very bytes are held already."""
    OLD = "old"
    """A newer one of the same node is known, and no list can need this one."""
    FULL = "full"
    """A bound is reached, and others come before it."""


@dataclass(frozen=True, slots=True)
class _Version:
    advert: Advert
    effective: float

    @property
    def key(self) -> tuple[int, Digest]:
        return self.advert.seq, self.advert.digest


@dataclass(slots=True)
class _Node:
    versions: tuple[_Version, ...]
    """Ascending by key and by effective time: a greater one that was there earlier hides others."""
    until: float
    """When the last advert seen of it runs out."""

    @property
    def newest(self) -> Advert:
        return self.versions[-1].advert


@final
class Pool:
    """`offer` adverts, ask `list_at` a cut; `turn` when a list has been frozen.

    An epoch's list is frozen before anything is offered within it.
    """

    def __init__(
        self,
        rules: Rules,
        calendar: Calendar,
        *,
        registry: Registry = nobody,
        read: Read = adverts.read,
    ) -> None:
        self._rules = rules
        self._calendar = calendar
        self._read = read
        self._nodes: dict[AdnlId, _Node] = {}
        self._bodies: dict[Digest, Advert] = {}
        self._last: Snapshot | None = None
        self._places = Places(rules, registry, self._was_listed)
        self._evidence: list[Evidence] = []
        self._forgotten: list[AdnlId] = []
        self.version = 0
        """Grows whenever something is taken or forgotten."""

    # --- learning ---

    def offer(self, now: float, buffer: bytes, *, seen: float | None = None) -> Verdict:
        """Take an advert, first seen now unless said otherwise. Raises `AdvertError`."""
        if adverts.digest_of(buffer) in self._bodies:
            return Verdict.KNOWN
        seen = now if seen is None else seen
        return self.take(now, self._read(buffer, seen, self._rules), seen=seen)

    def take(self, now: float, advert: Advert, *, seen: float) -> Verdict:
        """As `offer`, what has been read already."""
        if advert.digest in self._bodies:
            return Verdict.KNOWN
        version = _Version(advert, max(advert.issued, seen - self._calendar.margin))
        node = self._nodes.get(advert.id)
        rival = _rival(node, advert)
        hidden = node is not None and _is_hidden(node.versions, version, self._next_cut(now))
        if node is not None and hidden and rival is None and advert.expires <= node.until:
            return Verdict.OLD

        adverts.verify(advert, self._rules)
        if rival is not None:
            self._accuse(rival, advert)
        if node is not None and hidden:
            node.until = max(node.until, advert.expires)
            return Verdict.OLD
        if not self._make_room(version, node):
            return Verdict.FULL
        self._put(now, version, node)
        return Verdict.NEW

    def take_evidence(self) -> list[Evidence]:
        """Faults proven since the last call."""
        taken, self._evidence = self._evidence, []
        return taken

    def take_forgotten(self) -> list[AdnlId]:
        """Nodes of which nothing has been known since the last call."""
        taken, self._forgotten = self._forgotten, []
        return taken

    # --- asking ---

    def list_at(self, cut: int) -> Snapshot:
        """S(cut): exact for the last frozen cut, the next, and any with nothing newer than it."""
        lasting = cut + self._calendar.epoch
        chosen = (_best(node.versions, cut) for node in self._nodes.values())
        return Snapshot(
            cut,
            [
                version.advert
                for version in chosen
                if version and version.advert.roles and version.advert.expires >= lasting
            ],
        )

    def newest(self, node: AdnlId) -> Advert | None:
        """The newest advert known of a node, even if it has left."""
        known = self._nodes.get(node)
        return None if known is None else known.newest

    def newest_of_all(self) -> list[Advert]:
        """The newest advert of each node."""
        return [node.newest for node in self._nodes.values()]

    def body(self, digest: Digest) -> Advert | None:
        """The advert of this digest."""
        return self._bodies.get(digest)

    def kept(self) -> list[tuple[float, bytes]]:
        """All adverts, each after a time of first sight that it is listed the same by."""
        margin = self._calendar.margin
        return [
            (version.effective + margin, version.advert.buffer)
            for node in self._nodes.values()
            for version in node.versions
        ]

    def __len__(self) -> int:
        return len(self._nodes)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"adverts": len(self._nodes), "advert_bodies": len(self._bodies)}

    # --- time ---

    def turn(self, now: float, frozen: Snapshot) -> None:
        """A list is frozen: forget what neither it nor a later one needs."""
        self._last = frozen
        self._places.settle()
        for node, known in list(self._nodes.items()):
            if known.until <= now:
                self._forget(node)
            elif len(known.versions) > 1:
                self._keep(now, known, known.versions)
        self.version += 1

    def retain(self, nodes: Callable[[AdnlId], bool]) -> None:
        """Forget all other nodes: a client keeps those of its lists."""
        for node in [node for node in self._nodes if not nodes(node)]:
            self._forget(node)

    # --- inside ---

    def _next_cut(self, now: float) -> int:
        return self._calendar.cut(self._calendar.number(now) + 1)

    def _make_room(self, version: _Version, node: _Node | None) -> bool:
        """A node's place is that of its newest advert."""
        if node is not None and version.key < node.versions[-1].key:
            return True
        yielding = self._places.yielding(version.advert)
        if yielding is None:
            return False
        for other in yielding:
            self._forget(other)
        self._places.give(version.advert)
        return True

    def _put(self, now: float, version: _Version, node: _Node | None) -> None:
        if node is None:
            node = self._nodes[version.advert.id] = _Node((), 0.0)
        self._bodies[version.advert.digest] = version.advert
        node.until = max(node.until, version.advert.expires)
        self._keep(now, node, sorted([*node.versions, version], key=lambda one: one.key))
        self.version += 1

    def _keep(self, now: float, node: _Node, versions: Iterable[_Version]) -> None:
        """Keep what the last, the next and any later list choose, and forget the rest."""
        versions = tuple(versions)
        last = -1.0 if self._last is None else self._last.cut
        chosen = [_best(versions, last), _best(versions, self._next_cut(now)), versions[-1]]
        node.versions = tuple(version for version in versions if version in chosen)
        for version in versions:
            if version not in node.versions:
                self._bodies.pop(version.advert.digest, None)

    def _forget(self, node: AdnlId) -> None:
        for version in self._nodes.pop(node).versions:
            self._bodies.pop(version.advert.digest, None)
        self._places.free(node)
        self._forgotten.append(node)
        self.version += 1

    def _was_listed(self, node: AdnlId) -> bool:
        return self._last is not None and self._last.find(node) is not None

    def _accuse(self, first: Advert, second: Advert) -> None:
        if len(self._evidence) < MAX_EVIDENCE:
            self._evidence.append(Evidence(first.buffer, second.buffer))


def _best(versions: tuple[_Version, ...], cut: float) -> _Version | None:
    """The greatest that is effective by then."""
    for version in reversed(versions):
        if version.effective <= cut:
            return version
    return None


def _is_hidden(versions: Iterable[_Version], version: _Version, next_cut: int) -> bool:
    """Whether no list to come would choose it."""
    greater = [other for other in versions if other.key > version.key]
    is_chosen_next = version.effective <= next_cut and all(
        other.effective > next_cut for other in greater
    )
    return bool(greater) and not is_chosen_next


def _rival(node: _Node | None, advert: Advert) -> Advert | None:
    """Another advert of this node and seq."""
    versions = () if node is None else node.versions
    return next((one.advert for one in versions if one.advert.seq == advert.seq), None)
