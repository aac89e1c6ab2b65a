"""A researcher's first five minutes, as a transcript: no network, no key, no model.

Lines with `$` are run in an empty directory; with all nodes each by a process of its own. What
they print must match the lines below: `{name:text}` and `{text}` stand for anything, `...` for any
lines, `{document: digest = D}` for a JSON document whose digest is the same wherever D stands.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli.main import main

ROOT = Path(__file__).parents[2]

TRANSCRIPT = Path(__file__).with_name("researcher.txt")


def steps():
    """Each command and what it prints."""
    for step in re.split(r"^\$ ", TRANSCRIPT.read_text(), flags=re.MULTILINE)[1:]:
        command, *expected = step.splitlines()
        yield command, expected


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


def pattern(lines):
    """What the lines of a transcript stand for."""
    found = ""
    for line in lines:
        if line == "...":
            found += r"(?:.*\n)*?"
        else:
            parts = re.split(r"(\{[^}]*\})", line)
            found += "".join(".+" if part[:1] == "{" else re.escape(part) for part in parts) + r"\n"
    return found


def check(printed, expected, names):
    document = re.fullmatch(r"\{document: (\w+) = (\w+)\}", expected[0])
    if document is None:
        assert re.fullmatch(pattern(expected).replace(r"\ ", r"\s+"), printed), printed
        return
    key, name = document.groups()
    assert json.loads(printed)[key] == names.setdefault(name, json.loads(printed)[key])


def test_the_first_five_minutes_with_few_nodes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    follow(lambda words: here([*words, *["--nodes", "40"] * ("run" in words)], capsys))


@pytest.mark.slow
def test_the_first_five_minutes_of_a_researcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow(apart)


def follow(shell):
    names = {}
    for command, expected in steps():
        check(shell(command.split()[1:]), expected, names)
    assert re.fullmatch("[0-9a-f]{32}", names["D"])
