"""The local API on a port of loopback, before a node that a test scripts."""

from dataclasses import dataclass
from functools import partial
from importlib import import_module

import httpx2
import pytest
import trio

from scripts.api.openai import app, door
from scripts.api.openai.access import Access
from scripts.api.server import serve

KEY = "tussah-key"

MODELS = [
    {"name": "moth@q4", "workers": 0},
    {"name": "luna@q4", "workers": 2},
]


@dataclass
class Api:
    """Where it is."""

    port: int
    operator: object

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def http(self, **headers):
        """A client that knows no OpenAI."""
        given = {"authorization": f"Bearer {KEY}", **headers}
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=given)


@pytest.fixture
async def api(operator, nursery):
    operator.models = lambda: {"schema": "tussah/models/1", "models": MODELS}
    listeners = await door.opened("auto")
    port = door.port_of(listeners)
    inner = app.app(operator, most=2, created=1_700_000_000)
    outer = Access(inner, port=port, key=KEY, origins=["http://localhost:3000"])
    await nursery.start(serve, outer, listeners)
    return Api(port, operator)


@pytest.fixture
def openai():
    """Its SDK: two seconds to import, so not before a test wants it."""
    return import_module("openai")


@pytest.fixture
def beside():
    """Runs blocking code of a client in a thread, beside the server."""

    async def run(function, *args, **kwargs):
        with trio.fail_after(30):
            return await trio.to_thread.run_sync(partial(function, *args, **kwargs))

    return run
