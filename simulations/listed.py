"""The listed nodes of an experiment: honest ones, bad ones, and those that an attacker adds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

from p2p.entropy import Entropy, sample
from p2p.identity import AdnlId
from p2p.onion.path import Role
from simulations.adversary.coalition import Coalition, Deny, Relays, Workers
from simulations.adversary.sybil import Sybil
from simulations.experiment import Adversary, Experiment
from simulations.reading import WrongExperiment, read, unknown
from simulations.register import MODEL, Member, address, blocks, member


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Numbered behind the clients, in this order."""

    clients: int
    relays: tuple[Member, ...]
    workers: tuple[Member, ...]
    sybils: tuple[Member, ...]

    @property
    def everybody(self) -> Sequence[Member]:
        """All of them, by number."""
        return (*self.relays, *self.workers, *self.sybils)


def listed(exp: Experiment, entropy: Entropy) -> Listed:
    """As many of each as `nodes.mix` says, each in a /16 of its own, and Sybils besides."""
    clients, relays, workers = (count_of(exp, role) for role in ("client", "relay", "worker"))
    numbers = count(clients)
    places = iter(blocks(entropy.fork("blocks"), relays + workers))
    return Listed(
        clients=clients,
        relays=tuple(
            member(next(numbers), Role.RELAY, address(next(places), 0)) for _ in range(relays)
        ),
        workers=tuple(
            member(next(numbers), Role.WORKER, address(next(places), 0), model=MODEL)
            for _ in range(workers)
        ),
        sybils=tuple(_sybils(exp, numbers, entropy)),
    )


def coalition(exp: Experiment, among: Listed, entropy: Entropy) -> Coalition:
    """All attackers that the experiment names, as one party.

    Who only watches is none of it. Raises `WrongExperiment` for a kind that there is not.
    """
    relays = [each for each in among.sybils if Role.RELAY in each.view.roles]
    workers = [each for each in among.sybils if Role.WORKER in each.view.roles]
    how, denied = Relays(), None
    for number, adversary in enumerate(exp.adversary):
        stream = entropy.fork(f"adversary/{number}")
        match adversary.kind:
            case "relays":
                how = read(Relays, adversary.knobs, "adversary.relays")
                relays += chosen(adversary, among.relays, stream)
            case "workers":
                read(Workers, adversary.knobs, "adversary.workers")
                workers += chosen(adversary, among.workers, stream)
            case "deny":
                deny = read(Deny, adversary.knobs, "adversary.deny")
                how = Relays(kill="open" if deny.once_open else "none")
                relays += chosen(adversary, among.relays, stream)
                denied = _worker(among, deny.worker)
            case "sybil" | "observer":
                pass
            case other:
                kinds = ["relays", "workers", "deny", "sybil", "observer"]
                raise unknown(f"adversary {other}", kinds)
    return Coalition(
        [each.view.id for each in relays],
        [each.view.id for each in workers],
        kill=how.kill,
        goal=how.goal,
        denied=denied,
    )


def chosen(adversary: Adversary, among: Sequence[Member], entropy: Entropy) -> list[Member]:
    """The nodes that an attacker has: those named by number, else a share of them."""
    if not adversary.nodes:
        return sample(entropy, among, round(adversary.share * len(among)))
    found = [each for each in among if each.index in adversary.nodes]
    if len(found) < len(adversary.nodes):
        first, last = among[0].index, among[-1].index
        raise WrongExperiment(f"adversary.nodes must be from {first} to {last}.")
    return found


def _worker(among: Listed, place: int) -> AdnlId:
    if place >= len(among.workers):
        raise WrongExperiment(f"adversary.deny.worker must be below {len(among.workers)}.")
    return among.workers[place].view.id


def count_of(exp: Experiment, role: str) -> int:
    """How many nodes have this role."""
    return round(exp.run.nodes * exp.nodes.mix.get(role, 0.0))


def name_of(client: int) -> AdnlId:
    """Who an asker is, to itself alone."""
    return AdnlId(sha256(b"client %d" % client).digest())


def _sybils(exp: Experiment, numbers: Iterator[int], entropy: Entropy) -> Iterator[Member]:
    for number, adversary in enumerate(exp.adversary):
        if adversary.kind == "sybil":
            sybil = read(Sybil, adversary.knobs, "adversary.sybil")
            yield from sybil.members(numbers, entropy.fork(f"sybil/{number}"))
