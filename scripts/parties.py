"""A small network of operating-system processes on loopback, for the demonstration and benchmarks.

Each party is a node of its own: own process, own home, own log, spoken to over its control socket.
The parent holds a pipe to each child's standard input; a child whose pipe closes drains and ends,
so nothing outlives the parent, however it dies.
"""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, final

from p2p.entropy import SystemEntropy
from p2p.identity import AdnlId
from p2p.wire import Endpoint
from scripts import forked, funds, interrupts, networks
from scripts.api import client as control
from scripts.failure import Document, Failed
from scripts.home import Home, write_private
from scripts.interrupts import Interrupts
from scripts.networks import LOCAL, Chain, Profile, Server

LOOPBACK: Final = "127.0.0.1"

NETWORK: Final = "demo"

START_SECONDS: Final = 120.0
"""seconds: a model is read from disk and two cores are shared; a start takes 5 to 20."""

STOP_SECONDS: Final = 10.0
"""seconds a party gets to drain before it is killed."""

POLL_SECONDS: Final = 0.1

UNREADY: Final = ("not_running", "stopping")
"""What a node says, or nobody, before it is up."""

LOG_LINES: Final = 12
"""lines of a failed party's log that are shown."""

MODULE: Final = "scripts.party"

CHAIN: Final = "chain"
"""Name and role of the party that is the chain."""

COINS: Final[Mapping[str, int]] = {"mint": 5_000_000_000, "client": 1_000_000_000}
"""nano that the chain's giver hands to the wallets of a role before anything starts"""


@final
@dataclass(slots=True, kw_only=True)
class Party:
    """One node of the network."""

    name: str
    role: str
    home: Home
    program: Sequence[str]
    process: forked.Process | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process in a session of its own: Ctrl-C is the parent's to handle."""
        self.process = forked.Process(
            [*self.program, "--home", str(self.home.path)],
            name=self.name,
            output=self.home.log,
            environment=_environment(),
        )

    def call(self, method: str, target: str, body: Document | None = None) -> Document:
        """A request to the party's control API."""
        return control.call(self.home.socket, method, target, body)

    def status(self) -> Document | None:
        """How it is; None while it is not up yet. Raises `Failed` if it has ended."""
        self.check()
        try:
            return self.call("GET", "/status")
        except Failed as error:
            if error.failure.code in UNREADY:
                return None
            raise

    def check(self) -> None:
        """Raise `Failed` if the process has ended by itself."""
        if not self.lives:
            status = self.process.returncode if self.process else None
            lines = self.home.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
            message = f"{self.name} ended with status {status}. Its log ends:\n" + "\n".join(lines)
            raise Failed("failed", message)

    @property
    def lives(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.returncode is None

    def ask_to_stop(self) -> None:
        """Let the process drain and end; one that is not up yet ends at once."""
        if self.process is not None:
            self.process.terminate()

    def end(self) -> None:
        """Have no process any more, however it ends."""
        if self.process is None:
            return
        if self.lives:
            self.process.kill()
        self.process.wait()
        self.process.let_go()


@final
@dataclass(slots=True, kw_only=True)
class Network:
    """The parties, the bootstrap peer first."""

    profile: Profile
    parties: list[Party]

    def party(self, name: str) -> Party:
        """The party of that name."""
        return next(party for party in self.parties if party.name == name)

    def of(self, role: str) -> list[Party]:
        """Every party of that role."""
        return [party for party in self.parties if party.role == role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many parties of each role, and what sets some of them apart."""

    relays: int
    workers: int
    clients: int = 1
    mints: int = 0
    """If there is any, there is a chain too."""
    arguments: Sequence[str] = ()
    """Added to every party's command line."""
    config: Mapping[str, str] = field(default_factory=dict)
    """By role or name: lines of TOML for the settings."""
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By name: another program for the party, as `forked.Process` takes it."""

    def names(self) -> Iterator[tuple[str, str]]:
        """Role and name of every party, in the order of their start."""
        for role, count in (
            (CHAIN, min(1, self.mints)),
            ("relay", self.relays),
            ("mint", self.mints),
            ("worker", self.workers),
            ("client", self.clients),
        ):
            for number in range(1, count + 1):
                yield role, role if role not in _NUMBERED and count == 1 else f"{role}-{number}"


_NUMBERED: Final = ("relay", "worker")


@contextmanager
def running(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Iterator[Network]:
    """Start a network, yield it once everybody knows everybody, stop it at the end.

    `tell` gets a line of progress now and then. Raises `Failed` if a party does not start, and
    `KeyboardInterrupt` for SIGINT and SIGTERM, once nothing is left; another one hurries that.
    """
    with interrupts.held() as interrupted:
        directory = Path(tempfile.mkdtemp(prefix="tussah-"))
        network = None
        try:
            network = _lay_out(plan, directory)
            with interrupted.let_in():
                _start(network, tell, interrupted)
                yield network
        finally:
            if network is not None:
                _stop(network, interrupted)
            shutil.rmtree(directory, ignore_errors=True)


def _lay_out(plan: Plan, directory: Path) -> Network:
    """Every party's home and settings; the first relay is whom the others ask first."""
    parties = [_party(plan, role, name, directory) for role, name in plan.names()]
    first = next(party for party in parties if party.role == "relay")
    listening = Endpoint(LOOPBACK, free_port())
    bare = networks.create(
        first.home, NETWORK, endpoint=listening, entropy=SystemEntropy(), dev=True
    )
    network = Network(profile=bare, parties=parties)
    network.profile = replace(bare, chain=_chain(network), mints=_mints(network))
    for party in parties:
        networks.save(party.home, network.profile, replace=True)
        given = [plan.config.get(key, "") for key in dict.fromkeys((party.role, party.name))]
        write_private(party.home.config, _settings(party.role) + "".join(given))
    return network


def _chain(network: Network) -> Chain | None:
    """The chain of the network, which listens where it is told to."""
    for party in network.of(CHAIN):
        endpoint = Endpoint(LOOPBACK, free_port())
        party.program = [*party.program, "--port", str(endpoint.port)]
        key = networks.persistent_identity(party.home, SystemEntropy())
        return Chain(network=LOCAL, servers=(Server(endpoint=endpoint, key=key.public),))
    return None


def _mints(network: Network) -> tuple[AdnlId, ...]:
    entropy = SystemEntropy()
    return tuple(
        networks.persistent_identity(party.home, entropy).id for party in network.of("mint")
    )


def _party(plan: Plan, role: str, name: str, directory: Path) -> Party:
    usual = ["-m", MODULE, *plan.arguments]
    if role == CHAIN:
        usual = ["-m", "scripts.localchain"]
    program = plan.programs.get(name, usual)
    return Party(name=name, role=role, home=Home(directory / name), program=program)


def _settings(role: str) -> str:
    roles = "[]" if role in ("client", CHAIN) else f'["{role}"]'
    return f'network = "{NETWORK}"\nnode.roles = {roles}\nlog.format = "json"\n{_MANNERS}'


_MANNERS: Final = (
    'manners.on_battery = "serve"\nmanners.battery_min = 0\nmanners.metered = "serve"\n'
    "manners.yield_cpu = false\nmanners.yield_gpu = false\n"
)
"""Whoever starts a demonstration wants it now; its parties are each other's load."""


def _start(network: Network, tell: Callable[[str], None], interrupted: Interrupts) -> None:
    """Start all, those first that the others need, and wait until each is up and known."""
    until = time.monotonic() + START_SECONDS
    nodes = [party for party in network.parties if party.role != CHAIN]
    needed = [*network.of(CHAIN), nodes[0]]
    for group in (needed, nodes[1:]):
        for party in group:
            with interrupted.shut_out():
                party.start()
        for party in group:
            _wait_for(party, _is_up, until)
            tell(f"{party.name:<10}{_serves(party)}")
        if group is needed:
            _fund(network)
    # Relays too: one that has not heard of the next hop refuses the circuit.
    for party in nodes:
        _wait_for(party, partial(_knows, party=party, network=network), until)


def _fund(network: Network) -> None:
    """Give the wallets of the network coins of its own chain."""
    for chain in network.of(CHAIN):
        for party in network.parties:
            if coins := COINS.get(party.role):
                wallet = funds.persistent_account(party.home, LOCAL)
                chain.call("POST", "/fund", {"account": wallet.hex(), "nano": coins})


def _wait_for(party: Party, ready: Callable[[Document], bool], until: float) -> None:
    while True:
        status = party.status()
        if status is not None and ready(status):
            return
        if time.monotonic() > until:
            message = f"{party.name} was not ready within {START_SECONDS:.0f} s."
            raise Failed("failed", message, f"Its log is {party.home.log}.")
        time.sleep(POLL_SECONDS)


def _is_up(status: Document) -> bool:
    worker = status.get("worker")
    return not isinstance(worker, Mapping) or worker["state"] == "serving"


def _knows(status: Document, party: Party, network: Network) -> bool:
    """Whether a party has heard of every other one that is listed."""
    known = status["network"]
    assert isinstance(known, Mapping)
    return all(
        known[f"{role}s"] == len([other for other in network.of(role) if other is not party])
        for role in ("relay", "worker", "mint")
    )


def _serves(party: Party) -> str:
    """What a party says of itself, for the line of progress."""
    status = party.status() or {}
    worker, reach = status.get("worker"), status.get("reach")
    if party.role == CHAIN:
        return f"{status['address']}, TON's own machine, a block every {status['block_time']} s"
    assert isinstance(reach, Mapping)
    if isinstance(worker, Mapping):
        return f"{worker['model']}, {worker['tokens_per_s']:.0f} tokens/s"
    return ", ".join(reach["addresses"]) or "dials only"


def _stop(network: Network, interrupted: Interrupts) -> None:
    """Let everybody drain, for a while, or until there is another interrupt; then end the rest."""
    until = time.monotonic() + STOP_SECONDS
    for party in network.parties:
        party.ask_to_stop()
    while time.monotonic() < until and not interrupted.came:
        if not any(party.lives for party in network.parties):
            break
        time.sleep(POLL_SECONDS)
    for party in network.parties:
        party.end()


def _environment() -> dict[str, str]:
    """The parent's, without settings meant for a node of the person's own."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TUSSAH_")}


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
