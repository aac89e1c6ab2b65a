"""How much of everything one ADNL core takes and holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Settings: nodes that share an IP address, as on loopback, need larger ones for a source.

    A rate is per second, a burst what may come at once.
    """

    source_rate: float = 3.0
    source_burst: float = 75.0
    """Direct datagrams of one IP address, or /64 of IPv6, as TON nodes allow: a handshake is one
    or two, and a peer that has not heard us in the channel stays direct for a round trip."""
    new_peers_rate: float = 1.0
    new_peers_burst: float = 60.0
    """Peers never met before, of one IP address: an identity costs its owner nothing."""
    node_rate: float = 500.0
    node_burst: float = 500.0
    """Direct datagrams in all: 0.5 ms each, a quarter of a core. The last half of the burst is kept
    for sources known to be peers."""
    sources: int = 16_384
    """IP addresses whose rates are remembered: 4 MB."""

    peer_rate: float = 2.0
    peer_burst: float = 50.0
    """Direct datagrams of ours to one peer; more waits until it has a channel."""
    queue_time: float = 10.0
    """Seconds a message waits for an address, or for leave to be sent, before it is dropped."""
    queue_peer: int = 262_144
    """Bytes of messages that wait for one peer."""
    queue_node: int = 16_777_216
    """Bytes of messages that wait for all peers."""

    peers: int = 4_096
    """Pairs of a local identity and a peer: 3 kB each, 13 kB with as many queries as it may ask,
    and 9 kB for a message that comes in parts."""
    contacts: int = 16_384
    """Peers of which an upper layer told key and addresses."""
    idle_time: float = 3_600.0
    """Seconds without a packet either way until a peer is forgotten."""

    pending: int = 1_024
    """Queries of ours that wait for an answer."""
    unanswered: int = 64
    """Queries of one peer that are not answered yet."""
    answer_time: float = 60.0
    """Seconds in which a peer's query may be answered; then it is forgotten."""
