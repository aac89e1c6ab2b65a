"""The documents' shape, and the figures in them that are computed."""

from dataclasses import replace

import jsonschema
import pytest
import trio

from inference.worker import Service, WorkerStatistics
from ledger import tariff
from ledger.coins import Holdings
from ledger.money import ZERO, Nano
from ledger.totals import Minted, Totals
from p2p.adnl.clocks import ClockOffset
from p2p.dht.events import DhtStatistics
from p2p.dht.table import TableStatistics
from p2p.drive import DriverStatistics
from p2p.identity import AdnlId, Identity
from p2p.node import Acquaintances, Announced, NodeStatistics
from p2p.onion.core import OnionStatistics
from p2p.onion.overview import (
    CircuitState,
    CircuitView,
    GuardState,
    GuardView,
    Overview,
)
from p2p.onion.shaping import Shape
from p2p.overlay.advert import Advert, Role
from p2p.overlay.bodies import Transport
from p2p.overlay.core import Statistics as OverlayStatistics
from p2p.overlay.fields import Fields, Model, Prices
from p2p.overlay.listing import DirectoryStatus, Entry
from p2p.overlay.reach import Dialable, Reachability
from p2p.transport.carrier import CarrierStatistics
from p2p.wire import Endpoint
from scripts.api import answer, common, listing, money
from scripts.api.answer import Terms
from scripts.api.listing import LocalModel
from scripts.api.status import (
    Alert,
    NodeState,
    PurseState,
    WorkerState,
    clients_claimed,
    clock_alerts,
    status,
)

DIRECTORY = DirectoryStatus(epoch=7, root=b"r" * 32, count=3, live=3, age=1.5)

MODEL = b"m" * 32

LANE = "UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh"


def zeros(kind, **known):
    """A snapshot in which everything is 0 or empty, but for what is named."""
    empty = {"int": 0, "float": 0.0}
    values = {name: empty.get(str(hint), {}) for name, hint in annotations(kind).items()}
    return kind(**{**values, **known})


def annotations(kind):
    return {name: getattr(hint, "__name__", hint) for name, hint in kind.__annotations__.items()}


def entry(number, roles, *, crowd=None, models=(), addresses=()):
    identity = Identity(bytes([number]) * 32)
    fields = Fields(roles=roles, crowd=crowd, models=models, addresses=addresses)
    advert = Advert(
        buffer=b"",
        digest=bytes(16),
        id=identity.id,
        public=identity.public,
        issued=1_700_000_000,
        fields=fields,
    )
    return Entry(advert=advert, live=True, open=True, days=1, group=identity.id)


def offer(*, completion=0, rate=50, label="moth"):
    return Model(
        identity=MODEL,
        quant=3,
        context=2_048,
        prompt_rate=100,
        answer_rate=rate,
        slots=1,
        prices=Prices(0, completion),
        label=label,
    )


ENTRIES = [
    entry(1, Role.RELAY | Role.DIALABLE, addresses=(Endpoint("127.0.0.1", 4001),)),
    entry(2, Role.WORKER, models=(offer(completion=1_000, rate=20),)),
    entry(3, Role.WORKER, models=(offer(completion=2_500, rate=60),)),
]


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (None, None),
        (ClockOffset(15.0, 9), None),
        (ClockOffset(-15.0, 9), None),
        (ClockOffset(61.2, 3), "This machine's clock is 61 s ahead of those of 3 peers."),
        (ClockOffset(-16.0, 5), "This machine's clock is 16 s behind those of 5 peers."),
    ],
)
def test_a_clock_unlike_those_of_others_is_told(clock, expected):
    assert next((alert.message for alert in clock_alerts(clock)), None) == expected


def state(**changes):
    node = NodeStatistics(
        carrier=zeros(CarrierStatistics, links=4),
        udp=None,
        dht=DhtStatistics(
            serving=True,
            table=TableStatistics(active=2, backup=0, proven=2),
            values=5,
            published=2,
            counts={},
            hops={},
        ),
        overlay=zeros(OverlayStatistics, serving=False, members=3, neighbours=1),
        driver=zeros(DriverStatistics),
        directory=DIRECTORY,
        onion=zeros(
            OnionStatistics, passages=2, cells_forward=3, cells_backward=4, creates={"OK": 5}
        ),
        unread=0,
        misbehaved=0,
        sizes={},
    )
    plain = {
        "program": "0.1.0",
        "started": 1_700_000_000.0,
        "id": Identity(bytes(32)).id,
        "home": "/home/moth",
        "network": "moths",
        "chain": None,
        "roles": (),
        "endpoint": None,
        "udp": (Endpoint("127.0.0.1", 4002),),
        "announced": Announced((), ()),
        "bootstrap": 1,
        "node": node,
        "entries": ENTRIES,
        "joined": True,
        "asking": 0,
        "api": "http://127.0.0.1:8420/v1",
        "key_file": None,
        "verdicts": (),
        "attachments": (),
        "worker": None,
        "machine": None,
        "purse": None,
        "alerts": (),
    }
    return NodeState(**{**plain, **changes})


def test_status_of_a_client(validate):
    document = status(state())
    validate(document, "status")
    assert document["started_at"] == "2023-11-14T22:13:20Z"
    assert document["reach"]["mode"] == "outbound"
    assert document["worker"] is document["relay"] is None
    counted = document["network"]
    assert (counted["relays"], counted["workers"], counted["links"]) == (1, 2, 4)


def test_status_of_a_relay_that_serves(validate):
    service = Service(
        identity=MODEL,
        numerics=bytes(8),
        context=2_048,
        slots=1,
        prompt_rate=100.0,
        answer_rate=50.0,
        label="moth",
    )
    worker = WorkerState(
        state="serving", service=service, statistics=zeros(WorkerStatistics, running=1)
    )
    place = (Endpoint("::1", 4001),)
    document = status(
        state(
            roles=("relay", "worker"),
            endpoint=place[0],
            udp=place,
            announced=Announced(place, place),
            worker=worker,
        )
    )
    validate(document, "status")
    assert document["reach"] == {
        "mode": "direct",
        "addresses": ["[::1]:4001"],
        "udp": ["[::1]:4001"],
        "announced": {"tcp": ["[::1]:4001"], "udp": ["[::1]:4001"]},
        "dht": "server",
        "transports": [],
        "attachments": [],
        "checked_at": None,
        "advice": None,
    }
    assert document["relay"]["cells"] == 7
    assert document["worker"]["slots"] == {"total": 1, "busy": 1}


def test_status_says_how_the_others_are_found(validate):
    document = status(state())
    validate(document, "status")
    network = document["network"]
    assert network["bootstrap"] == 1
    assert network["dht"] == {"serving": True, "active": 2, "values": 5}
    assert network["overlay"] == {"serving": False, "members": 3, "neighbours": 1}
    assert network["directory_root"] == b"r".hex() * 32
    assert (network["directory_count"], network["directory_agreement"]) == (3, 1.0)


def test_nobody_agrees_on_a_list_that_was_never_had():
    node = replace(state().node, directory=replace(DIRECTORY, age=None))
    assert status(state(node=node))["network"]["directory_agreement"] is None


def test_status_of_a_node_that_listens_where_nobody_gets_to_says_what_to_do(validate):
    document = status(state(roles=("relay",), endpoint=Endpoint("192.168.7.7", 4001)))
    validate(document, "status")
    assert document["reach"]["mode"] == "outbound"
    assert "node.announce" in document["reach"]["advice"]
    assert "TCP and UDP port 4001" in document["reach"]["advice"]


def test_status_says_what_strangers_found_and_who_keeps_links(validate):
    place = Endpoint("9.8.7.6", 4001)
    verdicts = (
        Reachability(transport=Transport.UDP, dialable=Dialable.YES, endpoint=place, since=5.0),
        Reachability(
            transport=Transport.TCP,
            dialable=Dialable.NO,
            endpoint=place,
            reason="no stranger could reach TCP port 4001",
        ),
    )
    document = status(
        state(
            roles=("worker",),
            endpoint=Endpoint("0.0.0.0", 4001),
            verdicts=verdicts,
            attachments=(b"r" * 32,),
        )
    )
    validate(document, "status")
    reach = document["reach"]
    assert (reach["mode"], reach["attachments"]) == ("relayed", [(b"r" * 32).hex()])
    assert [each["dialable"] for each in reach["transports"]] == ["yes", "no"]
    assert reach["advice"] == "No stranger could reach TCP port 4001."


def test_status_of_a_worker_that_could_not_start(validate):
    alert = Alert(code="worker", message="There is no model.", advice="Name one.")
    worker = WorkerState(state="stopped", reasons=("There is no model.",))
    document = status(state(roles=("worker",), worker=worker, alerts=(alert,)))
    validate(document, "status")
    assert document["alerts"][0]["message"] == "There is no model."


PURSE = PurseState(
    balance=Nano(792_300_000),
    totals=Totals(
        credits=Holdings(
            by_value=((Nano(1_024), 2), (Nano(4_096), 1)), in_flight=Nano(9), newest_epoch=7
        ),
        due=Nano(1),
        owed=Nano(2),
        earned=Nano(3_000),
        earned_today=Nano(30),
        spent_today=Nano(4),
    ),
    minted=Minted(outstanding=Nano(5), issued=6, redeemed=7),
)


def test_status_says_what_there_is_in_money(validate):
    worker = WorkerState(state="serving")
    document = status(state(chain="local", purse=PURSE, worker=worker))
    validate(document, "status")
    assert document["node"]["chain"] == "local"
    assert document["money"] == {
        "wallet_nano": 792_300_000,
        "credits_nano": 6_144,
        "due_nano": 1,
        "owed_nano": 2,
        "earned_today_nano": 30,
        "spent_today_nano": 4,
    }
    assert document["mint"] == {"float_nano": 5, "issued": 6, "redeemed": 7}
    assert document["worker"]["earned_nano"] == 3_000


def test_status_leaves_open_what_is_not_known_of_money(validate):
    unseen = replace(PURSE, balance=None, minted=None)
    for purse, credits_nano in ((None, None), (unseen, 6_144)):
        document = status(state(chain="local", purse=purse))
        validate(document, "status")
        assert document["mint"] is document["money"]["wallet_nano"] is None
        assert document["money"]["credits_nano"] == credits_nano


def test_worker_says_what_it_asks_for(validate):
    prices = tariff.Prices(
        prompt=30_000_000, cached=7_500_000, completion=150_000_000, reasoning=150_000_000
    )
    service = Service(
        identity=MODEL,
        numerics=bytes(8),
        context=2_048,
        slots=1,
        prompt_rate=100.0,
        answer_rate=50.0,
        label="moth",
        prices=prices,
    )
    document = status(state(worker=WorkerState(state="serving", service=service)))
    validate(document, "status")
    assert document["worker"]["prices"] == {
        "prompt": 30_000,
        "cached": 7_500,
        "completion": 150_000,
        "reasoning": 150_000,
    }


def test_documents_of_money_keep_their_shape(validate, funds):
    validate(money.wallet(funds), "wallet")
    validate(money.credits_(funds), "credits")
    validate(money.lanes(funds), "lanes")
    validate(money.purchase("M", Nano(33_553_408), Nano(33_721_176), funds), "purchase")


def test_wallet_whose_chain_is_away_knows_the_rest(validate, funds):
    away = replace(funds, state="unknown", balance=None, claim_fee=None, close_fee=None)
    document = money.wallet(away)
    validate(document, "wallet")
    assert document["balance_nano"] is None
    assert document["fees_nano"] == {"claim": None, "close": None}
    assert document["credits"]["value_nano"] == 16_779_264


def test_what_is_due_is_never_less_than_nothing(funds):
    (lane,) = funds.lanes
    assert replace(lane, voucher=ZERO).due == ZERO


def test_transactions_of_an_account_that_is_gone_have_no_hash(validate, funds):
    gone = replace(funds.history[0], kind="close", transaction="", peer=LANE)
    document = money.lanes(replace(funds, history=(gone,)))
    validate(document, "lanes")
    assert document["transactions"][0]["transaction"] is None


def test_receipts_add_up(validate, operator):
    document = trio.run(operator.receipts)
    validate(document, "receipts")
    assert document["cost_nano"] == 0


def test_peers_lists_everybody(validate):
    first, second, _ = (entry.id for entry in ENTRIES)
    acquaintances = Acquaintances(
        links=frozenset({first}),
        dht=frozenset({first}),
        members=frozenset({first, second}),
        neighbours=frozenset({first}),
    )
    document = listing.peers(ENTRIES, DIRECTORY, (), 1_700_000_001.5, acquaintances)
    validate(document, "peers")
    assert document["as_of_at"] == "2023-11-14T22:13:20Z"
    relay, worker, _ = document["peers"]
    assert (relay["roles"], relay["reach"]) == (["relay"], "direct")
    assert worker["offers"][0]["prices"]["completion"] == 1
    ways = [(peer["link"], peer["dht"], peer["overlay"]) for peer in document["peers"]]
    assert ways == [
        ("up", True, "neighbour"),
        ("none", False, "member"),
        ("none", False, "none"),
    ]


def test_circuits_lists_our_own_and_sums_of_others(validate):
    shape = Shape(rate=4, prompt_cells=4, answer_s=8, left_s=5.25)
    hops = tuple(AdnlId(bytes([number]) * 32) for number in range(4))
    own = [
        CircuitView(id=3, state=state, age=2.04, hops=hops, shape=facts)
        for state, facts in ((CircuitState.OPEN, shape), (CircuitState.MENDING, None))
    ]
    guard = GuardView(
        id=hops[0],
        state=GuardState.BANNED,
        since=1_700_000_000.0,
        until=1_705_000_000.0,
        tries=4,
        passed=3,
        ended=2,
        killed=1,
    )
    counts = zeros(
        OnionStatistics, circuits=3, broken=2, passages=7, resumed=1, creates={"ok": 5}, destroys={}
    )
    document = listing.circuits(Overview(circuits=tuple(own), guards=(guard,)), counts)
    validate(document, "circuits")
    first, second = document["circuits"]
    assert (first["state"], first["age_s"], first["left_s"]) == ("open", 2.0, 5.2)
    assert first["relays"] == [hop.hex() for hop in hops[:3]]
    assert (second["state"], second["shaped"], second["left_s"]) == ("mending", False, None)
    assert document["guards"][0]["state"] == "banned"
    assert document["ending_here"] == {"circuits": 2, "broken": 1, "resumed": 1}
    assert document["passing"]["circuits"] == 7


def test_models_joins_what_is_here_and_what_is_offered(validate):
    local = LocalModel(
        name="moth@q4:00",
        identity=MODEL,
        size_bytes=5,
        quantisation="q4",
        parameters=7,
        context=4_096,
        licence="apache-2.0",
        tools=False,
        embedding=False,
    )
    document = listing.models(ENTRIES, (), [local])
    validate(document, "models")
    (model,) = document["models"]
    assert (model["source"], model["workers"], model["local"]) == ("local", 2, "ready")
    assert model["price_range"] == {"min": 1, "median": 1, "max": 2.5}
    assert model["tokens_per_s"] == {"p50": 20, "p90": 20}


def test_models_without_a_file_are_named_by_their_label(validate):
    document = listing.models(ENTRIES, (), ())
    validate(document, "models")
    assert document["models"][0]["name"] == "moth"


def test_prices_are_per_thousand_with_three_decimals():
    assert common.prices((0, 1, 20_000_000, 1_500)) == {
        "prompt": 0,
        "cached": 0.001,
        "completion": 20_000,
        "reasoning": 1.5,
    }


def test_one_relay_cannot_claim_a_crowd():
    claims = [entry(n, Role.RELAY, crowd=crowd) for n, crowd in enumerate((3, 3, 20))]
    assert clients_claimed(claims) == 7 + 7 + 21
    assert clients_claimed([]) == 0


@pytest.mark.parametrize(
    ("relays", "slots", "clients", "dev", "asker"),
    [
        (0, 50, 100, False, "none"),
        (3, 50, 100, True, "basic"),
        (3, 2, 100, False, "basic"),
        (3, 50, 0, False, "basic"),
    ],
)
def test_privacy_is_never_flattered(answer_of, relays, slots, clients, dev, asker):
    done = answer_of(["Luna"], relays=relays, slots=slots)
    document = answer.ask(done, Terms(dev=dev, clients_claimed=clients), "id")
    assert document["privacy"]["asker"] == asker
    assert document["privacy"]["relays"] == relays
    assert document["privacy"]["reasons"]


def test_what_shows_of_an_answer_is_told(answer_of):
    terms = Terms(dev=False, clients_claimed=100)
    shaped = answer.ask(answer_of(["Luna"]), terms, "id")["privacy"]
    assert (shaped["shaping"], shaped["shape"]["answer_s"]) == (1, 8)
    assert shaped["shape"]["link_bytes"] == 1_200 * (4 + 8 * (4 + 1))
    always = answer_of(
        ["Luna"], shape=Shape(rate=4, prompt_cells=4, answer_s=8, left_s=1, always=True)
    )
    assert answer.ask(always, terms, "id")["privacy"]["shaping"] == 2
    bare = answer.ask(answer_of(["Luna"], shape=None), terms, "id")["privacy"]
    assert (bare["shaping"], bare["shape"], bare["asker"]) == (0, None, "basic")
    assert set(bare["reasons"]) > set(shaped["reasons"])


def test_schema_of_a_document_refuses_another_document(validate):
    with pytest.raises(jsonschema.ValidationError):
        validate({"schema": "tussah/status/1"}, "status")
