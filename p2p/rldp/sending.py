"""All transfers to one peer, which share what its path bears."""

from collections import OrderedDict
from typing import Final, final

from p2p.identity import AdnlId
from p2p.rldp.congestion import Congestion
from p2p.rldp.due import Due, Key
from p2p.rldp.events import Drop, Output, Payload
from p2p.rldp.transfer import Outgoing, OutgoingPart, TransferId
from p2p.timers import Timers
from p2p.ton import Rldp2Complete, Rldp2Confirm

MAX_PATIENCE: Final = 10
"""by how much the time without a confirm grows at most, before a symbol is sent to ask for one."""

_ALL: Final = 0xFFFF_FFFF


@final
class Sending:
    """Sends the symbols of its transfers in turn, as many as the path bears."""

    def __init__(
        self, now: float, peer: AdnlId, timers: Timers[Key], outputs: list[Output]
    ) -> None:
        self.congestion = Congestion(now)
        self.symbols_sent = 0
        self.symbols_needed = 0
        self._peer = peer
        self._timers = timers
        self._outputs = outputs
        self._transfers: OrderedDict[TransferId, Outgoing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._transfers)

    def under_way(self) -> list[TransferId]:
        """The transfers that have not been completed."""
        return list(self._transfers)

    def start(self, now: float, transfer: Outgoing) -> None:
        """Begin a transfer."""
        self._transfers[transfer.id] = transfer
        self.fill(now)

    def stop(self, now: float, transfer: TransferId) -> Outgoing | None:
        """Give a transfer up; None if there is none."""
        stopped = self._transfers.pop(transfer, None)
        if stopped is None:
            return None
        for part in stopped.parts.values():
            self._close(now, stopped, part)
        self.fill(now)
        return stopped

    def confirm(self, now: float, confirm: Rldp2Confirm) -> Outgoing | Drop | None:
        """The peer says what it has of a part: the transfer, if it is given up for a lie."""
        transfer = self._transfers.get(TransferId(confirm.transfer_id))
        if transfer is None:
            return Drop.LATE
        part = transfer.parts.get(confirm.part)
        if part is None:
            return Drop.LATE if transfer.opened(confirm.part) else Drop.MISLED

        patience = self.congestion.round_trip.patience
        mask, count = confirm.received_mask & _ALL, confirm.received_count
        outcome = part.flight.confirm(now, patience, confirm.max_seqno, mask, count)
        if outcome is None:
            return Drop.MISLED
        self.congestion.heard(now, outcome)
        if outcome.delivered:
            part.heard_at, part.patience = now, 1
        if part.flight.insatiable:
            return self.stop(now, transfer.id)
        self.fill(now)
        return None

    def complete(self, now: float, complete: Rldp2Complete) -> Outgoing | Drop | None:
        """The peer has a part: the transfer, if that was the last of it."""
        transfer = self._transfers.get(TransferId(complete.transfer_id))
        if transfer is None:
            return Drop.LATE
        part = transfer.parts.pop(complete.part, None)
        if part is None:
            return Drop.LATE if transfer.opened(complete.part) else Drop.MISLED

        outcome = part.flight.complete()
        if outcome is not None:
            self.congestion.completed(now, outcome)
        self._close(now, transfer, part)
        if transfer.over:
            del self._transfers[transfer.id]
        self.fill(now)
        return transfer if transfer.over else None

    def fill(self, now: float) -> None:
        """Send what may leave now; the timer is set for what may not yet."""
        road = self.congestion
        loss = road.loss.share
        while (found := self._hungry(now, loss)) is not None:
            transfer, part = found
            count = min(road.allowance(now), part.flight.short(loss))
            if count < 1:
                self._wait()
                return
            self._send(now, transfer, part, count)
            self._transfers.move_to_end(transfer.id)
        road.pause()

    def probe(self, now: float, transfer: TransferId, number: int) -> None:
        """The time without a confirm of a part may be over: ask for one with another symbol."""
        under_way = self._transfers.get(transfer)
        part = under_way.parts.get(number) if under_way is not None else None
        if under_way is None or part is None or part.flight.left < 1:
            return
        due = part.heard_at + self.congestion.round_trip.probe_after * part.patience
        if now >= due:
            part.patience = min(2 * part.patience, MAX_PATIENCE)
            part.heard_at = now
            self._send(now, under_way, part, 1)
            due = now + self.congestion.round_trip.probe_after * part.patience
        self._timers.set(Key(Due.PROBE, self._peer, transfer, number), due)

    # --- inside ---

    def _hungry(self, now: float, loss: float) -> tuple[Outgoing, OutgoingPart] | None:
        for transfer in self._transfers.values():
            part = transfer.hungry(now, loss)
            if part is not None:
                return transfer, part
        return None

    def _send(self, now: float, transfer: Outgoing, part: OutgoingPart, count: int) -> None:
        if not part.flight.in_flight:
            part.heard_at = now
        if not part.flight.sent:
            self.symbols_needed += part.flight.source
            due = now + self.congestion.round_trip.probe_after
            self._timers.set(Key(Due.PROBE, self._peer, transfer.id, part.number), due)

        mark = self.congestion.send(now, count)
        peer, outputs = self._peer, self._outputs
        outputs += [Payload(peer, message) for message in part.send(count, mark)]
        self.symbols_sent += count

    def _wait(self) -> None:
        when = self.congestion.ready_at()
        if when is not None:
            self._timers.set(Key(Due.SEND, self._peer), when)

    def _close(self, now: float, transfer: Outgoing, part: OutgoingPart) -> None:
        self._timers.clear(Key(Due.PROBE, self._peer, transfer.id, part.number))
        self.congestion.forget(now, part.flight.in_flight)
