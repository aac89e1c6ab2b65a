"""What one identity of ours knows of one peer: which packets are new, and how to speak to it.

Fresh   Sends directly, createChannel first. Their createChannel: Half; confirmChannel of our
        key: Ready.
Half    We hold their channel key. Sends directly, confirmChannel first. A packet in the channel, or
        confirmChannel of our key: Ready.
Ready   Sends in the channel. A newer date with another key: Half. 120 s of silence, or 10 s after
        sending into 5 s of it: Stale. A later start of theirs: Fresh.
Stale   Sends directly once in 0.5-1.5 s. Any packet that is taken: as before.

Between the direct packets of a Stale peer messages go on in the channel: most often the peer was
only idle. After 10 minutes of silence what its packets said of its addresses is forgotten.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple, final

from p2p.adnl.drops import Drop
from p2p.adnl.events import Ticket
from p2p.adnl.handshake import Handshake
from p2p.adnl.keys import Curve, to_curve
from p2p.adnl.packet import Packet
from p2p.adnl.parts import Assembly
from p2p.adnl.whereabouts import Whereabouts
from p2p.adnl.window import Window
from p2p.bucket import Bucket
from p2p.defaults import CLOCK_SLACK
from p2p.identity import AdnlId, Identity
from p2p.wire import Endpoint


class State(Enum):
    """See the module."""

    FRESH = "fresh"
    HALF = "half"
    READY = "ready"
    STALE = "stale"


class Pair(NamedTuple):
    """Whose peer, and which: the key of a peer's state."""

    local: AdnlId
    peer: AdnlId


class Waiting(NamedTuple):
    """A boxed message that cannot be sent yet."""

    until: float
    message: bytes


@final
class Peer:
    """See the module. `Incoming`, `Outgoing` and the core each keep here what is theirs."""

    __slots__ = (
        "alarm",
        "assembly",
        "bucket",
        "curve",
        "handshake",
        "id",
        "indexed",
        "known_version",
        "local",
        "no_address",
        "open",
        "owed",
        "pair",
        "pending",
        "placed",
        "probe_next",
        "public",
        "queue",
        "queued",
        "reinit_date",
        "sent",
        "spoken",
        "touched",
        "where",
        "window",
    )

    def __init__(
        self, now: float, local: Identity, peer: AdnlId, bucket: Bucket, sent: int = 0
    ) -> None:
        self.local = local
        self.id = peer
        self.pair = Pair(local.id, peer)
        self.public: bytes | None = None
        self.curve: Curve | None = None
        self.where = Whereabouts()
        self.reinit_date = 0
        """When it started, as far as we know."""
        self._begin(sent)

        # the table's
        self.touched = now
        """When a packet went either way."""
        self.indexed: bytes | None = None
        """Id of the channel by which it is found."""
        self.placed: Endpoint | None = None
        """Where it was heard in its channel."""

        # what leaves
        self.spoken = float("-inf")
        """When a packet left for it last."""
        self.bucket = bucket
        """Leave to send direct packets."""
        self.queue: deque[Waiting] = deque()
        self.queued = 0
        """Bytes in the queue."""
        self.no_address = False
        """Whether upper layers were told that its key or address is missing."""
        self.probe_next = 0.0
        """Not before then the next direct packet while Stale."""
        self.owed: float | None = None
        """Since when a packet is owed to it."""
        self.alarm: float | None = None
        """When it must be looked at again."""
        self.pending: dict[Ticket, None] = {}
        """Our queries to it."""

    def _begin(self, sent: int) -> None:
        """Set all that ends when the peer starts anew."""
        self.sent = sent
        """Number of our last packet."""
        self.window = Window()
        self.handshake = Handshake(self.local.id, self.id)
        self.assembly = Assembly()
        self.known_version = 0
        """Version of our addresses that it has."""
        self.open: dict[bytes, float] = {}
        """Its queries to us, and until when each may be answered; in the order of these times."""

    def __str__(self) -> str:
        return f"Peer[{self.local.id.hex()[:4]}-{self.id.hex()[:4]}]"

    def identify(self, public: bytes) -> None:
        """Its key, of which its id is the hash. Raises `AdnlError` for one that is none."""
        self.curve = to_curve(public)
        self.public = public

    def state(self, now: float) -> State:
        """See the module."""
        if self.handshake.channel is None:
            return State.FRESH
        if not self.handshake.ready:
            return State.HALF
        return State.STALE if self.where.silent(now) else State.READY

    @property
    def busy(self) -> bool:
        """Whether something of ours waits for it."""
        return bool(self.queue or self.pending)

    def admit(self, now: float, started_at: int, packet: Packet) -> Drop | None:
        """Whether a packet that is surely the peer's is to be taken; if not, why.

        The order of the checks is TON's. `BEFORE_OUR_RESTART` wants an answer all the same.
        """
        if packet.dst_reinit_date > started_at:
            return Drop.DESTINATION_AHEAD
        if packet.reinit_date > now + CLOCK_SLACK:
            return Drop.AHEAD
        self.started(packet.reinit_date)
        if 0 < packet.reinit_date < self.reinit_date:
            return Drop.BEFORE_RESTART
        if 0 < packet.dst_reinit_date < started_at:
            return Drop.BEFORE_OUR_RESTART
        if self.window.seen(packet.seqno):
            return Drop.REPEATED
        if packet.confirm_seqno > self.sent:
            return Drop.CONFIRMS_UNSENT
        self.window.mark(packet.seqno)
        return None

    def started(self, date: int) -> bool:
        """The peer says when it started; whether that is news, so that all begins anew."""
        if date <= self.reinit_date:
            return False
        anew = self.reinit_date > 0
        self.reinit_date = date
        if anew:
            self._begin(sent=0)
            self.where.restart()
        return anew
