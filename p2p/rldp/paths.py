"""What is sent, and to whom: the paths to all peers, and what all of their transfers may take."""

from collections import OrderedDict
from typing import Final, final

from p2p import tl
from p2p.errors import TlError
from p2p.identity import AdnlId
from p2p.rldp.due import Due, Key
from p2p.rldp.events import Drop, Output
from p2p.rldp.sending import Sending
from p2p.rldp.transfer import Outgoing, TransferId
from p2p.timers import Timers
from p2p.ton import Rldp2Complete, Rldp2Confirm

PER_PEER: Final = 64
"""transfers to one peer under way."""

TRANSFERS: Final = 2_048
"""transfers to all peers: fewer than paths, so that one of these is always at rest."""

MEMORY: Final = 128 * 2**20
"""bytes of all transfers under way."""

PATHS: Final = 4_096
"""peers of whose paths the measures are kept, 10 MB."""


@final
class Paths:
    """See the module."""

    def __init__(self, timers: Timers[Key], outputs: list[Output]) -> None:
        self._timers = timers
        self._outputs = outputs
        self._paths: OrderedDict[AdnlId, Sending] = OrderedDict()
        self._transfers = 0
        self._bytes = 0
        self._symbols_sent = self._symbols_needed = 0

    @property
    def symbols_sent(self) -> int:
        """Symbols sent so far."""
        return self._symbols_sent + sum(path.symbols_sent for path in self._paths.values())

    @property
    def symbols_needed(self) -> int:
        """Those of them that would have been enough, had none been lost."""
        return self._symbols_needed + sum(path.symbols_needed for path in self._paths.values())

    def has_room(self, peer: AdnlId, size: int) -> bool:
        """Whether a transfer of `size` bytes may begin."""
        path = self._paths.get(peer)
        return (
            self._bytes + size <= MEMORY
            and self._transfers < TRANSFERS
            and (path is None or len(path) < PER_PEER)
        )

    def start(
        self, now: float, peer: AdnlId, transfer: TransferId, data: bytes, until: float
    ) -> None:
        """Begin a transfer for which there is room; it is given up at `until`."""
        self._transfers += 1
        self._bytes += len(data)
        self._timers.set(Key(Due.OUTGOING, peer, transfer), until)
        self._path(now, peer).start(now, Outgoing(transfer, data))

    def stop(self, now: float, peer: AdnlId, transfer: TransferId) -> None:
        """Give a transfer up; harmless if it is over."""
        path = self._paths.get(peer)
        stopped = path.stop(now, transfer) if path is not None else None
        if stopped is not None:
            self._ended(peer, stopped)

    def forget(self, now: float, peer: AdnlId) -> None:
        """Give up all that is under way to a peer, and what is known of its path."""
        path = self._paths.get(peer)
        if path is not None:
            for transfer in path.under_way():
                self.stop(now, peer, transfer)
            self._retire(peer)

    def hear(self, now: float, peer: AdnlId, payload: bytes) -> Drop | None:
        """A peer says what it has of a transfer."""
        try:
            message = tl.parse_any(payload)
        except TlError:
            return Drop.UNKNOWN
        path = self._paths.get(peer)
        match message:
            case Rldp2Confirm():
                misled = path.confirm(now, message) if path is not None else Drop.LATE
                if isinstance(misled, Outgoing):
                    self._ended(peer, misled)
                    return Drop.MISLED
                return misled
            case Rldp2Complete():
                ended = path.complete(now, message) if path is not None else Drop.LATE
                if isinstance(ended, Outgoing):
                    self._ended(peer, ended)
                    return None
                return ended
            case _:
                return Drop.UNKNOWN

    def fill(self, now: float, peer: AdnlId) -> None:
        """More symbols may leave."""
        self._paths[peer].fill(now)

    def probe(self, now: float, peer: AdnlId, transfer: TransferId, part: int) -> None:
        """No confirm of a part has come for long."""
        self._paths[peer].probe(now, transfer, part)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables, and bytes kept."""
        return {
            "rldp_paths": len(self._paths),
            "rldp_outgoing": self._transfers,
            "rldp_outgoing_bytes": self._bytes,
        }

    # --- inside ---

    def _path(self, now: float, peer: AdnlId) -> Sending:
        """The path to a peer; of those at rest the oldest makes room for it."""
        path = self._paths.get(peer)
        if path is None:
            path = self._paths[peer] = Sending(now, peer, self._timers, self._outputs)
        self._paths.move_to_end(peer)
        while len(self._paths) > PATHS:
            oldest = next(iter(self._paths))
            if self._paths[oldest]:
                self._paths.move_to_end(oldest)
            else:
                self._retire(oldest)
        return path

    def _retire(self, peer: AdnlId) -> None:
        path = self._paths.pop(peer)
        self._symbols_sent += path.symbols_sent
        self._symbols_needed += path.symbols_needed
        self._timers.clear(Key(Due.SEND, peer))

    def _ended(self, peer: AdnlId, transfer: Outgoing) -> None:
        self._transfers -= 1
        self._bytes -= transfer.size
        self._timers.clear(Key(Due.OUTGOING, peer, transfer.id))
