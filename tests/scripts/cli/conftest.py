"""The command line in this process, against a scripted node in a thread of its own."""

import json
import logging
import queue
import threading

import pytest
import structlog
import trio

from scripts.api import control, local
from scripts.api.server import serve
from scripts.cli.main import main
from scripts.home import Home

PATIENCE = 20
"""seconds for what takes milliseconds: a hang ends the test, nothing measures."""


class Shell:
    """Runs commands on one home and keeps what they print."""

    def __init__(self, home, capsys):
        self.home = home
        self._capsys = capsys

    def __call__(self, *words):
        """Exit status, standard output, standard error."""
        status = main([*words, "--home", str(self.home.path)])
        return status, *self._capsys.readouterr()

    def document(self, *words):
        """Exit status and the one JSON document on standard output."""
        status, out, _ = self(*words, "--json")
        return status, json.loads(out)


@pytest.fixture
def shell(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    return Shell(Home(tmp_path / "home"), capsys)


@pytest.fixture
def quiet():
    """The node's log stays out of what the command prints."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture
def node(shell, operator, quiet):
    """The scripted node, listening where the shell's home says."""
    shell.home.prepare()
    shell.home.prepare_socket()
    ends, scope = queue.SimpleQueue(), trio.CancelScope()

    async def live():
        with scope:
            async with trio.open_nursery() as nursery:
                listeners = [local.listen(shell.home.socket)]
                await nursery.start(serve, control.app(operator), listeners)
                ends.put(trio.lowlevel.current_trio_token())

    def run():
        """Whatever ends the node before it is up is the test's to see, at once."""
        try:
            trio.run(live)
        except BaseException as error:  # handed over
            ends.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    up = ends.get(timeout=PATIENCE)
    if isinstance(up, BaseException):
        raise up
    yield operator
    up.run_sync_soon(scope.cancel)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert ends.empty(), ends.get()
