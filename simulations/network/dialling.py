"""How simulated nodes come to have links: what a carrier does, as commands in virtual time.

An end of a link is known to its own node alone and changes in that node's turns alone, so it does
not matter in which order nodes at one instant take theirs. Opening takes three round trips.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, final

from p2p.core import Event
from p2p.defaults import LINK_SETUP_TIMEOUT
from p2p.identity import AdnlId
from p2p.stack import Dial, HangUp, Knock, Stack
from p2p.transport.fabric import GRID
from p2p.wire import Endpoint, Link
from simulations.network.links import LinkNames, Links
from simulations.world import Life, Stage

LEGS_TO_ACCEPT: Final = 5
"""ways until the acceptor has the link: TCP, Noise, its greeting; the dialler has it after 6."""

LEGS_TO_OPEN: Final = 6

Action: TypeAlias = Callable[[Stack, float], None]


class _End(NamedTuple):
    link: Link
    dialled: bool


@dataclass(slots=True)
class _Desk:
    """What one node's carrier knows."""

    links: dict[AdnlId, _End] = field(default_factory=dict)
    dialling: dict[AdnlId, int] = field(default_factory=dict)
    """numbers of the links that dials under way would bring"""
    knocks: dict[AdnlId, int] = field(default_factory=dict)
    """numbers of those that were tried for others"""
    dials: int = 0
    lives: int = 0


@final
class Dialling:
    """Answers `Dial`, `Knock`, `HangUp` and the end of a node."""

    def __init__(self, names: LinkNames, where: Mapping[Endpoint, int], links: Links) -> None:
        self._names = names
        self._where = where
        self._fabric = links
        self._desks = [_Desk() for _ in range(len(names))]

    def handle(self, world: Stage[Stack], node: int, now: float, event: Event) -> None:
        """Act on an event of a node, if it is about links."""
        match event:
            case Dial(peer, endpoints):
                self._dial(world, node, now, peer, endpoints)
            case Knock(peer, endpoint):
                self._knock(world, node, now, peer, endpoint)
            case HangUp(link):
                world.at(now, node, "hang-up", self._hanging_up(world, node, link))
            case Life(what="crash" | "stop"):
                self._vanish(world, node, now)
            case _:
                pass

    # --- opening ---

    def _dial(
        self,
        world: Stage[Stack],
        node: int,
        now: float,
        peer: AdnlId,
        endpoints: tuple[Endpoint, ...],
    ) -> None:
        desk = self._desks[node]
        if peer in desk.links or peer in desk.dialling:
            return
        number = desk.dialling[peer] = self._number(node)
        world.at(
            now + LINK_SETUP_TIMEOUT, node, "dial-timeout", self._giving_up(node, peer, number)
        )
        self._try(world, node, now, peer, endpoints, number)

    def _knock(
        self, world: Stage[Stack], node: int, now: float, peer: AdnlId, endpoint: Endpoint
    ) -> None:
        """Nobody is told if it leads nowhere."""
        desk = self._desks[node]
        if peer not in desk.links and peer not in desk.dialling and peer not in desk.knocks:
            number = desk.knocks[peer] = self._number(node)
            end = self._forgetting(node, peer, number)
            world.at(now + LINK_SETUP_TIMEOUT, node, "knock-timeout", end)
            self._try(world, node, now, peer, (endpoint,), number)

    def _number(self, node: int) -> int:
        desk = self._desks[node]
        desk.dials += 1
        return (desk.dials - 1) * len(self._names) + node

    def _try(
        self,
        world: Stage[Stack],
        node: int,
        now: float,
        peer: AdnlId,
        endpoints: tuple[Endpoint, ...],
        number: int,
    ) -> None:
        acceptor, desk = self._acceptor(peer, endpoints), self._desks[node]
        if acceptor is not None:
            when = now + LEGS_TO_ACCEPT * self._fabric.leg(node, acceptor)
            accept = self._accepting(world, acceptor, node, number, desk.lives)
            world.at(when, acceptor, "link-up", accept)

    def _acceptor(self, peer: AdnlId, endpoints: Sequence[Endpoint]) -> int | None:
        """The peer, if it listens at one of these."""
        for endpoint in endpoints:
            node = self._where.get(endpoint)
            if node is not None and self._names.id(node) == peer:
                return node
        return None

    def _accepting(
        self, world: Stage[Stack], node: int, dialler: int, number: int, life: int
    ) -> Action:
        def accept(core: Stack, now: float) -> None:
            link = Link(self._names.id(dialler), number)
            if self._enter(world, core, node, now, _End(link, dialled=False)):
                when = now + self._fabric.leg(node, dialler)
                world.at(
                    when, dialler, "link-up", self._finishing(world, dialler, node, number, life)
                )

        return accept

    def _finishing(
        self, world: Stage[Stack], node: int, acceptor: int, number: int, life: int
    ) -> Action:
        def finish(core: Stack, now: float) -> None:
            if self._desks[node].lives != life:
                return
            end = _End(Link(self._names.id(acceptor), number), dialled=True)
            if not self._enter(world, core, node, now, end):
                self._tell(world, node, now, end.link)

        return finish

    def _enter(self, world: Stage[Stack], core: Stack, node: int, now: float, end: _End) -> bool:
        """Take a link; of two dialled at once both ends keep the one the smaller id dialled."""
        desk = self._desks[node]
        desk.dialling.pop(end.link.peer, None)
        desk.knocks.pop(end.link.peer, None)
        rival = desk.links.get(end.link.peer)
        if rival is not None:
            ours = self._names.id(node) < end.link.peer
            if rival.dialled != end.dialled and end.dialled != ours:
                return False
            self._drop(world, core, node, now, rival.link)
        desk.links[end.link.peer] = end
        core.link_up(now, end.link, end.dialled)
        return True

    def _giving_up(self, node: int, peer: AdnlId, number: int) -> Action:
        def give_up(core: Stack, now: float) -> None:
            desk = self._desks[node]
            if desk.dialling.get(peer) == number:
                del desk.dialling[peer]
                core.dial_failed(now, peer)

        return give_up

    def _forgetting(self, node: int, peer: AdnlId, number: int) -> Action:
        def forget(core: Stack, now: float) -> None:
            desk = self._desks[node]
            if desk.knocks.get(peer) == number:
                del desk.knocks[peer]

        return forget

    # --- closing ---

    def _hanging_up(self, world: Stage[Stack], node: int, link: Link) -> Action:
        def hang_up(core: Stack, now: float) -> None:
            self._drop(world, core, node, now, link)

        return hang_up

    def _drop(self, world: Stage[Stack], core: Stack, node: int, now: float, link: Link) -> None:
        if self._forget(node, link):
            core.link_down(now, link)
            self._tell(world, node, now, link)

    def _forget(self, node: int, link: Link) -> bool:
        end = self._desks[node].links.get(link.peer)
        if end is None or end.link != link:
            return False
        del self._desks[node].links[link.peer]
        return True

    def _tell(self, world: Stage[Stack], node: int, now: float, link: Link) -> None:
        """Let the far end know, behind all that was sent to it."""
        far = self._names.index(link)
        (arrival,) = self._fabric.route(now, node, far, 0)
        self._end_there(world, node, arrival + GRID, link)

    def _end_there(self, world: Stage[Stack], node: int, when: float, link: Link) -> None:
        far, there = self._names.index(link), Link(self._names.id(node), link.number)

        def end(core: Stack, now: float) -> None:
            if self._forget(far, there):
                core.link_down(now, there)

        world.at(when, far, "link-down", end)

    def _vanish(self, world: Stage[Stack], node: int, now: float) -> None:
        """A node is down: its links end, and those that its dials may still bring to others."""
        desk = self._desks[node]
        for end in desk.links.values():
            self._tell(world, node, now, end.link)
        for peer, number in [*desk.dialling.items(), *desk.knocks.items()]:
            link = Link(peer, number)
            legs = LEGS_TO_OPEN * self._fabric.leg(node, self._names.index(link))
            self._end_there(world, node, now + legs, link)
        desk.links.clear()
        desk.dialling.clear()
        desk.knocks.clear()
        desk.lives += 1
