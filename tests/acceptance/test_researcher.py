"""A researcher's first five minutes, as a transcript: no network, no key, no model.

Its commands are run in an empty directory; with all nodes each by a process of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli.main import main
from tests.acceptance.transcript import check, steps

ROOT = Path(__file__).parents[2]

TRANSCRIPT = Path(__file__).with_name("researcher.txt")


def here(words, capsys):
    """A command in this process."""
    assert main(words) == 0
    return capsys.readouterr().out


def apart(words):
    """A command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_five_minutes_with_few_nodes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    follow(lambda words: here([*words, *["--nodes", "40"] * ("run" in words)], capsys))


@pytest.mark.slow
def test_the_first_five_minutes_of_a_researcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow(apart)


def follow(shell):
    names = {}
    for step in steps(TRANSCRIPT):
        check(step, shell(step.command.split()[1:]), "", names)
    assert re.fullmatch("[0-9a-f]{32}", names["D"])
