"""Money as a node's owner meets it: what it needs, what it refuses, and one purchase in full.

Chain, mint and client run in this process, and talk as they do apart: over sockets.
"""

import logging
import socket
import stat
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial

import pytest
import trio

from ledger import keystore
from ledger.chain.embedded import NETWORK
from ledger.money import Nano
from ledger.payment import CannotPay, Unpaid
from p2p.entropy import SystemEntropy, seeded
from p2p.identity import AdnlId, Identity
from p2p.overlay.advert import Role
from p2p.wire import Endpoint
from scripts import daemon, funds, localchain, networks, sight, vault
from scripts import log as logs
from scripts.api import client
from scripts.failure import CODES, Failed
from scripts.home import Home, write_private
from scripts.localchain import Wanted
from scripts.networks import MAINNET, Chain, Server
from scripts.settings import Log, load

PATIENCE = 40
"""seconds for what takes one or two on an idle machine."""

BLOCK_TIME = 0.02

FAKE = {"worker__engine": "fake"}
"""A worker that needs no model."""


def endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Endpoint(*probe.getsockname())


SERVER_KEY = Identity(b"k" * 32).public


def chain_at(where, network=NETWORK):
    return Chain(network=network, servers=(Server(endpoint=where, key=SERVER_KEY),))


def wanted(home, **flags):
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load(flags=named, environ={}, file=home.config)[0]


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """An argon2id of a moment: what the real one costs is not looked at here."""
    seal = keystore.seal
    monkeypatch.setattr(keystore, "seal", lambda *given: seal(*given, passes=1, memory=8_192))


@pytest.fixture
def home(tmp_path):
    """The first node of a free network."""
    home = Home(tmp_path / "home")
    networks.create(home, "moths", endpoint=endpoint(), entropy=SystemEntropy(), dev=True)
    return home


@pytest.fixture
def profile(home):
    """Its network."""
    return networks.load(home, "moths")


@pytest.fixture
def paying(home, profile):
    """The same network with a chain that is away, and this home as its mint."""
    paying = replace(profile, chain=chain_at(endpoint()), mints=(profile.bootstrap[0].id,))
    networks.save(home, paying, replace=True)
    return paying


@pytest.fixture
def start(home, nursery):
    """Start a node; it is stopped with the test."""

    async def begin(at=home, **flags):
        with trio.fail_after(PATIENCE):
            return await nursery.start(partial(daemon.run, wanted(at, **flags), home=at))

    return begin


async def call(home, method, target, body=None):
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(client.call, home.socket, method, target, body)


async def stream(home, target, body):
    """All events of a request."""

    def events():
        return list(client.stream(home.socket, "POST", target, body))

    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(events)


async def until(node, holds):
    """The status of a node, once it is as it should be."""
    with trio.fail_after(PATIENCE):
        while not holds(status := await node.status()):  # noqa: ASYNC110
            await trio.sleep(0.02)  # a status wakes nobody
    return status


async def alert_of(node):
    (alert,) = (await until(node, lambda status: status["alerts"]))["alerts"]
    return alert


async def listed(node):
    """A node as it knows itself, once it is listed."""
    with trio.fail_after(PATIENCE):
        while not (entry := node.node.directory.find(node.identity.id)):
            await node.node.directory_changed()
    return entry.advert.roles


# --- a free network ---

MONEY = [
    ("GET", "/wallet"),
    ("GET", "/credits"),
    ("GET", "/lanes"),
    ("GET", "/receipts"),
    ("POST", "/credits/buy"),
    ("POST", "/lanes/UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh/close"),
]


async def test_free_network_has_nothing_to_buy_and_says_so(home, start, validate):
    node = await start()
    for method, target in MONEY:
        with pytest.raises(Failed, match=r"moths is free.*just ask") as failed:
            await call(home, method, target, {} if method == "POST" else None)
        assert (failed.value.failure.code, failed.value.failure.meaning.exit) == ("free_network", 2)
    status = await node.status()
    validate(status, "status")
    assert status["node"]["chain"] is status["mint"] is None
    assert set(status["money"].values()) == {None}
    assert not home.wallet.exists()
    assert not home.ledger.exists()


async def test_worker_with_a_price_on_a_free_network_says_what_to_do(home, start, validate):
    node = await start(node__roles="worker", worker__price="0.15", **FAKE)
    alert = await alert_of(node)
    assert alert["code"] == "worker"
    assert "has a price, but network moths has no chain" in alert["message"]
    assert "Set worker.price and worker.price_prompt to 0" in alert["advice"]
    status = await call(home, "GET", "/status")
    validate(status, "status")
    assert status["worker"]["state"] == "stopped"
    assert status["network"]["workers"] == 0


async def test_such_a_worker_is_not_listed_as_one(start):
    node = await start(node__roles="relay,worker", worker__price_prompt="1n", **FAKE)
    await alert_of(node)
    assert await listed(node) & (Role.RELAY | Role.WORKER) == Role.RELAY


async def test_worker_without_a_price_serves_a_free_network(start):
    node = await start(node__roles="worker", **FAKE)
    status = await until(node, lambda status: status["worker"]["state"] != "loading")
    assert (status["worker"]["state"], status["alerts"]) == ("serving", [])


# --- who may be a mint ---


@pytest.mark.parametrize(
    ("roles", "mints", "message", "advice"),
    [
        ("mint", (), "does not name this node as a mint", "network show"),
        ("mint", (b"o" * 32,), "does not name this node as a mint", "network show"),
        ("mint,worker", (), "a mint and a worker at once", "a home of its own"),
    ],
    ids=["none", "another", "worker too"],
)
async def test_mint_that_cannot_be_one_says_why(home, paying, start, roles, mints, message, advice):
    own = paying.bootstrap[0].id
    changed = replace(paying, mints=tuple(map(AdnlId, mints)) or ((own,) if "," in roles else ()))
    networks.save(home, changed, replace=True)
    node = await start(node__roles=roles, **FAKE)
    status = await until(node, lambda status: any(a["code"] == "mint" for a in status["alerts"]))
    (alert,) = [alert for alert in status["alerts"] if alert["code"] == "mint"]
    assert message in alert["message"]
    assert advice in alert["advice"]
    assert status["network"]["mints"] == 0


async def test_mint_of_a_free_network_says_that_it_is_one(start):
    node = await start(node__roles="mint")
    assert "moths is free" in (await alert_of(node))["message"]


async def test_worker_with_a_price_where_no_mint_is_named_says_so(home, paying, start):
    networks.save(home, replace(paying, mints=()), replace=True)
    node = await start(node__roles="worker", worker__price="0.15", **FAKE)
    assert "names no mint" in (await alert_of(node))["message"]


# --- coins of worth ---


@pytest.mark.parametrize(
    "changes",
    [{"dev": False}, {"chain": chain_at(Endpoint("127.0.0.1", 4443), MAINNET)}],
    ids=["a network of strangers", "the chain of real money"],
)
async def test_no_real_money_is_moved(home, paying, start, changes):
    networks.save(home, replace(paying, **changes), replace=True)
    node = await start(node__host="127.0.0.1")
    with pytest.raises(Failed, match="this version moves no real money") as failed:
        await call(home, "POST", "/credits/buy", {})
    assert failed.value.failure.code == "free_network"
    assert "no real money" in (await alert_of(node))["message"]
    assert not home.wallet.exists()


def test_only_the_chain_of_ton_has_coins_of_worth():
    for network, name, worthless in (
        (MAINNET, "mainnet", False),
        (-3, "testnet", True),
        (NETWORK, "local", True),
        (-17, "-17", True),
    ):
        chain = chain_at(Endpoint("127.0.0.1", 1), network)
        assert (chain.name, chain.worthless) == (name, worthless)


# --- the wallet's key ---


def test_wallet_key_is_made_once_and_private(home):
    first = funds.persistent_account(home, NETWORK)
    kept = home.wallet.read_bytes()
    assert stat.S_IMODE(home.wallet.stat().st_mode) == 0o600
    assert funds.persistent_account(home, NETWORK) == first
    assert home.wallet.read_bytes() == kept


def test_wallet_key_and_identity_are_two_secrets(home):
    funds.persistent_account(home, NETWORK)
    assert home.seed() != vault.opened(home).master.secret


async def test_wallet_key_outlives_restarts(home, paying, nursery):
    async def once():
        async with trio.open_nursery() as inner:
            node = await inner.start(partial(daemon.run, wanted(home), home=home))
            await until(node, lambda status: status["money"]["credits_nano"] is not None)
            inner.cancel_scope.cancel()
        return home.wallet.read_bytes()

    first = await once()
    assert stat.S_IMODE(home.wallet.stat().st_mode) == 0o600
    assert await once() == first


async def test_encrypted_wallet_waits_to_be_unlocked(home, paying, start, validate):
    """The node runs meanwhile; money says why it does not, and a wrong passphrase changes that."""
    home.prepare()
    vault.keep(home, keystore.make(seeded(1)), "luna", seeded(2))
    node = await start()
    assert (await alert_of(node))["code"] == "wallet_locked"
    with pytest.raises(Failed, match=r"nobody has unlocked it.*wallet unlock") as failed:
        await call(home, "POST", "/credits/buy", {})
    assert failed.value.failure.meaning.exit == 2
    with pytest.raises(Failed, match="does not open") as failed:
        await call(home, "POST", "/wallet/unlock", {"passphrase": "atlas"})
    assert failed.value.failure.code == "wrong_passphrase"
    validate(await call(home, "POST", "/wallet/unlock", {"passphrase": "luna"}), "unlock")
    status = await until(node, lambda status: status["money"]["credits_nano"] is not None)
    assert "wallet_locked" not in [alert["code"] for alert in status["alerts"]]


async def test_passphrase_in_a_file_opens_it_unattended(home, paying, start, tmp_path):
    home.prepare()
    vault.keep(home, keystore.make(seeded(1)), "luna", seeded(2))
    (tmp_path / "phrase").write_text("luna\n")
    node = await start(wallet__passphrase_file=str(tmp_path / "phrase"))
    await until(node, lambda status: status["money"]["credits_nano"] is not None)


async def test_restored_wallet_is_looked_after_until_all_is_found(home, paying, start):
    """The chain is away: it waits, and says so; a stop begins it anew."""
    home.path.joinpath("wallet.key").unlink(missing_ok=True)
    vault.restored(home, " ".join(keystore.make(seeded(1)).words), "", seeded(2))
    node = await start()
    status = await until(node, lambda status: status["alerts"])
    assert "restoring" in [alert["code"] for alert in status["alerts"]]
    assert home.restoring.exists()


async def test_store_of_another_wallet_is_refused(home, paying, start, nursery):
    async with trio.open_nursery() as inner:
        node = await inner.start(partial(daemon.run, wanted(home), home=home))
        await until(node, lambda status: status["money"]["credits_nano"] is not None)
        inner.cancel_scope.cancel()
    vault.keep(home, keystore.make(seeded(1)), "", seeded(2), replace=True)
    alert = await alert_of(await start())
    assert alert["code"] == "wallet"
    assert "belongs to another wallet" in alert["message"]


async def test_damaged_wallet_key_is_an_alert_and_stays(home, paying, start):
    write_private(home.wallet, "moth\n")
    node = await start()
    alert = await alert_of(node)
    assert alert["code"] == "wallet"
    assert "wallet.key holds no key" in alert["message"]
    assert "wallet restore" in alert["advice"]
    with pytest.raises(Failed, match=r"wallet is not open.*status"):
        await call(home, "GET", "/wallet")
    assert home.wallet.read_text() == "moth\n"


async def test_damaged_store_is_an_alert_with_advice(home, paying, start):
    write_private(home.ledger, "no database " * 99)
    node = await start(node__roles="relay,mint")
    status = await until(node, lambda status: len(status["alerts"]) == 2)
    alerts = {alert["code"]: alert["message"] for alert in status["alerts"]}
    assert "the file is damaged" in alerts["wallet"]
    assert "could not be opened" in alerts["mint"]


async def test_who_only_relays_has_no_wallet(home, paying, start):
    await start(node__roles="relay")
    with pytest.raises(Failed, match="only relays, and has no wallet"):
        await call(home, "GET", "/wallet")
    assert not home.wallet.exists()


# --- a chain that is away ---


async def test_wallet_is_shown_without_its_chain(home, paying, start, validate, monkeypatch):
    monkeypatch.setattr(sight, "FEW", 0.2)
    monkeypatch.setattr(sight, "SILENT", 0.2)
    node = await start(node__roles="worker", **FAKE)
    await until(node, lambda status: status["money"]["credits_nano"] is not None)
    document = await call(home, "GET", "/wallet")
    validate(document, "wallet")
    assert (document["state"], document["balance_nano"]) == ("unknown", None)
    assert document["fees_nano"] == {"claim": None, "close": None}
    assert (document["chain"], document["worthless"]) == ("local", True)
    assert document["address"] == funds.address(funds.persistent_account(home, NETWORK))
    for target in ("credits", "lanes", "receipts"):
        validate(await call(home, "GET", f"/{target}"), target)
    status = await node.status()
    validate(status, "status")
    assert status["node"]["chain"] == "local"
    assert (status["money"]["wallet_nano"], status["money"]["credits_nano"]) == (None, 0)
    status = await until(node, lambda status: status["alerts"])
    validate(status, "status")
    assert [alert["code"] for alert in status["alerts"]] == ["chain_unreachable"]


async def test_buying_where_no_mint_is_up_is_exit_4(home, paying, start):
    node = await start(node__roles="worker", **FAKE)
    await until(node, lambda status: status["money"]["credits_nano"] is not None)
    with pytest.raises(Failed, match=r"no mint of this network.*tussah peers") as failed:
        await call(home, "POST", "/credits/buy", {})
    assert failed.value.failure.code == "mint_unreachable"
    assert failed.value.failure.meaning.exit == 4


async def test_what_is_no_lane_of_ours_is_refused(home, paying, start):
    node = await start()
    await until(node, lambda status: status["money"]["credits_nano"] is not None)
    other = funds.address(b"\xab" * 32)
    with pytest.raises(Failed, match="no address of the chain") as failed:
        await call(home, "POST", "/lanes/moth/close", {})
    assert failed.value.failure.meaning.exit == 2
    for action in ("settle", "close"):
        with pytest.raises(Failed, match=f"has no lane at {other}") as failed:
            await call(home, "POST", f"/lanes/{other}/{action}", {})
        assert failed.value.failure.code == "invalid_request"


def test_every_reason_not_to_pay_has_a_code_of_4_or_5_unless_it_is_ours():
    own = {Unpaid.STORE: (1,), Unpaid.NOT_AGREED: (2,)}
    for reason in Unpaid:
        failure = funds.failure(CannotPay(reason)).failure
        assert CODES[failure.code].exit in own.get(reason, (4, 5))
        assert failure.advice


# --- a purchase ---


@contextmanager
def logged(path):
    """The log of this test, all of it."""
    with logs.configured(Log(format="json", level="debug", file=str(path))):
        yield
    logging.disable(logging.NOTSET)


def secrets_of(home):
    """Everything of a home that nobody else may know, as it might be written."""
    keys = vault.opened(home)
    master = keys.master
    seeds = [master.secret, master.credit_seed, master.mint_master, " ".join(keys.words).encode()]
    seeds += [master.sub("tussah.payee"), *([home.seed()] if home.seed() else [])]
    return [form for seed in seeds for form in (seed.hex(), seed.hex()[:16], repr(seed))]


@pytest.mark.slow
async def test_words_alone_bring_back_credits_through_a_node(
    home, profile, start, tmp_path, nursery
):
    chain_home, buyer = Home(tmp_path / "chain"), Home(tmp_path / "buyer")
    run = partial(localchain.run, Wanted(port=0, block_time=BLOCK_TIME), home=chain_home)
    chain = await nursery.start(run)
    paying = replace(profile, chain=chain.as_profile, mints=(profile.bootstrap[0].id,))
    for at in (home, buyer):
        networks.save(at, paying, replace=True)
    wallet = funds.persistent_account(buyer, NETWORK)
    await call(chain_home, "POST", "/fund", {"account": wallet.hex(), "nano": 10**9})
    await start(node__roles="relay,mint", worker__allow_direct=True)
    async with trio.open_nursery() as inner:
        run = partial(daemon.run, wanted(buyer, ask__relays=0), home=buyer)
        node = await inner.start(run)
        await until(node, lambda status: status["money"]["wallet_nano"] == 10**9)
        await until(node, lambda status: status["network"]["mints"] == 1)
        bought = await call(buyer, "POST", "/credits/buy", {"bundle": "S"})
        inner.cancel_scope.cancel()

    words, again = " ".join(vault.opened(buyer).words), Home(tmp_path / "again")
    vault.restored(again, words, "", seeded(1))
    networks.save(again, paying, replace=True)
    node = await start(again, ask__relays=0)
    value = bought["credits"]["value_nano"]
    await until(node, lambda status: status["money"]["credits_nano"] == value)
    await until(node, lambda status: "restoring" not in [a["code"] for a in status["alerts"]])
    (lane,) = (await call(again, "GET", "/lanes"))["lanes"]
    assert lane["state"] in ("open", "closing", "closed")


async def test_purchase_from_chain_to_credits(home, profile, start, tmp_path, nursery, validate):
    """Coins for a wallet, a lane, a bundle; every document of it; and no log tells a secret."""
    chain_home, buyer = Home(tmp_path / "chain"), Home(tmp_path / "buyer")
    with logged(tmp_path / "log"):
        run = partial(localchain.run, Wanted(port=0, block_time=BLOCK_TIME), home=chain_home)
        chain = await nursery.start(run)
        mint_id = profile.bootstrap[0].id
        paying = replace(profile, chain=chain.as_profile, mints=(mint_id,))
        for at in (home, buyer):
            networks.save(at, paying, replace=True)
        wallet = funds.persistent_account(buyer, NETWORK)
        await call(chain_home, "POST", "/fund", {"account": wallet.hex(), "nano": 10**9})

        mint = await start(node__roles="relay,mint", worker__allow_direct=True)
        node = await start(buyer, ask__relays=0)
        await until(node, lambda status: status["network"]["mints"] == 1)
        await until(node, lambda status: status["money"]["wallet_nano"] == 10**9)
        before = await call(buyer, "GET", "/wallet")
        told = await stream(buyer, "/credits/buy", {"bundle": "S", "stream": True})
        bought = told[-1][1]
        after = await call(buyer, "GET", "/wallet")
        lanes = await call(buyer, "GET", "/lanes")
        own = f"/lanes/{lanes['lanes'][0]['address']}/settle"
        with pytest.raises(Failed, match="one that this node pays on"):
            await call(buyer, "POST", own, {})
        status = await node.status()
        sold = await mint.status()

    for document, name in ((before, "wallet"), (bought, "purchase"), (after, "wallet")):
        validate(document, name)
    validate(lanes, "lanes")
    validate(status, "status")
    validate(sold, "status")
    assert [alert["code"] for alert in sold["alerts"]] == ["mint_empty"]
    assert status["alerts"] == []

    assert (before["state"], before["balance_nano"], before["lanes"]) == ("uninit", 10**9, [])
    assert bought["bundle"] == "S"
    check_told(told, bought)
    value = bought["value_nano"]
    assert bought["price_nano"] == Nano(value * 1_005).ceil_div(1_000).value
    assert bought["credits"]["value_nano"] == status["money"]["credits_nano"] == value
    assert sold["mint"] == {
        "float_nano": value,
        "issued": bought["credits"]["count"],
        "redeemed": 0,
    }

    (lane,) = after["lanes"]
    assert (lane["role"], lane["state"], lane["peer"]) == ("payer", "open", mint_id.hex())
    assert lane["voucher_nano"] == status["money"]["owed_nano"] == bought["price_nano"]
    assert sold["money"]["due_nano"] == bought["price_nano"]
    assert after["state"] == "active"
    spent = 10**9 - after["balance_nano"] - lane["deposit_nano"]
    fees = sum(move["fee_nano"] for move in lanes["transactions"])
    assert 0 < spent <= fees
    assert {move["kind"] for move in lanes["transactions"]} == {"open"}

    text = (tmp_path / "log").read_text()
    assert '"event": "credits.bought"' in text
    for secret in (*secrets_of(home), *secrets_of(buyer)):
        assert secret not in text
    for public in (funds.address(wallet), wallet.hex(), lane["address"]):
        assert public not in text


def check_told(told, bought):
    """Before anything was promised the buyer heard of all that it would cost."""
    names = [name for name, _ in told]
    assert (names[0], names[-2:]) == ("purchase", ["bought", "done"])
    assert set(names[1:-2]) <= {"opening"}
    intent = told[0][1]
    assert (intent["chain"], intent["worthless"], intent["lane"]) == ("local", True, None)
    assert (intent["price_nano"], intent["value_nano"]) == (
        bought["price_nano"],
        bought["value_nano"],
    )
    assert (intent["deposit_nano"], intent["fees_nano"]) == (200_000_000, 15_000_000)


async def test_lane_that_a_stopped_chain_would_close_is_not_waited_for(autojump_clock):
    """The wallet's transfers wait for each other: one that the chain never took stops the next."""
    parts = dict.fromkeys(field.name for field in fields(funds.Treasury))
    with pytest.raises(Failed, match=r"taken nothing for 15 s.*lanes list") as failed:
        await funds.Treasury(**parts)._post(bytes(32), stuck)
    assert failed.value.failure.meaning.exit == 4


async def stuck(lane):
    await trio.sleep_forever()


# --- small ---


@pytest.mark.parametrize("text", ["", "moth", "UQ", "x" * 48, "0:zz", "\0" * 48])
def test_text_that_is_no_address_is_wrong_use(text):
    with pytest.raises(Failed, match="lanes list") as failed:
        funds.account(text)
    assert failed.value.failure.meaning.exit == 2


def test_address_comes_back():
    account = Identity(b"a" * 32).public
    assert funds.account(funds.address(account)) == account


def test_prices_are_set_per_thousand_and_kept_per_million(home):
    free = funds.prices(wanted(home))
    assert free.free
    prices = funds.prices(wanted(home, worker__price="0.15", worker__price_prompt="0.03"))
    assert (prices.prompt, prices.cached) == (30_000_000_000, 7_500_000_000)
    assert prices.completion == prices.reasoning == 150_000_000_000
