"""Stand-ins and judges for everything that people start."""

import json
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import trio

from inference.client import Chosen, Done, Offered, Piece, Progress, Timing
from inference.engine.base import Usage
from ledger import tariff
from ledger.money import ZERO
from ledger.tariff import Count, Receipt, Stop
from p2p.identity import Identity
from scripts.api.answer import Terms
from scripts.version import document as version

SCHEMAS = Path(__file__).parent.parent / "schemas"

WORKER = Identity(b"w" * 32)


@cache
def _schema(name):
    return _closed(json.loads((SCHEMAS / f"{name}.json").read_text()))


def _closed(schema):
    """The schema without room for more keys: to readers it leaves room, to our tests it is a list
    of all there are."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    return {**closed, "additionalProperties": False} if "required" in closed else closed


@pytest.fixture
def validate():
    """Check a document against the JSON Schema that its own `schema` names."""

    def check(document, name):
        assert document["schema"] == f"tussah/{name}/1"
        jsonschema.validate(document, _schema(name), jsonschema.Draft202012Validator)

    return check


def _receipt(words):
    return tariff.sign(
        Receipt(
            offer=bytes(32),
            model=b"m" * 32,
            prompt_hash=bytes(32),
            answer_hash=bytes(32),
            tokens=Count(prompt=9, completion=len(words)),
            cost=ZERO,
            ticks=0,
            stop=Stop.STOP,
            started=1,
            ended=2,
            worker=WORKER.id,
        ),
        WORKER,
    )


def events_of(words, *, relays=3, slots=2, finish="stop"):
    """A whole ask: what the asker's core says from draw to receipt."""
    path = (*(Identity(bytes([n]) * 32).id for n in range(relays)), WORKER.id)
    text = "".join(words)
    yield Chosen(worker=WORKER.id, identity=b"m" * 32, model="moth@q4", slots=slots, path=path)
    yield Offered(
        worker=WORKER.id, ahead=0, wait_s=0.0, prices=(0,) * 4, quoted=ZERO, numerics=bytes(8)
    )
    yield Progress(prompt=9, cached=0, done=9)
    for at, word in enumerate(words):
        yield Piece(first=at, ids=(at,), text=word, channel=0)
    yield Done(
        worker=WORKER.id,
        identity=b"m" * 32,
        model="moth@q4",
        path=path,
        text=text,
        reasoning="",
        ids=tuple(range(len(words))),
        nonce=bytes(16),
        date=0,
        finish=finish,
        usage=Usage(prompt=9, completion=len(words)),
        cost=ZERO,
        prices=(0,) * 4,
        quoted=ZERO,
        receipt=_receipt(words),
        numerics=bytes(8),
        timing=Timing(circuit=20, offer=21, first_token=30, total=130),
        refusals=(),
        slots=slots,
    )


class FakeAnswer:
    """Events given in advance; at `None` it waits until the ask is cancelled."""

    def __init__(self, events):
        self._events = iter(events)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        for event in self._events:
            if event is None:
                await trio.sleep_forever()
            return event
        raise StopAsyncIteration


class FakeOperator:
    """A node that says what a test wants."""

    def __init__(self):
        self.script = list(events_of(["Luna", ", ", "atlas", "."]))
        self.raises = None
        self.asked = []
        self.begun, self.ended = trio.Event(), trio.Event()
        self.stopped = False

    @asynccontextmanager
    async def answer(self, request, wish):
        self.asked.append((request, wish))
        if self.raises:
            raise self.raises
        self.begun.set()
        try:
            yield FakeAnswer(self.script)
        finally:
            self.ended.set()

    def terms(self, done):
        return Terms(dev=True, clients_claimed=3)

    def version(self):
        return version()

    def status(self):
        raise ZeroDivisionError("planted secret")

    def peers(self):
        return {"schema": "tussah/peers/1"}

    def models(self):
        return {"schema": "tussah/models/1"}

    def stop(self):
        self.stopped = True


@pytest.fixture
def operator():
    return FakeOperator()


@pytest.fixture
def answer_of():
    """The last event of an ask that went well."""
    return lambda words, **facts: list(events_of(words, **facts))[-1]
