"""The chain as a process: what its control socket does, and that it goes on where it ended."""

import os
import socket
from functools import partial

import pytest
import trio
from pytoniq_core import Address

from ledger.chain.embedded import NETWORK
from ledger.chain.face import LOOPBACK
from scripts import localchain, networks
from scripts.api import client
from scripts.cli.main import main
from scripts.failure import Failed
from scripts.home import Home
from scripts.localchain import Wanted

PATIENCE = 30
ACCOUNT = "11" * 32


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def start(home, nursery):
    """Start a chain; it is stopped with the test."""

    async def begin(**wanted):
        run = partial(
            localchain.run, Wanted(**{"port": 0, "block_time": 0.02, **wanted}), home=home
        )
        with trio.fail_after(PATIENCE):
            return await nursery.start(run)

    return begin


async def call(home, method, target, body=None):
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(client.call, home.socket, method, target, body)


def test_its_id_is_the_one_that_profiles_name():
    assert networks.LOCAL == NETWORK


async def test_says_where_it_is_reached(home, start, validate):
    process = await start()
    status = await call(home, "GET", "/status")
    validate(status, "localchain")
    assert status["address"].startswith(f"{LOOPBACK}:")
    assert status["key"] == process.as_profile.servers[0].key.hex()
    host, _, port = status["address"].rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.aclose()


async def test_coins_have_arrived_when_the_answer_comes(home, start, validate):
    await start()
    friendly = Address((0, bytes.fromhex(ACCOUNT))).to_str(is_bounceable=False)
    for turn, name in enumerate(({"account": ACCOUNT}, {"address": friendly}), 1):
        given = await call(home, "POST", "/fund", {**name, "nano": 10**9})
        validate(given, "fund")
        assert given["account"] == ACCOUNT
        # being stored costs a nano in two minutes, rounded up
        assert turn * 10**9 - 2 <= given["balance"] <= turn * 10**9
    supply = await call(home, "GET", "/supply")
    validate(supply, "supply")
    assert supply["exact"]
    assert supply["accounts"] + supply["fees"] == 2 * 10**9


async def test_second_chain_in_one_home_is_told_how_to_end_the_first(home, start):
    await start()
    with pytest.raises(Failed) as failed:
        await localchain.run(Wanted(port=0), home=home)
    assert failed.value.failure.message.startswith(f"A chain already runs in {home.path}")
    assert f"kill {os.getpid()}" in failed.value.failure.advice
    assert "tussah" not in failed.value.failure.advice


@pytest.mark.parametrize(
    "words",
    [
        ["localchain", "--give-to", "UQ", "--home", "{}"],
        ["network", "new", "silk", "--chain", "{}"],
    ],
)
def test_chain_that_does_not_run_is_to_be_started_where_it_was_looked_for(tmp_path, capsys, words):
    where = tmp_path / "chain"
    command = [word.format(where) for word in words]
    if "--home" not in command:
        command += ["--home", str(tmp_path / "node")]
    assert main(command) == 3
    assert capsys.readouterr().err == (
        f"tussah: No chain runs in {where}. Start one: tussah --home {where} localchain\n"
    )


async def test_time_travels_and_blocks_come_when_asked_for(home, start, validate):
    await start(block_time=3_600.0)
    before = (await call(home, "GET", "/status"))["head"]
    travelled = await call(home, "POST", "/travel", {"seconds": 86_400})
    validate(travelled, "head")
    assert 86_400 <= travelled["time"] - before["time"] < 86_400 + 3_600
    assert travelled["seqno"] == before["seqno"] + 1
    assert (await call(home, "POST", "/mine", {}))["seqno"] == before["seqno"] + 2
    assert (await call(home, "POST", "/mine", {"blocks": 5}))["seqno"] == before["seqno"] + 7


NONSENSE = [
    ("/fund", {"nano": 1}),
    ("/fund", {"account": "11" * 31, "nano": 1}),
    ("/fund", {"account": "zz" * 32, "nano": 1}),
    ("/fund", {"address": "x" * 48, "nano": 1}),
    ("/fund", {"address": "é" * 48, "nano": 1}),
    ("/fund", {"address": Address((-1, bytes(32))).to_str(), "nano": 1}),
    ("/fund", {"account": ACCOUNT, "nano": 0}),
    ("/fund", {"account": ACCOUNT, "nano": 2**63}),
    ("/fund", {"account": ACCOUNT, "nano": 1.5}),
    ("/fund", {"account": ACCOUNT, "nano": True}),
    ("/travel", {}),
    ("/travel", {"seconds": -1}),
    ("/mine", {"blocks": 10**9}),
    ("/mine", []),
]


async def test_what_makes_no_sense_is_refused(home, start):
    await start()
    for target, body in NONSENSE:
        with pytest.raises(Failed) as failed:
            await call(home, "POST", target, body)
        assert failed.value.failure.code == "invalid_request", (target, body)


async def test_the_giver_does_not_give_what_it_has_not(home, start):
    await start()
    with pytest.raises(Failed) as failed:
        await call(home, "POST", "/fund", {"account": ACCOUNT, "nano": 2**63 - 1})
    assert failed.value.failure.code == "insufficient_funds"


async def test_goes_on_where_it_ended(home):
    statuses = []
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            run = partial(localchain.run, Wanted(port=0, block_time=0.02), home=home)
            await nursery.start(run)
            await call(home, "POST", "/fund", {"account": ACCOUNT, "nano": 10**9})
            statuses.append(await call(home, "GET", "/status"))
            await call(home, "POST", "/shutdown")
        assert not home.socket.exists()
    first, second = statuses
    assert first["key"] == second["key"]
    assert second["transactions"] == 2
    assert second["head"]["seqno"] > first["head"]["seqno"]


async def test_a_taken_port_is_said(home, start):
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with pytest.raises(Failed) as failed:
            await start(port=taken.getsockname()[1])
    assert failed.value.failure.code == "address_in_use"


async def test_a_home_holds_one_chain(home, start):
    await start()
    with pytest.raises(Failed) as failed:
        await start()
    assert failed.value.failure.code == "already_running"


async def test_a_file_that_is_no_chain_is_said(home, start):
    home.prepare()
    (home.path / "chain.db").write_bytes(b"not a database" * 1_000)
    with pytest.raises(Failed) as failed:
        await start()
    assert "Move" in failed.value.failure.advice
