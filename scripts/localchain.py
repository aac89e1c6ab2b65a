"""A chain of one's own as a process: TON's machine, a lite-server on loopback, coins for free.

It serves development, tests and demonstrations: the wallets and lanes of a network are as real as
on TON, and the coins are worth nothing. Its home is like a node's; what is asked of it beside the
lite-server's questions goes over the control socket: coins, time travel, blocks, the balance sheet.
"""

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import structlog
import trio
from pytoniq_core import Address
from pytoniq_core.boc.address import AddressError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ledger.chain import face
from ledger.chain.base import Head
from ledger.chain.embedded import EmbeddedChain
from ledger.lane import Account
from ledger.money import MAX_NANO, Nano
from p2p.entropy import SystemEntropy
from p2p.errors import Insufficient, LocalError
from p2p.identity import Identity
from p2p.wire import Endpoint
from scripts import log as logs
from scripts import networks, process
from scripts.api import local
from scripts.api import server as http
from scripts.api.connection import Limits
from scripts.failure import Document, Failed, unwrap
from scripts.home import CHAIN, Home, locked
from scripts.settings import Log

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

PORT: Final = 4443
"""Where the lite-server listens unless told otherwise."""

BLOCK_TIME: Final = 0.4
"""seconds, as TON's basechain since 2026"""

MAX_BLOCKS: Final = 1_000
"""mined at one request"""

MAX_SECONDS: Final = 366 * 86_400
"""travelled at one request"""

CLOSE_SECONDS: Final = 2.0
"""For the last words of the control API."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the process is to be."""

    port: int = PORT
    """TCP, on loopback; 0: any"""
    block_time: float = BLOCK_TIME
    """seconds"""


async def run(
    wanted: Wanted,
    *,
    home: Home,
    task_status: "TaskStatus[LocalChain]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a chain until `LocalChain.stop`, or until cancelled.

    Raises `Failed` if the home is in use, the port taken, or the file no chain.
    """
    home.prepare()
    with locked(home, CHAIN):
        key = networks.persistent_identity(home, SystemEntropy())
        with closing(_opened(home, wanted)) as chain:
            try:
                async with _served(chain, key, wanted) as endpoint:
                    server = networks.Server(endpoint=endpoint, key=key.public)
                    process = LocalChain(chain, home, server, wanted)
                    async with _controlled(process):
                        task_status.started(process)
                        await process.stopping.wait()
            except BaseExceptionGroup as group:
                raise unwrap(group) from None


def _opened(home: Home, wanted: Wanted) -> EmbeddedChain:
    try:
        return EmbeddedChain.open(home.path / "chain.db", block_time=wanted.block_time)
    except LocalError as error:
        advice = f"Move {home.path} away to begin another chain."
        raise Failed("failed", f"The chain cannot go on: {error}.", advice) from error


@asynccontextmanager
async def _served(chain: EmbeddedChain, key: Identity, wanted: Wanted) -> AsyncIterator[Endpoint]:
    """The chain makes blocks and answers lite-clients."""
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        try:
            port = await nursery.start(face.serve, chain, key, wanted.port)
        except OSError as error:
            raise Failed(
                "address_in_use",
                f"The lite-server cannot listen on port {wanted.port}: {error.strerror}.",
                "Choose another with --port, or end the program that uses it.",
            ) from error
        yield Endpoint(face.LOOPBACK, port)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _controlled(process: "LocalChain") -> AsyncIterator[None]:
    process.home.prepare_socket()
    limits = Limits(grace_seconds=CLOSE_SECONDS)
    app = local.app(_routes(process))
    try:
        async with trio.open_nursery() as nursery:
            listeners = [local.listen(process.home.socket)]
            server = await nursery.start(partial(http.serve, app, listeners, limits=limits))
            yield
            server.close()
    finally:
        process.home.socket.unlink(missing_ok=True)


@final
class LocalChain:
    """A running chain, as its control socket shows it."""

    def __init__(
        self, chain: EmbeddedChain, home: Home, server: networks.Server, wanted: Wanted
    ) -> None:
        self.chain = chain
        self.home = home
        self.server = server
        self.wanted = wanted
        self.stopping = trio.Event()

    @property
    def as_profile(self) -> networks.Chain:
        """What a network's profile says of this chain."""
        return networks.Chain(network=self.chain.network, servers=(self.server,))

    async def status(self) -> Document:
        """Where it is reached, and how far it is."""
        counted = self.chain.statistics()
        return {
            "schema": "tussah/localchain/1",
            "pid": os.getpid(),
            "control": str(self.home.socket),
            "network": self.chain.network,
            "address": networks.format_endpoint(self.server.endpoint),
            "key": self.server.key.hex(),
            "block_time": self.wanted.block_time,
            "head": _head(await self.chain.head()),
            "pending": counted.pending,
            "accounts": counted.accounts,
            "transactions": counted.transactions,
        }

    async def supply(self) -> Document:
        """Where all coins are, in nano."""
        found = await self.chain.supply()
        return {
            "schema": "tussah/supply/1",
            "genesis": found.genesis.value,
            "giver": found.giver.value,
            "accounts": found.accounts.value,
            "queued": found.queued.value,
            "fees": found.fees.value,
            "astray": found.astray.value,
            "exact": found.exact,
        }

    async def fund(self, asked: Document) -> Document:
        """`{account | address, nano}`: coins, which have arrived when the answer comes."""
        account = _account(asked)
        try:
            await self.chain.fund(account, Nano(_whole(asked, "nano", 1, MAX_NANO)))
        except Insufficient as error:
            raise Failed("insufficient_funds", "The giver has not so much.") from error
        await self.chain.settled()
        found = await self.chain.account(account)
        return {
            "schema": "tussah/fund/1",
            "account": account.hex(),
            "balance": 0 if found is None else found.balance.value,
        }

    async def travel(self, asked: Document) -> Document:
        """`{seconds}`: the chain's time moves ahead."""
        seconds = _whole(asked, "seconds", 0, MAX_SECONDS)
        return {"schema": "tussah/head/1", **_head(await self.chain.travel(seconds))}

    async def mine(self, asked: Document) -> Document:
        """`{blocks}`: so many blocks at once."""
        blocks = _whole({"blocks": 1, **asked}, "blocks", 1, MAX_BLOCKS)
        return {"schema": "tussah/head/1", **_head(await self.chain.mine(blocks))}


def _routes(process: LocalChain) -> Sequence[BaseRoute]:
    return [
        _telling("/status", process.status),
        _telling("/supply", process.supply),
        _doing("/fund", process.fund),
        _doing("/travel", process.travel),
        _doing("/mine", process.mine),
        Route("/shutdown", local.shutdown(process.stopping.set), methods=["POST"]),
    ]


def _telling(path: str, tell: Callable[[], Awaitable[Document]]) -> Route:
    async def endpoint(request: Request) -> Response:
        return local.answer(await tell())

    return Route(path, endpoint, methods=["GET"])


def _doing(path: str, do: Callable[[Document], Awaitable[Document]]) -> Route:
    async def endpoint(request: Request) -> Response:
        asked = await local.read_json(request)
        if not isinstance(asked, Mapping):
            raise Failed("invalid_request", "The request's body is no JSON object.")
        return local.answer(await do(asked))

    return Route(path, endpoint, methods=["POST"])


def _head(head: Head) -> Document:
    return {"seqno": head.seqno, "time": head.time, "lt": head.lt}


def _whole(asked: Document, name: str, least: int, most: int) -> int:
    value = asked.get(name)
    if type(value) is not int or not least <= value <= most:
        message = f"{name} must be a whole number from {least} to {most}."
        raise Failed("invalid_request", message, param=name)
    return value


def _account(asked: Document) -> Account:
    """`account` in hex, or `address` as wallets show it."""
    raw, address = asked.get("account"), asked.get("address")
    try:
        if isinstance(raw, str) and len(raw) == 64:
            return Account(bytes.fromhex(raw))
        if isinstance(address, str) and len(address) == 48:
            found = Address(address)
            if found.wc == 0:
                return Account(found.hash_part)
    except (ValueError, LookupError, AddressError):
        pass  # said below
    raise Failed(
        "invalid_request",
        "There is no account to give coins to.",
        "Name it as account (64 hex digits) or as address (48 characters, workchain 0).",
        param="address",
    )


# --- as a process ---


def main(wanted: Wanted, *, home: Home, ready: Callable[[Document], None]) -> int:
    """Be a chain as this process until SIGINT, SIGTERM or a request. Raises `Failed`."""
    with logs.configured(Log()):
        trio.run(_process, partial(run, wanted, home=home), ready)
    return 0


async def _process(start: "partial[Awaitable[None]]", ready: Callable[[Document], None]) -> None:
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until, signals, nursery.cancel_scope)
                async with trio.open_nursery() as living:
                    process = await living.start(start)
                    ready(await process.status())
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise unwrap(group) from None


async def _until(signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
    """Blocks are whole whenever it ends: a signal may end it at once."""
    async for _ in signals:
        everything.cancel()


def child(argv: Sequence[str] | None = None) -> int:
    """The chain of a demonstration: it ends with its standard input."""
    parser = argparse.ArgumentParser(prog="scripts.localchain", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--block-time", type=float, default=BLOCK_TIME)
    chosen = parser.parse_args(argv)
    process.end_with_input()
    wanted = Wanted(port=chosen.port, block_time=chosen.block_time)
    try:
        return main(wanted, home=Home(chosen.home), ready=lambda document: None)
    except Failed as failed:
        sys.stderr.write(f"{failed.failure}\n")
        return failed.failure.meaning.exit


if __name__ == "__main__":
    sys.exit(child())
