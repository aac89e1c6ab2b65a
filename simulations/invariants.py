"""What must hold of full nodes, whatever happens: looked at from outside, after every step.

    I8   knowledge: no datagram holds a prompt's canary; what a relay keeps of a circuit names not
         both its asker and its worker; what an end keeps names no asker
    I9   two minutes after the last fault, what tables hold is there
    I10  every table is within its bound
    I11  no exception leaves a core (a run that raises is one), and no error is logged

Those of money, I1 to I7, are `simulations/scenarios/witness.py`'s. I8 walks what hangs on circuits:
directory and DHT hold everybody's ids, and may.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, final

from p2p.core import DATAGRAM
from p2p.entropy import SeededEntropy, SystemEntropy
from p2p.identity import AdnlId
from p2p.onion.ends import ClientCircuit, EndCircuit
from p2p.onion.link import LinkCore
from simulations.log import Record
from simulations.scenarios import Audit, Violation

MOST: Final = 20_000
"""objects that hang on one circuit at the most; more is a walk that has gone astray"""

_LEAVES: Final = (SeededEntropy, SystemEntropy, type, int, float, str, bool)


@final
class Canaries:
    """I8, of what is on the wire: `see` every record of a log that keeps all."""

    def __init__(self, audit: Audit, canaries: Sequence[bytes]) -> None:
        self._audit = audit
        self._canaries = tuple(canaries)

    def see(self, record: Record) -> None:
        """A sink of an `EventLog`."""
        if record.kind != DATAGRAM:
            return
        self._audit.check("I8")
        if any(canary in record.data for canary in self._canaries):
            detail = f"a datagram from {record.peer} holds a prompt"
            self._audit.fail(
                Violation(invariant="I8", at=record.now, node=record.node, detail=detail)
            )


def knows(what: object, ids: Iterable[AdnlId]) -> frozenset[AdnlId]:
    """Whom of these the objects that hang on one circuit name; links name their far ends only."""
    wanted, found = tuple(ids), list[AdnlId]()
    seen: dict[int, None] = {}
    left = [what]
    while left and len(seen) < MOST:
        one = left.pop()
        if id(one) in seen or isinstance(one, _LEAVES):
            continue
        seen[id(one)] = None
        if isinstance(one, LinkCore):
            left.append(one.peer)
        elif isinstance(one, bytes | bytearray):
            data = bytes(one)
            found.extend(name for name in wanted if data.find(name) >= 0)
        else:
            left.extend(_parts(one))
    return frozenset(found)


def _parts(one: object) -> Iterator[object]:
    """What an object holds."""
    if isinstance(one, Mapping):
        yield from one.keys()
        yield from one.values()
    elif isinstance(one, list | tuple | frozenset):
        yield from one
    else:
        yield from vars(one).values() if hasattr(one, "__dict__") else ()
        for kind in type(one).__mro__:
            for name in getattr(kind, "__slots__", ()):
                yield getattr(one, name, None)


def told(circuits: Iterable[object], askers: Iterable[AdnlId], ends: Iterable[AdnlId]) -> str:
    """I8, of one node: what is wrong with what it keeps of the circuits of others; "" if nothing.

    `circuits` are those that pass through it or end there. An end is itself one of `ends`: what
    ends there may name no asker at all.
    """
    askers, ends = tuple(askers), tuple(ends)
    for circuit in circuits:
        if isinstance(circuit, ClientCircuit):
            continue
        names = knows(circuit, (*askers, *ends))
        if isinstance(circuit, EndCircuit) and names.intersection(askers):
            return "it knows who asks it"
        if names.intersection(askers) and names.intersection(ends):
            return "it knows who asks whom"
    return ""


def at_rest(entries: int, alive: int, least: float = 0.95) -> str:
    """I9: whether enough of a table's entries are there."""
    if entries and alive < least * entries:
        return f"{alive} of {entries} in the table are there"
    return ""
