"""Nodes as people run them: real processes, real sockets on loopback, a real command line.

The engine alone is the seeded twin, so that an answer needs no model and has a known length.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from p2p.entropy import SystemEntropy
from p2p.wire import Endpoint
from scripts import networks
from scripts.api import client
from scripts.failure import Failed
from scripts.home import Home

PATIENCE = 40
"""seconds for what takes a second or two on an idle machine."""

TUSSAH = [sys.executable, "-m", "scripts.cli.main"]

FAKE = ["--set", "worker.engine=fake", "--set", "worker.fake_rate=10", "--set", "worker.seed=1"]


def environment():
    """This process's, without settings of its own; the fake model has its name everywhere."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TUSSAH_")}
    fake = {"TUSSAH_WORKER_ENGINE": "fake", "TUSSAH_WORKER_SEED": "1"}
    return {**mine, **fake, "TUSSAH_MANNERS_YIELD_CPU": "false"}  # other tests are the load


def tussah(home, *words, **options):
    """Run a command to its end."""
    return subprocess.run(
        [*TUSSAH, *words, "--home", str(home.path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        **options,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition):
    """Poll other processes, which signal nothing, until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


class Up:
    """A node in the foreground."""

    def __init__(self, home, *options):
        self.home = home
        home.prepare()
        with home.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*TUSSAH, "up", *options, "--json", "--home", str(home.path)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )

    def ready(self):
        """Its `up` document, or the error why it is not up."""
        return json.loads(self.process.stdout.readline())

    def status(self):
        return client.call(self.home.socket, "GET", "/status")

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        return self.process.wait(PATIENCE)


@pytest.fixture
def start():
    """Start nodes; all of them end with the test."""
    running = []

    def begin(home, *options):
        running.append(Up(home, *options))
        return running[-1]

    yield begin
    for node in running:
        with suppress(ProcessLookupError):
            os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait(PATIENCE)
        node.process.stdout.close()


@pytest.fixture
def profile(tmp_path):
    """A network whose first node is the home `first`."""
    home = Home(tmp_path / "first")
    endpoint = Endpoint("127.0.0.1", free_port())
    return networks.create(home, "moths", endpoint=endpoint, entropy=SystemEntropy(), dev=True)


@pytest.fixture
def join(tmp_path, profile):
    """The home of that name, joined."""

    def joined(name):
        home = Home(tmp_path / name)
        if name != "first":
            networks.save(home, profile)
        return home

    return joined


@contextmanager
def asked(home, question):
    """An ask under way: its first piece has come. Gives the process, and closes it."""
    process = subprocess.Popen(
        [*TUSSAH, "ask", question, "--home", str(home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdout.read(1)
        yield process


PROMPT = "Name three moths that nobody has planted anywhere else."


def test_a_network_of_processes(start, join, validate, tmp_path):
    """Ask through three relays; leave in mid-answer; stop the worker in mid-answer."""
    import openai

    first = start(join("first"), "--relay")
    assert first.ready()["roles"] == ["relay"]
    others = [start(join(name), "--relay") for name in ("second", "third")]
    worker = start(join("worker"), "--worker", *FAKE)
    asker = start(join("asker"), "--client")
    ups = [node.ready() for node in (*others, worker, asker)]
    for document in ups:
        validate(document, "up")
    assert ups[-1]["address"] is None

    def is_complete():
        """Everybody has heard of everybody else: a relay refuses a next hop it does not know."""
        known = [node.status()["network"] for node in (first, *others, worker, asker)]
        counts = [(network["relays"], network["workers"]) for network in known]
        return counts == [(2, 1), (2, 1), (2, 1), (3, 0), (3, 1)]

    until(is_complete)
    assert first.status()["network"]["joined"]

    # a whole answer
    result = tussah(asker.home, "ask", PROMPT, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    validate(document, "ask")
    assert document["finish"] == "stop"
    assert document["worker"]["id"] == ups[2]["id"]
    assert document["privacy"]["relays"] == 3
    assert document["receipt"]["worker"] == ups[2]["id"]

    # programs ask over the local API, with the key that a command prints
    key = tussah(asker.home, "key", "api").stdout.strip()
    with openai.OpenAI(base_url=ups[-1]["api"], api_key=key) as sdk:
        said = [{"role": "user", "content": PROMPT}]
        answer = sdk.chat.completions.create(model="auto", messages=said, seed=3)
    assert (
        answer.usage.completion_tokens == answer.model_extra["tussah"]["usage"]["completion_tokens"]
    )
    assert answer.choices[0].message.content
    assert key not in asker.home.log.read_text()

    # as people see it: the answer alone on standard output
    result = tussah(asker.home, "ask", "-f", "-", "--relays", "1", input=PROMPT)
    assert result.returncode == 0
    assert result.stdout.strip()
    assert "1 relay, 1 candidate worker" in result.stderr

    # every document of a real node has its published shape
    for name in ("status", "peers", "models"):
        result = tussah(asker.home, name, "--json")
        assert result.returncode == 0, result.stderr
        validate(json.loads(result.stdout), name)
        for home in (worker.home, first.home):
            validate(client.call(home.socket, "GET", f"/{name}"), name)

    # what cannot be: no such model, no direct answers
    result = tussah(asker.home, "ask", PROMPT, "--model", "moth-9000b")
    assert (result.returncode, result.stdout) == (4, "")
    assert "moth-9000b" in result.stderr

    # Ctrl-C in mid-answer: what came stays, and the worker is free again
    with asked(asker.home, PROMPT) as process:
        assert worker.status()["worker"]["slots"]["busy"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    until(lambda: worker.status()["worker"]["slots"]["busy"] == 0)
    until(lambda: asker.status()["api"]["open_requests"] == 0)

    # the worker is told to stop in mid-answer: the answer comes whole, then it ends
    with asked(asker.home, PROMPT) as process:
        worker.signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(PATIENCE) == 0
        assert rest.endswith(b"\n")
    assert worker.end() == 0
    until(lambda: asker.status()["network"]["workers"] == 0)
    result = tussah(asker.home, "ask", PROMPT)
    assert result.returncode == 4
    assert "no worker" in result.stderr.lower()

    # the asker is told to stop in mid-nothing; the others by `down`
    assert tussah(asker.home, "down").returncode == 0
    assert asker.end() == 0
    for node in (*others, first):
        node.signal(signal.SIGINT)
    assert [node.end() for node in (*others, first)] == [0, 0, 0]

    logs = "".join(node.home.log.read_text() for node in (first, *others, worker, asker))
    assert "node.started" in logs
    assert '"level": "error"' not in logs
    secrets = [PROMPT[:20], key, "127.0.0.1", *(up["id"] for up in ups)]
    assert [secret for secret in secrets if secret in logs] == []


def test_ask_starts_a_node_that_only_asks_and_says_so(join, validate):
    """No relay is up: the node starts, and the ask says that nobody answers."""
    home = join("asker")
    result = tussah(home, "ask", PROMPT, "--deadline", "1")
    try:
        assert result.returncode == 4
        started, failed = result.stderr.splitlines()
        assert started.startswith("No node was running: started one that only asks (process ")
        assert failed == (
            "tussah: None of the 1 bootstrap peers of network moths has answered yet. Check that "
            f"one of them is up (tussah --home {home.path} network show), then try again."
        )
        validate(json.loads(tussah(home, "status", "--json").stdout), "status")
    finally:
        result = tussah(home, "down", "--json")
    assert result.returncode == 0
    validate(json.loads(result.stdout), "down")
    assert tussah(home, "status").returncode == 3


def test_second_signal_ends_at_once(start, join):
    node = start(join("second"), "--relay")
    node.ready()
    # Nobody answers as the first node: a request that waits for it holds the drain up.
    with pytest.raises(Failed):
        held_up(node)
    assert node.end() == 130


def held_up(node):
    """Ask where nobody answers; signal twice meanwhile."""
    body = client.question(PROMPT, deadline_s=PATIENCE)

    def signals():
        until(lambda: node.status()["api"]["open_requests"] == 1)
        node.signal(signal.SIGTERM)
        until(lambda: is_stopping(node))
        node.signal(signal.SIGTERM)

    thread = threading.Thread(target=signals)
    thread.start()
    try:
        client.ask(node.home.socket, body, lambda text: None)
    finally:
        thread.join()


def is_stopping(node):
    """Whether it takes no more questions."""
    try:
        client.ask(node.home.socket, client.question("?", deadline_s=1.0), lambda text: None)
    except Failed as failed:
        return failed.failure.code == "stopping"
    return False
