"""What all rooms of a node share: who it is, where it lives, and its place in the network."""

import time
from typing import Final, final

import trio

from inference.market import Known
from ledger.policy import DEV, MAIN, Policy
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.node import Node
from p2p.overlay.advert import Role
from p2p.overlay.listing import Entry
from scripts import networks, serving
from scripts.api.status import Alert
from scripts.failure import Failed
from scripts.home import SEED_BYTES, Home
from scripts.library import Library
from scripts.networks import Profile
from scripts.settings import Settings

JOIN_SECONDS: Final = 15.0
"""An ask waits so long for the directory: three tries of a bootstrap peer."""

EVERYBODY: Final = Role(0)
"""The role that every listed node has."""

FLAGS: Final = {"relay": Role.RELAY, "worker": Role.WORKER, "mint": Role.MINT}


@final
class Site:
    """See the module."""

    def __init__(self, settings: Settings, *, home: Home, profile: Profile) -> None:
        self.settings = settings
        self.home = home
        self.profile = profile
        self.roles = settings.node.roles
        self.identity = self._identity()
        self.node: Node | None = None
        self.api_port: int | None = None
        """Where the local API listens; None: nowhere."""
        self.library = Library(home)
        self.stopping = trio.Event()
        self.started = time.time()
        self.joined = False

    def _identity(self) -> Identity:
        """Who serves keeps its name; who only asks has a new one each time, so that none sticks."""
        entropy = SystemEntropy()
        if self.roles:
            return networks.persistent_identity(self.home, entropy)
        return Identity(entropy.token(SEED_BYTES))

    @property
    def pays(self) -> bool:
        """Whether this node has to do with money; a node that only relays does not."""
        return self.profile.chain is not None and self.roles != ("relay",)

    @property
    def policy(self) -> Policy:
        """The numbers of money in this network."""
        return DEV if self.profile.dev else MAIN

    def flags(self, *, without: Role = EVERYBODY) -> Role:
        """The roles as the network knows them."""
        flags = EVERYBODY
        for name in self.roles:
            flags |= FLAGS[name]
        return flags & ~without

    def running(self) -> Node:
        """The node in the network. Raises `Failed` before it is there, and after."""
        if self.node is None:
            message = "The node is starting or stopping."
            raise Failed("stopping", message, "Try again in a moment.")
        return self.node

    def entries(self) -> list[Entry]:
        """Everybody it knows of."""
        return self.running().directory.usable(EVERYBODY)

    def known(self) -> tuple[Known, ...]:
        """The models that people have names for here."""
        return serving.known(self.settings.worker, self.library)

    async def watch_join(self) -> None:
        """Note when somebody has given it the directory."""
        await self.running().joined()
        self.joined = True

    async def join(self, node: Node, until: float) -> None:
        """Wait for the directory. Raises `Failed` (`joining_network`)."""
        with trio.move_on_at(min(until, trio.current_time() + JOIN_SECONDS)) as patience:
            await node.joined()
        if patience.cancelled_caught:
            alone = self.alone()
            raise Failed("joining_network", alone.message, alone.advice)

    def alone(self) -> Alert:
        """That nobody has given it the directory."""
        count, name = len(self.profile.bootstrap), self.profile.name
        return Alert(
            code="joining_network",
            message=f"None of the {count} bootstrap peers of network {name} has answered yet.",
            advice="Check that one of them is up (tussah network show), then try again.",
        )

    @property
    def api(self) -> str | None:
        """The local API as OpenAI's clients are told of it."""
        return None if self.api_port is None else f"http://127.0.0.1:{self.api_port}/v1"

    @property
    def is_late(self) -> bool:
        """Whether the directory should have been there by now."""
        return not self.joined and time.time() > self.started + JOIN_SECONDS
