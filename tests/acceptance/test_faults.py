"""What goes wrong in a network of real processes ends well, and says so: messages are pinned."""

import json
import re
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from p2p.entropy import SystemEntropy
from p2p.wire import Endpoint
from scripts import networks
from scripts.api import client as control
from scripts.failure import Failed
from scripts.home import Home
from scripts.parties import Party, Plan, free_port, running

SNAPSHOT = json.loads((Path(__file__).parent / "faults.json").read_text("utf-8"))

SLOW = dict.fromkeys(
    ("worker", "client"), 'worker.engine = "fake"\nworker.seed = 3\nworker.fake_rate = 12.0\n'
)

PROMPT = "Tell me of the moths, all of them, one by one."

PLAN = Plan(relays=3, workers=2, config=SLOW)


def plain(text):
    """A message without what differs from run to run."""
    text = re.sub(r"/tmp/\S+?(?=[ .:,]|$)", "DIR", text)
    return re.sub(r"127\.0\.0\.1:\d+|port \d+", "PORT", text)


def asked(party, told=None, **options):
    """How an ask ends: its document, or the failure as a person reads it."""
    pieces = []

    def tell(piece):
        pieces.append(piece)
        if told is not None and len(pieces) == 2:
            told()

    body = control.question(PROMPT, **{"relays": 3, "deadline_s": 40.0, **options})
    try:
        return control.ask(party.home.socket, body, tell)
    except Failed as failed:
        return failed.failure


def check(name, failure):
    assert (failure.code, plain(str(failure))) == tuple(SNAPSHOT[name])


def working(network):
    """The worker whose answer is under way."""
    for worker in network.of("worker"):
        if worker.process.poll() is None and worker.status()["worker"]["slots"]["busy"]:
            return worker
    raise AssertionError("no worker is busy")


def listening(network):
    """Host and port of everybody who listens."""
    for party in [*network.of("relay"), *network.of("worker")]:
        for address in party.status()["reach"]["addresses"]:
            host, _, port = address.rpartition(":")
            yield host, int(port)


def test_faults_of_a_network_end_well_one_after_the_other():
    with running(PLAN) as network:
        client = network.party("client")
        assert asked(client, max_tokens=4)["finish"] == "length"

        check("unknown model", asked(client, model="moth-9000b"))

        throw_garbage(network)
        assert asked(client, max_tokens=4)["finish"] == "length"

        # a worker dies in mid-answer: what came was shown, and the next ask has the other worker
        check("worker killed", asked(client, told=lambda: working(network).process.kill()))
        assert asked(client, max_tokens=4)["finish"] == "length"

        # the last worker dies too
        for worker in network.of("worker"):
            worker.process.kill()
        failure = asked(client, deadline_s=20.0)
        assert failure.code in ("all_refused", "no_worker", "circuit_lost", "deadline")

        logs = "".join(party.home.log.read_text() for party in network.parties)
        assert '"level": "error"' not in logs


def test_killed_relay_ends_the_answer_and_too_few_are_said():
    with running(PLAN) as network:
        client = network.party("client")

        def kill():
            network.party("relay-2").process.kill()

        # with three relays for three hops, each is on the path
        check("relay killed", asked(client, told=kill))
        failure = asked(client, deadline_s=15.0)
        assert failure.code in ("no_path", "circuit_lost", "all_refused", "no_worker")


def test_fewer_relays_than_hops_is_said():
    with running(Plan(relays=2, workers=1, config=SLOW)) as network:
        check("too few relays", asked(network.party("client")))
        assert asked(network.party("client"), relays=2, max_tokens=4)["finish"] == "length"


def test_no_worker_is_said():
    with running(Plan(relays=3, workers=0, config=SLOW)) as network:
        check("no worker", asked(network.party("client")))


def test_bootstrap_peer_that_is_down_is_said(tmp_path):
    first, home = Home(tmp_path / "first"), Home(tmp_path / "client")
    listen = Endpoint("127.0.0.1", free_port())
    profile = networks.create(first, "moths", endpoint=listen, entropy=SystemEntropy(), dev=True)
    networks.save(home, profile)
    with alone(home) as party:
        check("bootstrap unreachable", asked(party, deadline_s=2.0))


def test_port_in_use_is_said(tmp_path):
    home = Home(tmp_path / "first")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = Endpoint(*taken.getsockname())
        networks.create(home, "moths", endpoint=listen, entropy=SystemEntropy(), dev=True)
        home.config.write_text('node.roles = ["relay"]\n')
        home.config.chmod(0o600)
        party = node(home)
        party.start()
        assert party.process.wait(60) == 1
        party.process.stdin.close()
        assert plain(home.log.read_text()).strip() == SNAPSHOT["port in use"][1]


def node(home):
    return Party(
        name="node", role="client", home=home, command=[sys.executable, "-m", "scripts.party"]
    )


@contextmanager
def alone(home):
    """A node by itself, up."""
    party = node(home)
    party.start()
    try:
        waiting = threading.Event()
        while party.status() is None:
            waiting.wait(0.1)
        yield party
    finally:
        party.process.kill()
        party.process.wait()
        party.process.stdin.close()


def throw_garbage(network):
    """Random bytes, a promise of too much, and silence, at every listening port."""
    entropy = SystemEntropy()
    for endpoint in listening(network):
        for junk in (entropy.token(4096), b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b""):
            with socket.create_connection(endpoint, timeout=20) as connection:
                connection.sendall(junk)
    for party in network.parties:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(party.home.socket))
            connection.sendall(entropy.token(4096))
