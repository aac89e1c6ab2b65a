"""A visitor of a DHT: ADNL over UDP and lookups, as a core. It serves nobody, and nobody lists it.

What a node is without links, overlay and circuits: enough to look something up in a DHT whose
network it takes no part in, TON's own among them.
"""

from collections.abc import Coroutine, Iterable
from typing import final

from p2p.adnl.core import AdnlCore
from p2p.core import Event, Procedure, Procedures, Send, Source
from p2p.dht import core as dht_core
from p2p.dht.core import DhtCore, Seed
from p2p.dht.settings import DEFAULT, Settings
from p2p.entropy import Entropy
from p2p.identity import Identity
from p2p.rldp.core import RldpCore
from p2p.sending import Reach, Sending, Write
from p2p.timers import soonest
from p2p.ton import DhtNode


@final
class Visitor:
    """See the module. `dht` is for the procedures that `run` steps."""

    def __init__(
        self,
        identity: Identity,
        entropy: Entropy,
        *,
        started_at: float,
        network: int | None,
        settings: Settings = DEFAULT,
    ) -> None:
        self._procedures = Procedures()
        adnl = AdnlCore([identity], entropy.fork("adnl"), int(started_at))
        rldp = RldpCore(entropy.fork("rldp"))
        self._sending = Sending(identity.id, adnl, rldp, udp=True)
        self.dht = DhtCore(
            identity,
            self._sending,
            self._procedures,
            entropy.fork("dht"),
            started_at=started_at,
            network=network,
            settings=settings,
        )
        self._sending.subscribe(self.dht, *dht_core.PREFIXES)

    # --- commands ---

    def start(self, now: float, seeds: Iterable[DhtNode | Seed]) -> None:
        """Begin with these nodes: `Joined` follows once one of them has answered."""
        self._sending.at(now)
        self.dht.bootstrap(now, seeds)

    def run(self, now: float, procedure: Coroutine[object, None, None]) -> Procedure:
        """Step a coroutine over the DHT to its end; what it gives is its own."""
        self._sending.at(now)
        return self._procedures.start(procedure)

    def finish(self) -> None:
        """The visit is over: its procedures end."""
        self._procedures.close()

    # --- the core's contract ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a datagram."""
        self._sending.at(now)
        self._sending.receive(now, source, datagram)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._sending.at(now)
        self._sending.handle_timer(now)
        self.dht.handle_timer(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return soonest(self._sending.next_deadline(), self.dht.next_deadline())

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Datagrams; events of ADNL and of the DHT."""
        sends: list[Send] = []
        events: list[Event] = []
        said = True
        while self._procedures.run() or said:
            said = False
            for output in self._sending.drain():
                said = True
                self._sort(output, sends, events)
        return sends, events + list(self.dht.drain())

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        own = {"procedures": len(self._procedures)}
        return {**self._sending.sizes(), **self.dht.sizes(), **own}

    def _sort(self, output: object, sends: list[Send], events: list[Event]) -> None:
        match output:
            case Send():
                sends.append(output)
            case Reach(peer):  # a visitor has no other way than the record it was told
                self._sending.unreachable(peer)
            case Write():
                raise AssertionError("a visitor has no links")
            case _:
                events.append(output)
