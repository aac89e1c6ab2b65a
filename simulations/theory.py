"""Closed forms of what the simulator must reproduce.

Where the real code differs from the textbook, as in drawing relays without replacement, the form
for the code stands beside the other and says so.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

TERMS: Final = 64
"""terms of a series, by which double precision has no more to add"""


# --- lookups and news ---


def kademlia_gain(k: int) -> float:
    """Bits of prefix that one hop adds to what it has in common with the target, on average.

    A bucket holds k nodes drawn from all that share a given prefix with the target. That one of
    them shares j bits more has probability 1 - (1 - 2^-j)^k; the best of them shares the sum of
    these over j >= 0.
    """
    return sum(1.0 - (1.0 - 2.0**-j) ** k for j in range(TERMS))


def kademlia_slope(k: int) -> float:
    """Hops that each e-fold of nodes adds to a greedy lookup."""
    return 1.0 / (kademlia_gain(k) * math.log(2.0))


def kademlia_hops(nodes: int, k: int) -> float:
    """Hops of a lookup on average: nodes that are asked one after the other.

    One is asked in any case. Each further one adds `kademlia_gain` bits, until so many are common
    that only the k nearest nodes share them: log2(nodes / k). These know each other.
    """
    return 1.0 + max(0.0, math.log2(nodes / k)) / kademlia_gain(k)


def infected(fanout: float) -> float:
    """Share of nodes reached if each that hears something tells `fanout` others, once.

    The larger root of p = 1 - exp(-fanout p); Kermarrec, Massoulie and Ganesh 2003.
    """
    share = 1.0
    for _ in range(1_000):
        share = 1.0 - math.exp(-fanout * share)
    return share


def everyone_reached(surplus: float) -> float:
    """Chance that nobody is left out if each of n nodes tells ln n + `surplus` others."""
    return math.exp(-math.exp(-surplus))


def flood_duplicates(nodes: int, edges: int) -> int:
    """Needless messages of a flood in which everybody tells all neighbours but who told it."""
    return 2 * edges - 2 * nodes + 2


# --- queues; times in mean service times ---


def best_of(choices: int, load: float) -> float:
    """Time in system if each job joins the shortest of so many random queues of very many.

    Mitzenmacher 2001. One choice is the M/M/1 queue.
    """
    if choices == 1:
        return 1.0 / (1.0 - load)
    exponents = ((choices**i - choices) // (choices - 1) for i in range(1, TERMS))
    return math.fsum(math.pow(load, exponent) for exponent in exponents)


def erlang_b(servers: int, offered: float) -> float:
    """Share of jobs that find every server busy and leave; `offered` in servers' worth of work."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Chance of waiting in M/M/c; `load` is that of each server, below 1."""
    blocked = erlang_b(servers, servers * load)
    return blocked / (1.0 - load * (1.0 - blocked))


def erlang_wait(servers: int, load: float) -> float:
    """Mean wait in M/M/c, over all jobs."""
    return erlang_c(servers, load) / (servers * (1.0 - load))


class Room(NamedTuple):
    """A queue with a bounded waiting room."""

    refused: float
    """share of jobs that find it full"""
    wait: float
    """mean of the jobs let in"""


def bounded(servers: int, places: int, load: float) -> Room:
    """M/M/c/(c + places): a worker's desk lets so many wait and turns the next one away."""
    offered = servers * load
    weights = [1.0]
    for count in range(1, servers + places + 1):
        weights.append(weights[-1] * offered / min(count, servers))
    total = sum(weights)
    refused = weights[-1] / total
    queued = sum(place * weights[servers + place] for place in range(places + 1)) / total
    return Room(refused=refused, wait=queued / (offered * (1.0 - refused)))


def redrawn(servers: int, places: int, load: float, draws: int) -> Room:
    """`bounded` of very many workers, where who is turned away tries so many in all.

    Each worker meets what others have turned away besides its own: the load at which that adds up.
    """
    offered = load
    for _ in range(200):
        refused = bounded(servers, places, offered).refused
        offered = load * sum(refused**again for again in range(draws))
    room = bounded(servers, places, offered)
    return Room(refused=room.refused**draws, wait=room.wait)


def fixed_wait(load: float) -> float:
    """Mean wait in M/D/1: packets of one size in front of an uplink."""
    return load / (2.0 * (1.0 - load))


# --- paths ---


def both_ends(nodes: int, bad: int) -> float:
    """Chance that the first and the last relay of a path are among `bad` of `nodes`.

    They are two distinct relays; with replacement it would be (bad / nodes)^2.
    """
    return bad * (bad - 1) / (nodes * (nodes - 1))


def worker_linked(relays: float, workers: float) -> float:
    """Chance that a guard and, with it, the last relay or the worker are bad.

    Shares of bad ones; so the asker is linked to its worker. For very many relays.
    """
    return relays * (relays + workers - relays * workers)


def worker_linked_of(nodes: int, bad: int, workers: float) -> float:
    """As `worker_linked`, of so many relays: the last one is another than the guard."""
    other = (bad - 1) / (nodes - 1)
    return bad / nodes * (other + workers - other * workers)


def prompt_linked(relays: float, workers: float) -> float:
    """Chance that guard and worker are bad: the asker is linked to what it asked."""
    return relays * workers


def ever_linked(relays: float, workers: float, conversations: int) -> float:
    """`prompt_linked` at least once if every conversation draws its first relay anew."""
    return 1.0 - (1.0 - relays * workers) ** conversations


def guarded(relays: float, workers: float, conversations: int) -> float:
    """`prompt_linked` at least once if all conversations go through one guard."""
    return relays * (1.0 - (1.0 - workers) ** conversations)


def guards_linked(relays: float, workers: float, through: Sequence[int]) -> float:
    """As `guarded`, of an asker that has had several guards: conversations `through` each.

    Guards are drawn without regard to each other, so an asker stays unlinked by all with the
    product of the chances to stay so by each.
    """
    return 1.0 - math.prod(1.0 - guarded(relays, workers, count) for count in through)


def denied(bad: float, honest_hops: int = 3) -> float:
    """Share linked of the circuits that stand, if bad relays kill all that they cannot link.

    Borisov et al. 2007. With the worker as the far end there are four hops that must be honest.
    """
    return bad**2 / (bad**2 + (1.0 - bad) ** honest_hops)


def denied_of(nodes: int, bad: int, *, workers: float | None = None) -> float:
    """As `denied`, of so many distinct relays; `workers` is the share of bad far ends, if any."""
    honest = 1.0
    for hop in range(3):
        honest *= (nodes - bad - hop) / (nodes - hop)
    if workers is None:
        linked = both_ends(nodes, bad)
    else:
        linked, honest = bad / nodes * workers, honest * (1.0 - workers)
    return linked / (linked + honest)


def banned(passes: float, tries: int, rate: float, within: int) -> float:
    """Chance that a guard which lets a share of circuits through is found out.

    It is judged at every try from number `tries` to `within`, and banned at the first at which
    less than `rate` of all have passed.
    """
    alive, found = {0: 1.0}, 0.0
    for number in range(1, within + 1):
        after: dict[int, float] = {}
        for passed, chance in alive.items():
            after[passed + 1] = after.get(passed + 1, 0.0) + chance * passes
            after[passed] = after.get(passed, 0.0) + chance * (1.0 - passes)
        if number >= tries:
            found += sum(chance for passed, chance in after.items() if passed < rate * number)
            after = {p: chance for p, chance in after.items() if p >= rate * number}
        alive = after
    return found


def rounds(nodes: int, bad: int) -> float:
    """Paths until guard and far end are bad together, drawn apart from each other: (N/c)^2.

    Wright et al. 2002; of relays and workers alike.
    """
    return (nodes / bad) ** 2


def rounds_of(nodes: int, bad: int) -> float:
    """As `rounds`, of first and last relay of one list: they are distinct, and so it takes more."""
    return 1.0 / both_ends(nodes, bad)


class Crowd(NamedTuple):
    """What a collaborator in a crowd knows of who began."""

    first: float
    """chance that the one before it did"""
    entropy: float
    """bits"""
    degree: float
    """of the most that there could be"""


def crowds(nodes: int, collaborators: int, forwarding: float) -> Crowd:
    """Crowds of Reiter and Rubin, as Diaz et al. 2002 measure it."""
    honest = nodes - collaborators
    first = (nodes - forwarding * (honest - 1)) / nodes
    other = forwarding / nodes
    bits = -first * math.log2(first) - (honest - 1) * other * math.log2(other)
    return Crowd(first=first, entropy=bits, degree=bits / math.log2(honest))


# --- the market ---


def steered(attackers: int, best: int) -> float:
    """Share of attackers that are better than all if askers choose evenly among the best few."""
    return min(attackers, best) / best


def even(attackers: int, operators: int) -> float:
    """Share of attackers if each acceptable operator is as likely, as in `inference.market`."""
    return attackers / operators


# --- the network ---


class Moments(NamedTuple):
    """Mean and variance."""

    mean: float
    variance: float


def of_quantiles(points: Sequence[tuple[float, float]]) -> Moments:
    """Mean and variance of what is drawn by a table of quantiles, linear between its points."""
    pieces = [(high - low, a, b) for (low, a), (high, b) in pairwise(points)]
    mean = math.fsum(share * (a + b) / 2.0 for share, a, b in pieces)
    square = math.fsum(share * (a * a + a * b + b * b) / 3.0 for share, a, b in pieces)
    return Moments(mean, square - mean * mean)


def legs(links: int, one: Moments, shared: float = 0.0) -> Moments:
    """Delay of a path of so many links, each as `one`.

    Links that follow each other have a node in common: `shared` is the covariance that this makes,
    0 for links drawn apart.
    """
    variance = links * one.variance + 2 * (links - 1) * shared
    return Moments(mean=links * one.mean, variance=variance)


def first_token_legs(links: int) -> int:
    """One-way passages of a path before the first token: set-up there and back, prompt, token."""
    return 4 * links


def call_fails(loss: float) -> float:
    """Chance that a question or its answer is lost."""
    return 1.0 - (1.0 - loss) ** 2


def residual(shape: float, scale: float) -> float:
    """Mean rest of a Weibull session that is met at a random moment: E[x^2] / (2 E[x])."""
    return scale * math.gamma(1.0 + 2.0 / shape) / (2.0 * math.gamma(1.0 + 1.0 / shape))


def bucket_share(rate: float, seconds: float, *, allowed: float, burst: float) -> float:
    """Share of a flood's queries that a token bucket lets through in so many seconds."""
    return min(1.0, (burst + allowed * seconds) / (rate * seconds))
