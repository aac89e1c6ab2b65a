"""Finds the running node of a home, or starts one that only asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts import version
from scripts.api import client
from scripts.cli.common import say
from scripts.cli.words import at_home
from scripts.failure import Document, Failed, parse
from scripts.home import Home

MOST_LOG = 16 * 1024 * 1024
"""bytes of a log that a start goes on with: months of a quiet node"""


def reach(home: Home) -> Path:
    """The control socket of the running node.

    Raises `Failed`: `not_running`, or `other_version` if it speaks another control API.
    """
    theirs = client.call(home.socket, "GET", "/version")
    if theirs["control"] != version.CONTROL:
        raise Failed(
            "other_version",
            f"The running node is of version {theirs['version']}, this program of "
            f"{version.program()}.",
            "Restart the node: tussah down, then tussah up.",
        )
    return home.socket


def reach_or_start(home: Home) -> Path:
    """The control socket of the running node; without one, a node that only asks is started."""
    try:
        return reach(home)
    except Failed as failed:
        if failed.failure.code != "not_running":
            raise
    started = start_detached(home, ["--client"])
    say(
        f"No node was running: started one that only asks (process {started['pid']}). "
        + at_home("Stop it with `tussah down`.", home.path)
    )
    return home.socket


def start_detached(home: Home, options: list[str]) -> Document:
    """Start a node that outlives this command; its `up` document, once it is up.

    Raises `Failed` with what the node says if it does not start.
    """
    home.prepare()
    command = [sys.executable, "-P", "-m", "scripts.cli.main", "up", *options]
    command += ["--json", "--home", str(home.path)]
    _turn_over(home.log)
    log = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(log, "ab") as log_file:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as pipe:
        return _first_word(pipe.readline(), home)


def _turn_over(log: Path) -> None:
    """Begin a new log if the old one is long; the one before the old is forgotten."""
    if log.exists() and log.stat().st_size > MOST_LOG:
        log.replace(log.with_name(f"{log.name}.1"))


def _first_word(line: bytes, home: Home) -> Document:
    """What a starting node says: that it is up, or why not."""
    try:
        document: Document = json.loads(line)
    except ValueError as error:
        raise Failed(
            "failed", "The node ended before it was up.", f"Its log: {home.log}"
        ) from error
    if "error" in document:
        failure = parse(document)
        raise Failed(failure.code, failure.message, failure.advice, failure.param)
    return document
