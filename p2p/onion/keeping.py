"""What an endpoint keeps of circuits that may be gone on with, and for how many of them."""

from collections.abc import Iterable
from typing import final

from p2p import defaults
from p2p.onion.cell import CircuitId
from p2p.onion.ends import EndCircuit


@final
class Keeping:
    """Which session is which circuit, which of them wait for their askers, and bytes in all."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, CircuitId] = {}
        self._waiting: dict[CircuitId, None] = {}
        self._bytes = 0
        """Of answers that are kept, at most: counted anew when it may be too many."""

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session: bytes) -> CircuitId | None:
        """The circuit whose newest session this is."""
        return self._sessions.get(session)

    def stands(self, circuit_id: CircuitId, circuit: EndCircuit, before: bytes | None) -> None:
        """A circuit stands, and perhaps stood before under another session."""
        self._waiting.pop(circuit_id, None)
        if before is not None:
            self._sessions.pop(before, None)
        if circuit.streams.keeps and circuit.secrets is not None:
            self._sessions[circuit.secrets.session] = circuit_id

    def waits(self, circuit_id: CircuitId) -> CircuitId | None:
        """A circuit has broken; of too many, the one that has waited longest is to be given up."""
        self._waiting[circuit_id] = None
        return next(iter(self._waiting)) if len(self._waiting) > defaults.KEPT_CIRCUITS else None

    def forget(self, circuit_id: CircuitId, circuit: EndCircuit) -> None:
        """A circuit is gone for good."""
        self._waiting.pop(circuit_id, None)
        if circuit.secrets is not None:
            self._sessions.pop(circuit.secrets.session, None)

    def grew(self, size: int, circuits: Iterable[object]) -> None:
        """So many bytes more are kept; of too many, those of the oldest circuits no longer are."""
        self._bytes += size
        if self._bytes <= defaults.KEPT_BYTES:
            return
        keeping = [each for each in circuits if isinstance(each, EndCircuit)]
        self._bytes = sum(each.streams.kept for each in keeping)
        for each in keeping:
            if self._bytes <= defaults.KEPT_BYTES * 3 // 4:
                break
            self._bytes -= each.streams.kept
            each.streams.forget()
