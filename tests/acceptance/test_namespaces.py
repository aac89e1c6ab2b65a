"""A laptop that changes its address while it is being answered: a network namespace plays it.

The kernel keeps connections of an address that is gone, and says nothing: only what does not come
tells. Needs root and iproute2; skipped where there are none.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from scripts import networks, parties
from scripts.home import Home
from scripts.parties import Party, Plan, running
from tests.acceptance.processes import TUSSAH, Asking, count, until

NAMESPACE, OUTSIDE, INSIDE = "tussah-laptop", "tussah-out", "tussah-in"

HOST, AT_HOME, ABROAD = "10.177.31.1", "10.177.31.2", "10.177.31.3"

FAKE = 'worker.engine = "fake"\nworker.fake_rate = 6\nworker.seed = 1\n'
"""An answer of about thirty tokens takes five seconds."""

PAUSE = 15.0
"""seconds without a word that a new address may cost"""


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, check=True, timeout=20)


def may():
    """Whether namespaces can be made here."""
    if os.geteuid() or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", NAMESPACE], capture_output=True, check=False)
    if made.returncode == 0:
        ip("netns", "del", NAMESPACE)
    return made.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.outside,
    pytest.mark.skipif(not may(), reason="needs root and network namespaces"),
]


@pytest.fixture
def laptop():
    """A namespace with one line to this machine."""
    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAMESPACE)
        ip("addr", "add", f"{HOST}/24", "dev", OUTSIDE)
        ip("link", "set", OUTSIDE, "up")
        inside = ("-n", NAMESPACE)
        ip(*inside, "addr", "add", f"{AT_HOME}/24", "dev", INSIDE)
        ip(*inside, "link", "set", INSIDE, "up")
        ip(*inside, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", NAMESPACE)
        subprocess.run(["ip", "link", "del", OUTSIDE], capture_output=True, check=False)


@contextmanager
def asker(profile, home):
    """A node that only asks, inside."""
    home.prepare()
    networks.save(home, profile)
    home.config.write_text(FAKE)
    home.config.chmod(0o600)
    words = ["ip", "netns", "exec", NAMESPACE, *TUSSAH, "up", "--client", "--home", str(home.path)]
    log = (home.path / "out").open("wb")
    with log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        party = Party(name="laptop", role="client", home=home, program=())
        party.process = process
        try:
            until(lambda: home.socket.exists() and party.status())
            yield party
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.usefixtures("laptop")
def test_an_answer_goes_on_from_another_address(monkeypatch, tmp_path):
    monkeypatch.setattr(parties, "LOOPBACK", HOST)
    roles = dict.fromkeys(("relay", "worker"), f'{FAKE}node.host = "{HOST}"\n')
    home = Home(tmp_path)
    with (
        running(Plan(relays=5, workers=1, clients=0, config=roles)) as network,
        asker(network.profile, home) as party,
    ):
        until(lambda: count(party, "workers") == 1 and count(party, "relays") == 5)
        whole = Asking(party, seed=5).answer()

        asking = Asking(party, seed=5).begun(4)
        inside = ("-n", NAMESPACE)
        ip(*inside, "addr", "del", f"{AT_HOME}/24", "dev", INSIDE)
        ip(*inside, "addr", "add", f"{ABROAD}/24", "dev", INSIDE)
        answer = asking.answer()
        assert answer["answer"] == whole["answer"]
        assert answer["privacy"]["resumed"] >= 1
        assert asking.longest < PAUSE
        assert Asking(party, seed=5).answer()["answer"] == whole["answer"]
