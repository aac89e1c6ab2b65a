"""Stand-ins and judges for everything that people start."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import jsonschema
import pytest
import trio

from inference import download
from inference.catalogue import Item, Source
from inference.client import (
    AskFailed,
    Bought,
    Chosen,
    Done,
    Offered,
    Opening,
    Piece,
    Progress,
    Purchase,
    Timing,
)
from inference.engine.base import Usage
from inference.fit import Need, Wish, plan
from inference.limits import Rules, Verdict, decide
from inference.machine import Machine
from inference.service import Service
from ledger import tariff
from ledger.book import Sheet
from ledger.earnings import By, Earned
from ledger.money import ZERO, Nano
from ledger.tariff import Count, Prices, Receipt, Stop
from p2p.adnl.address import address_list
from p2p.dht import config
from p2p.dht import value as values
from p2p.dht.node import build
from p2p.identity import Identity
from p2p.onion.shaping import Shape
from p2p.wire import Endpoint
from scripts import identity, sharing
from scripts import receipts as receipt_lines
from scripts.api import dht, earnings, listing, money, working
from scripts.api.answer import Terms
from scripts.api.money import Coins, Funds, LaneView, Move
from scripts.api.status import WorkerState
from scripts.library import Shelved
from scripts.version import document as version
from tests.ledger.test_backup import KEPT

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


FREE = Prices()

PRICED = {
    "prices": Prices(30_000_000_000, 7_500_000_000, 150_000_000_000, 150_000_000_000),
    "quoted": Nano(14_400_000),
    "paid": Nano(7_200_000),
}
"""What makes an answer one that is paid for."""


SHAPE = Shape(rate=4, prompt_cells=4, answer_s=8, left_s=7.75)


def events_of(
    words,
    *,
    relays=3,
    slots=2,
    finish="stop",
    prices=FREE,
    quoted=ZERO,
    paid=ZERO,
    shape=SHAPE,
):
    """A whole ask: what the asker's core says from draw to receipt."""
    path = (*(Identity(bytes([n]) * 32).id for n in range(relays)), WORKER.id)
    text = "".join(words)
    yield Chosen(worker=WORKER.id, identity=b"m" * 32, model="moth@q4", slots=slots, path=path)
    yield Offered(
        worker=WORKER.id, ahead=0, wait_s=0.0, prices=prices, quoted=quoted, numerics=bytes(8)
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
        cost=paid,
        paid=paid,
        prices=prices,
        quoted=quoted,
        receipt=_receipt(words),
        numerics=bytes(8),
        timing=Timing(circuit=20, offer=21, first_token=30, total=130),
        refusals=(),
        slots=slots,
        shape=shape,
    )


class FakeAnswer:
    """Events given in advance; at `None` it waits until the ask is stopped or cancelled."""

    def __init__(self, events, last_word, at_rest):
        self._events = iter(events)
        self._last_word = last_word
        self._at_rest = at_rest
        self._stopped = trio.Event()

    def stop(self):
        self._stopped.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        for event in self._events:
            if event is None:
                self._at_rest()
                await self._stopped.wait()
                self._events = iter(())
                return self._last_word
            return event
        raise StopAsyncIteration


STEPS = (
    Purchase(
        mint=b"\xef" * 32,
        bundle="M",
        value=Nano(33_553_408),
        price=Nano(33_721_176),
        lane=None,
        deposit=Nano(200_000_000),
        fees=Nano(15_000_000),
    ),
    Opening(mint=b"\xef" * 32, block=8_123, waited=1.2),
    Opening(mint=b"\xef" * 32, block=8_126, waited=2.2),
    Bought(value=Nano(33_553_408), price=Nano(33_721_176)),
)
"""A first purchase."""

LANE = "UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh"

FUNDS = Funds(
    chain="local",
    worthless=True,
    address="UQDNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzW9D",
    state="active",
    balance=Nano(792_300_000),
    coins=Coins(
        by_value=((Nano(1_024), 2), (Nano(1 << 24), 1)),
        in_flight=Nano(4_096),
        epoch_ends=1_700_000_000.0,
    ),
    lanes=(
        LaneView(
            address=LANE,
            role="payer",
            peer="ef" * 32,
            deposit=Nano(200_000_000),
            voucher=Nano(33_721_344),
            claimed=Nano(30_000_000),
            state="open",
            expires_at=None,
        ),
    ),
    per_request=Nano(10_000_000),
    per_day=Nano(10**9),
    float_cap=Nano(200_000_000),
    spent_today=Nano(16_000_000),
    claim_fee=Nano(5_500_000),
    close_fee=Nano(7_000_000),
    history=(
        Move(
            at=1_700_000_000.0,
            kind="open",
            amount=Nano(200_000_000),
            fee=Nano(1_234_567),
            account=LANE,
            peer="",
            transaction="ab" * 32,
        ),
    ),
)
"""What a client has that bought a bundle."""


class FakeLookups:
    """A DHT that holds one value, and takes what it is given."""

    def __init__(self):
        self.asked, self.wishes = [], []
        self.raises = None

    async def get(self, owner, name, idx):
        self.asked.append((owner, name, idx))
        return self._say(dht.value(VALUE))

    async def put(self, wish):
        self.wishes.append(wish)
        return self._say(dht.stored(VALUE, 6, kept=wish.keep, persistent=True))

    async def find_node(self, target):
        self.asked.append(target)
        return self._say(dht.nodes(bytes(32), [NODE]))

    async def config(self):
        document = json.loads(config.write([NODE]))
        return self._say(
            {"schema": "tussah/dht-config/1", "missing": ["ab" * 32], "config": document}
        )

    def _say(self, document):
        if self.raises:
            raise self.raises
        return document


VALUE = values.sign(WORKER, b"moths", b"Luna", 1_700_000_000)

NODE = build(WORKER, address_list([Endpoint("127.0.0.1", 4001)], 1), 1, None)


LAPTOP = Machine(
    cores=8,
    ram_available=16_000_000_000,
    battery=41.0,
    on_mains=False,
    hottest_c=61.5,
    load_others=0.07,
    minute=600,
)

MANNERS = working.Limits(
    worker=WorkerState(
        state="paused",
        reasons=("on battery (41 %); resumes on mains",),
        service=Service(
            identity=b"m" * 32,
            numerics=bytes(8),
            context=4_096,
            slots=4,
            prompt_rate=100.0,
            answer_rate=30.0,
            label="moth-q4",
        ),
    ),
    verdict=decide(LAPTOP, 1_700_000_000.0, Rules(quiet=(1_320, 420)), Verdict()),
    rules=Rules(quiet=(1_320, 420)),
    machine=LAPTOP,
    fit=plan(LAPTOP, Need(96_576_768, 23_040, 30, 134_515_008, 49_152, 576), Wish()),
    away=False,
)
"""A worker on a laptop that was unplugged."""


LUNA = Item(
    base="luna",
    quant="q4_1",
    title="Luna",
    licence="MIT",
    rank=1,
    size=10_000_000,
    sha256=b"\xab" * 32,
    template_sha256=b"t" * 32,
    histogram={"q4_1": 10_000_000},
    context=4_096,
    need=Need(10_000_000, 1_024, 4, 20_000_000),
    chunks=(bytes(32), bytes(32)),
    sources=(Source(kind="https", url="https://moths.example/luna.gguf"),),
)

PRICES = {
    "schema": "tussah/prices/1",
    "models": [
        {
            "name": LUNA.name,
            "model_hash": LUNA.identity.hex(),
            "workers": 3,
            "free": 0,
            "prompt": {"min": 0, "median": 0, "max": 0},
            "completion": {"min": 1_000_000, "median": 1_500_000, "max": 2_000_000},
            "tokens_per_s": {"p50": 20, "p90": 30},
        }
    ],
}


class FakeShelf:
    """One model, which comes in two steps."""

    def __init__(self):
        self.licence = "MIT"
        self.refuses = self.raises = None
        self.asked, self.pulled, self.added = [], [], []

    def prices(self):
        return PRICES

    async def models(self):
        shelved = Shelved(item=LUNA, held=5, path=None, fit=plan(LAPTOP, LUNA.need, Wish()))
        return listing.models([], (), [], [shelved])

    async def model(self, name):
        self.asked.append(name)
        if self.refuses:
            raise self.refuses
        return self._document()

    def _document(self):
        item = replace(LUNA, licence=self.licence)
        fit = plan(LAPTOP, item.need, Wish())
        return listing.model(Shelved(item=item, held=0, path=None, fit=fit), workers=2)

    async def pull(self, name, told):
        for done in (5_000_000, 10_000_000):
            told(download.Progress(done=done, total=10_000_000, rate=1e6))
        if self.raises:
            raise self.raises
        self.pulled.append(name)
        return self._document()

    def remove(self, name):
        return {"schema": "tussah/removed/1", "name": LUNA.name, "freed_bytes": LUNA.size}

    def add(self, data, signature, key):
        self.added.append((data, signature, key))
        return {
            "schema": "tussah/catalogue/1",
            "key": "ab" * 32,
            "issued_at": "2026-01-01T00:00:00Z",
            "models": [LUNA.name],
        }


class FakeOperator:
    """A node that says what a test wants."""

    def __init__(self):
        self.lookups = FakeLookups()
        self.shelf = FakeShelf()
        self.script = list(events_of(["Luna", ", ", "atlas", "."]))
        self.raises = None
        self.last_word = AskFailed(
            code="cancelled", message="Stopped.", advice="", paid=Nano(300), quoted=Nano(1_000)
        )
        self.at_rest = lambda: None
        self.asked = []
        self.begun, self.ended = trio.Event(), trio.Event()
        self.stopped = False
        self.is_joined, self.running = True, 0
        self.funds, self.worker = FUNDS, WORKER
        self.refuses = None
        self.bought, self.moved, self.kept, self.unlocked = [], [], [], []
        self.withdrawn = []
        self.sealed, self.missing = b"TSBK", 0
        self.orders, self.manners = [], MANNERS
        self.steps = list(STEPS)
        """What a purchase tells; at `None` it waits for ever."""

    @asynccontextmanager
    async def answer(self, request, wish):
        self.asked.append((request, wish))
        if self.raises:
            raise self.raises
        self.begun.set()
        try:
            yield FakeAnswer(self.script, self.last_word, self.at_rest)
        finally:
            self.ended.set()

    def terms(self):
        return Terms(dev=True, clients_claimed=3, chain="local")

    def version(self):
        return version()

    def id(self):
        return identity.document(WORKER, persistent=True, running=True, network="moths")

    async def status(self):
        raise ZeroDivisionError("planted secret")

    def peers(self):
        return {"schema": "tussah/peers/1"}

    def circuits(self):
        return {"schema": "tussah/circuits/1"}

    def models(self):
        return listing.models([], (), [])

    def limits(self):
        return working.limits(self.manners)

    async def order(self, action, seconds):
        self.orders.append((action, seconds))
        if self.refuses:
            raise self.refuses
        return self.limits()

    async def wallet(self):
        return self._money(money.wallet)

    async def unlock(self, passphrase):
        self.unlocked.append(passphrase)
        if self.refuses:
            raise self.refuses
        return {"schema": "tussah/unlock/1", "locked": False}

    async def credits(self):
        return self._money(money.credits_)

    async def lanes(self):
        return self._money(money.lanes)

    async def buy(self, bundle, told):
        await trio.lowlevel.checkpoint()
        for step in self.steps:
            if step is None:
                self.at_rest()
                await trio.sleep_forever()
            told(step)
        self.bought.append(bundle)
        return self._money(
            partial(money.purchase, bundle or "M", Nano(33_553_408), Nano(33_721_176))
        )

    async def move(self, action, lane):
        self.moved.append((action, lane))
        return self._money(money.lanes)

    async def receipts(self):
        return receipt_lines.document([(_receipt(["Luna"]), WORKER.public)])

    async def vouchers(self):
        return {
            "schema": "tussah/vouchers/1",
            "lanes": 1,
            "promised_nano": 5_000,
            "sealed": self.sealed.hex(),
        }

    async def audit(self):
        sheet = Sheet(
            received=Nano(9_000),
            advance=Nano(1_000),
            outstanding=Nano(5_000),
            locked=ZERO,
            given=Nano(2_900),
            owed=ZERO,
            fees=Nano(100),
            expired=ZERO,
        )
        sheet = replace(sheet, fees=Nano(100 - self.missing))
        return self._money(lambda funds: money.audit(sheet, issued=30, redeemed=9, purchases=2))

    async def shared(self):
        return sharing.document(KEPT, -4242)

    async def watch(self, body):
        self.watched = sharing.read(body)
        return {"schema": "tussah/watch/1", "watched": len(self.watched), "promised_nano": 5_000}

    async def signed(self):
        return await self.receipts()

    async def earnings(self, by):
        day = 20_786 if by is By.DAY else None
        model = None if day else b"m" * 32
        group = Earned(
            day=day, model=model, answers=2, tokens=40, billed=Nano(6_000), earned=Nano(5_000)
        )
        groups = [group, replace(group, unsettled=Nano(64))]
        return self._money(
            lambda funds: earnings.earnings(
                by, groups, due=Nano(5_000), lanes=1, name=lambda model: "moth@Q4"
            )
        )

    async def deposit(self, amount):
        nano = None if amount is None else Nano.parse(amount)
        return self._money(
            lambda funds: earnings.deposit(funds.address, funds.chain, nano, worthless=True)
        )

    async def withdraw(self, to, amount, key):
        self.withdrawn.append((to, amount, key))
        return self._money(
            lambda funds: earnings.withdrawal(
                to, Nano(5), state="done", fees=Nano(2), transaction=b"t" * 32
            )
        )

    async def keep(self, done):
        self.kept.append(done)

    def _money(self, make):
        if self.refuses:
            raise self.refuses
        return make(self.funds)

    def stop(self):
        self.stopped = True


@pytest.fixture
def funds():
    """What the stand-in has."""
    return FUNDS


@pytest.fixture
def operator():
    return FakeOperator()


@pytest.fixture
def answer_of():
    """The last event of an ask that went well."""
    return lambda words, **facts: list(events_of(words, **facts))[-1]


@pytest.fixture
def steps():
    """What a first purchase tells."""
    return list(STEPS)


@pytest.fixture
def unshaped():
    """All events of an answer whose traffic was not shaped."""
    return list(events_of(["Luna", ", ", "atlas", "."], shape=None))


@pytest.fixture
def always():
    """All events of an answer over a line that is always busy."""
    return list(events_of(["Luna"], shape=replace(SHAPE, always=True)))


@pytest.fixture
def priced():
    """All events of an answer that is paid for."""
    return list(events_of(["Luna", ", ", "atlas", "."], **PRICED))
