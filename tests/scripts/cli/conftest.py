"""The command line in this process, against a scripted node in a thread of its own."""

import json
import threading

import pytest
import trio

from scripts.api import control, local
from scripts.api.server import serve
from scripts.cli.main import main
from scripts.home import Home


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
def node(shell, operator):
    """The scripted node, listening where the shell's home says."""
    shell.home.prepare()
    shell.home.prepare_socket()
    up, token, scope = threading.Event(), [], trio.CancelScope()

    async def live():
        token.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                listeners = [local.listen(shell.home.socket)]
                await nursery.start(serve, control.app(operator), listeners)
                up.set()

    thread = threading.Thread(target=trio.run, args=(live,))
    thread.start()
    assert up.wait(20)
    yield operator
    token[0].run_sync_soon(scope.cancel)
    thread.join(20)
    assert not thread.is_alive()
