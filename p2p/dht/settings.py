"""The numbers of the DHT. TON's main net has these; a dev network is allowed to be faster."""

from dataclasses import dataclass

from p2p.entropy import Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one node keeps to; only the size of an answer is for others to see."""

    k: int = 6
    """nodes per bucket, twice: active and backup; a value is stored at so many"""
    width: int = 3
    """queries of one lookup under way at once (Kademlia's alpha)"""
    query_timeout: tuple[float, float] = (2.0, 4.0)
    """seconds a node has to answer, drawn anew for each query"""
    max_asked: int = 64
    """nodes one lookup asks at most: a real one asks 20, invented nodes would never end"""

    ping_interval: float = 60.0
    """seconds between pings of a node in the table"""
    ping_slowdown: float = 1.1
    """factor on that interval for each ping that a lost node misses"""
    ping_slowest: float = 14_400.0
    """seconds between pings of a node lost long ago"""
    retry_interval: float = 10.0
    """seconds until a node is pinged again that has missed a query, or has never answered any"""
    max_missed: int = 3
    """queries and pings a node may miss; with one more it is lost"""

    bucket_fill: tuple[float, float] = (10.0, 20.0)
    """seconds between lookups of a random id, which fill the buckets"""
    publish: tuple[float, float] = (60.0, 120.0)
    """seconds between stores of an own value"""
    value_life: int = 3_600
    """seconds an own value lives unless it is published again"""
    keep_beyond: int = 10
    """a value is kept while fewer than k and these of the nodes known are nearer to it"""
    rounds: float = 300.0
    """seconds in which all values of others are looked at, and republished if nobody else did"""
    max_republishing: int = 4
    """values of others that are republished at once"""
    max_values: int = 100_000
    """values of others: 100 MB at their largest"""
    max_published: int = 64
    """own values that are republished"""

    per_subnet: int | None = 8
    """nodes of one /24 or /48 in the table; None in a dev network, which has one address"""
    per_subnet_and_bucket: int | None = 2
    """as above in one bucket"""
    private_addresses: bool = False
    """whether loopback and private addresses count: in a dev network they do"""

    query_rate: float = 20.0
    """queries a second that one peer has answered"""
    query_burst: float = 100.0
    """queries that one peer has answered at once"""
    max_peers: int = 4_096
    """peers whose rate is remembered; the one unheard of for longest is forgotten"""


DEFAULT = Settings()
"""A public network's."""

DEV = Settings(
    query_timeout=(1.0, 2.0),
    ping_interval=10.0,
    ping_slowest=60.0,
    retry_interval=2.0,
    bucket_fill=(4.0, 8.0),
    publish=(10.0, 20.0),
    per_subnet=None,
    per_subnet_and_bucket=None,
    private_addresses=True,
)
"""A dev network's: its nodes share one address, come and go, and people watch."""


def between(bounds: tuple[float, float], entropy: Entropy) -> float:
    """Seconds drawn from a range of the settings."""
    shortest, longest = bounds
    return shortest + (longest - shortest) * entropy.uniform()
