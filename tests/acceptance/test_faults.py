"""What goes wrong in a network of processes ends well: in time, and in words that are pinned.

Real processes are killed, frozen and stopped, real connections are cut, and garbage is sent to
whoever listens. `faults.json` holds code, exit status and words of each end; the networks are few,
as each takes seconds to start, so that a test is a story of several faults.
"""

import json
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from p2p.entropy import SystemEntropy
from p2p.wire import Endpoint
from scripts import networks
from scripts.api import client as control
from scripts.failure import Failed
from scripts.home import Home
from scripts.parties import Plan, free_port, running
from tests.acceptance.processes import (
    PATIENCE,
    PROMPT,
    Asking,
    asked,
    check_command,
    command,
    count,
    kill,
    no_errors,
    plain,
    stop,
    until,
)

SNAPSHOT = json.loads((Path(__file__).parent / "faults.json").read_text("utf-8"))

SOON = 10.0
"""seconds within which an end that needs no waiting is known, on a busy machine: where relays may
only not have met yet, an asker is patient for five."""

PAUSE = 15.0
"""seconds without a word that any relay's death may cost"""

FAKE = 'worker.engine = "fake"\nworker.fake_rate = 10\nworker.seed = 1\n'
"""An answer of about thirty tokens takes three seconds: long enough for its middle to be met."""

PLAIN = dict.fromkeys(("worker", "client"), FAKE)

ASIDE = "127.0.0.2"
"""Where a party's connections are met by a `Wire`, in front of the port it listens on."""

WIRED = {"relay": f'node.announce = "{ASIDE}"\n', "worker": f'{FAKE}node.announce = "{ASIDE}"\n'}


def check(name, asking, within=SOON):
    """The end of an ask is as the snapshot has it, and comes in time."""
    assert asking.end().answered is None
    failure = asking.failure
    ended = [failure.code, failure.meaning.exit, plain(f"tussah: {failure}")]
    assert ended == SNAPSHOT[name]
    assert asking.took < within


# --- the parties ---


def alive(network, role):
    return [party for party in network.of(role) if party.lives]


def by_id(network, identity):
    """The worker of that id."""
    return next(
        party for party in alive(network, "worker") if party.status()["node"]["id"] == identity
    )


def forwarding(network):
    """The relays that a circuit leads through now."""
    return [relay for relay in alive(network, "relay") if relay.status()["relay"]["circuits"]]


def is_quiet(network):
    """Whether no circuit is left, so that the next one's relays are told from all others."""
    return not forwarding(network)


# --- the stories ---


def test_faults_while_others_can_step_in():
    with running(Plan(relays=4, workers=2, config=PLAIN)) as network:
        client = network.party("client")
        check("unknown model", asked(client, model="moth-9000b"))

        garbage_harms_nobody(network, client)
        frozen_worker_costs_no_more_than_the_limit(network, client)
        killed_worker_ends_what_it_began_and_another_takes_what_waits(network, client)
        killed_relay_costs_a_pause_and_the_next_ask_goes_around_it(network, client)

        # nobody is left to answer, and nobody has said good-bye
        for worker in alive(network, "worker"):
            kill(worker)
        check("workers gone", asked(client))
        assert no_errors(network)


def garbage_harms_nobody(network, client):
    asking = Asking(client).begun()
    with ExitStack() as held:
        for where in listening(network):
            for junk in JUNK:
                held.enter_context(thrown(where, junk))
        assert asking.answer()["finish"] == "stop"
        assert asked(client).answer()["finish"] == "length"
    assert asked(client).answer()["finish"] == "length"
    assert no_errors(network)


def frozen_worker_costs_no_more_than_the_limit(network, client):
    asking = Asking(client, deadline_s=4)
    frozen = by_id(network, asking.offered())
    asking.begun()
    frozen.process.send_signal(signal.SIGSTOP)
    check("worker frozen", asking, within=4)
    frozen.process.send_signal(signal.SIGCONT)
    until(lambda: frozen.status()["worker"]["slots"]["busy"] == 0)


def killed_worker_ends_what_it_began_and_another_takes_what_waits(network, client):
    """Two workers of one slot and three questions: one of them waits behind another."""
    served = [Asking(client).begun()]
    waiting = Asking(client)
    if waiting.offered() != served[0].worker:
        served.append(waiting.begun())
        waiting = Asking(client)
    doomed = waiting.offered()
    begun = next(asking for asking in served if asking.worker == doomed)
    kill(by_id(network, doomed))

    check("worker killed", begun, within=PATIENCE)
    answer = waiting.answer()
    assert answer["worker"]["id"] != doomed
    assert answer["refusals"] == [{"worker": doomed, "reason": "lost"}]
    for asking in served:
        asking.end()
    assert asked(client).answer()["worker"]["id"] != doomed


def killed_relay_costs_a_pause_and_the_next_ask_goes_around_it(network, client):
    until(lambda: is_quiet(network))
    asking = Asking(client).begun()
    path = forwarding(network)
    assert len(path) == 3
    kill(path[-1])
    answer = asking.answer()
    assert answer["finish"] == "stop"
    assert answer["privacy"]["resumed"] == 1
    assert asking.longest < PAUSE
    # Still listed, it may be drawn once more: then another path is taken.
    for _ in range(2):
        assert asked(client).answer()["finish"] == "length"


@pytest.mark.slow
def test_any_relay_may_be_killed_while_an_answer_runs():
    """One is frozen, then the guard killed, which the answer before has named, then two more."""
    with running(Plan(relays=7, workers=1, config=PLAIN)) as network:
        client = network.party("client")
        whole = Asking(client, seed=5).answer()
        guard = whole["privacy"]["path"][0]

        # a relay that stands still: its machine answers for it, so that no connection ends
        until(lambda: is_quiet(network))
        asking = Asking(client, seed=5).begun(5)
        frozen = forwarding(network)[0]
        frozen.process.send_signal(signal.SIGSTOP)
        answer = asking.answer()
        frozen.process.send_signal(signal.SIGCONT)
        assert answer["answer"] == whole["answer"]
        assert 4.0 < asking.longest < PAUSE

        for number in range(3):
            until(lambda: is_quiet(network))
            asking = Asking(client, seed=5).begun(6 * number + 1)
            path = forwarding(network)
            named = {relay.status()["node"]["id"]: relay for relay in path}
            kill(named.pop(guard) if number == 0 else next(iter(named.values())))
            answer = asking.answer()
            assert answer["answer"] == whole["answer"]
            assert answer["privacy"]["resumed"] == 1
            assert asking.longest < PAUSE
        assert guard not in answer["privacy"]["path"]
        assert no_errors(network)


def test_faults_that_nobody_can_make_good():
    plan = Plan(relays=3, workers=1, config={**PLAIN, **WIRED})
    with running(plan) as network, ExitStack() as wires:
        client, worker = network.party("client"), network.party("worker-1")
        laid = [wires.enter_context(Wire(port)) for port in ports(network)]
        assert asked(client).answer()["finish"] == "length"

        # every connection that can be is cut: the answer goes on over new ones
        asking = Asking(client).begun()
        assert sum([wire.cut() for wire in laid])
        answer = asking.answer()
        assert answer["finish"] == "stop"
        assert answer["privacy"]["resumed"] >= 1
        assert asked(client).answer()["finish"] == "length"

        # each of the three is on every path of three
        asking = Asking(client).begun()
        kill(network.party("relay-2"))
        check("relay killed", asking, within=PAUSE + SOON)
        check("relays gone", asked(client))

        stop(network.party("relay-3"))
        until(lambda: count(client, "relays") < 3)
        check("too few relays", asked(client))

        stop(worker)
        until(lambda: count(client, "workers") == 0)
        check("no worker", asked(client))
        check("no worker of the model", asked(client, model="fake"))
        assert no_errors(network)


def test_bootstrap_peer_that_is_down_is_said(tmp_path):
    first, home = Home(tmp_path / "first"), Home(tmp_path / "client")
    listen = Endpoint("127.0.0.1", free_port())
    profile = networks.create(first, "moths", endpoint=listen, entropy=SystemEntropy(), dev=True)
    networks.save(home, profile)
    with command(home, "up", "--client") as node:
        until(home.socket.exists)
        until(lambda: is_up(home))
        with command(home, "ask", PROMPT, "--deadline", "1") as asking:
            assert check_command(SNAPSHOT["bootstrap unreachable"], asking) == ""
        node.terminate()
        assert node.wait(PATIENCE) == 0


def is_up(home):
    with suppress(Failed):
        return control.call(home.socket, "GET", "/status")
    return None


def test_port_in_use_is_said(tmp_path):
    home = Home(tmp_path / "first")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = Endpoint(*taken.getsockname())
        networks.create(home, "moths", endpoint=listen, entropy=SystemEntropy(), dev=True)
        with command(home, "up", "--relay") as node:
            assert check_command(SNAPSHOT["port in use"], node) == ""
    assert not home.socket.exists()


# --- garbage ---

NOISE = SystemEntropy().token(4096)

JUNK = (
    NOISE,
    b"\xff" * 65_536,
    b"\x13/multistream/1.0.0\n" + NOISE,
    b"\x13/multistream/1.0.0\n\x07/noise\n" + NOISE,
    b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{",
    b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n\xff\xfe[[[",
    b"",
)
"""Noise, a promise of too much, what begins well, and silence."""


def listening(network):
    """Every address that somebody listens on."""
    for port in ports(network):
        yield socket.AF_INET, ("127.0.0.1", port)
    for party in network.parties:
        yield socket.AF_UNIX, str(party.home.socket)


def ports(network):
    """The TCP ports of relays and workers."""
    for party in (*network.of("relay"), *network.of("worker")):
        (address,) = party.status()["reach"]["addresses"]
        yield int(address.rpartition(":")[2])


@contextmanager
def thrown(where, junk):
    """A connection on which junk was sent and that is not closed by us."""
    family, address = where
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(address)
        with suppress(ConnectionError):  # whoever has heard enough may hang up
            connection.sendall(junk)
        yield


# --- connections that can be cut ---


class Wire:
    """Takes the connections to a party's port on another address, and carries them until cut."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server((ASIDE, port))
        self._ends = []
        self._threads = []

    def __enter__(self):
        self._spawn(self._accept)
        return self

    def __exit__(self, *_):
        # A thread that waits in accept is woken by this; one that waits in recv by the cut.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(PATIENCE)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)

    def cut(self):
        """Cut every connection at both ends; the count of them."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def _spawn(self, run, *args):
        self._threads.append(threading.Thread(target=run, args=args))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                outer, _ = self._listener.accept()
            except OSError:
                return
            try:
                inner = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                outer.close()
                continue
            self._ends += [outer, inner]
            self._spawn(self._carry, outer, inner)
            self._spawn(self._carry, inner, outer)

    def _carry(self, source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        source.close()
