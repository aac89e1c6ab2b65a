"""`LiteChain`: TON through lite-servers, by an unmodified pytoniq in a thread of its own.

pytoniq needs asyncio, we are trio: one asyncio loop runs in one thread, and a call is a coroutine
handed to it (`_Portal`). Nothing but this module touches that loop, and it never blocks on anything
but its sockets. With two servers or more, what a server alone could make up (an account's state,
the outcome of a get-method, prices) must be said by two of three; transactions need no second
word, as each names the hash of the one before. With one server its word is believed, which is
right for the face of our own chain and nowhere else. A server of another network is found out when
it is connected to, before anything is sent to it or believed of it.
"""

import asyncio
import logging
import re
import threading
from base64 import b64encode
from collections import Counter, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar, final

import trio
from pytoniq.liteclient.client import LiteClient, LiteClientError, LiteServerError
from pytoniq_core import Address, BlockIdExt, Cell
from pytoniq_core.crypto.crc import crc16

from ledger.chain.base import Contract, Fees, GetFailed, Head, NotAccepted, StackValue, Tx
from ledger.chain.boc import read_cell
from ledger.chain.history import PAGE, check_state, read_config, read_last, read_page
from ledger.chain.records import (
    normalized_hash,
    read_account,
    read_external,
    read_fees,
)
from ledger.chain.stack import read_stack, write_stack
from ledger.lane import Account
from p2p.errors import Closed, CodecError, RemoteError, Timeout, TussahError, Unreachable

T = TypeVar("T")

CONNECT_TIME: Final = 5.0
ANSWER_TIME: Final = 8.0
"""seconds for one exchange with one server."""

CALL_TIME: Final = 20.0
"""seconds after which a call is given up from outside, should the thread itself be stuck."""

WAIT_TIME: Final = 5.0
"""seconds that a server is asked to wait for a block; then it is asked again."""

LATE_TIME: Final = 1.0
"""seconds that the slowest server gets once enough have told their newest block."""

PRICES_TIME: Final = 60.0
"""seconds that prices are believed; they change by a vote of validators, over days."""

MOST_ASKED: Final = 3
ENOUGH: Final = 2
"""servers asked, and equal answers needed; fewer if fewer are configured."""

_PRICES: Final = (18, 21, 25)
_BUSY: Final = (651, 652, 228)
"""not ready, timeout, too many queries: to be asked again, here or elsewhere."""

_STANDING: Final = "standing"
_EXIT_CODE: Final = re.compile(r"exit ?code\s*[=:]\s*(-?\d{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteServer:
    """Where a lite-server listens, and its Ed25519 public key."""

    host: str
    port: int
    key: bytes

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@final
class LiteChain:
    """See the module and `base.Chain`."""

    def __init__(self, portal: "_Portal", servers: "_Servers", network: int) -> None:
        self._portal = portal
        self._servers = servers
        self._network = network
        self._fees: Fees | None = None
        self._fees_until = 0.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, servers: Sequence[LiteServer], network: int, trust: int = 1
    ) -> AsyncIterator["LiteChain"]:
        """A chain behind servers that need not be up: calls connect, and connect again.

        `trust` is pytoniq's: 1 checks proofs back to a block of the masterchain that the servers
        name; 2 believes them in that, too, as the face needs.
        """
        if not servers or trust not in (1, 2):
            raise ValueError("a lite chain needs a server and trust level 1 or 2")
        async with _Portal.open() as portal:
            crowd = _Servers(servers, network, trust)
            try:
                yield cls(portal, crowd, network)
            finally:
                with trio.CancelScope(shield=True), suppress(TussahError):
                    await portal.call(crowd.close)

    @property
    def network(self) -> int:
        return self._network

    async def head(self) -> Head:
        return await self._portal.call(self._servers.head)

    async def account(self, address: Account) -> Contract | None:
        return await self._portal.call(lambda: self._servers.account(address))

    async def run_get(
        self, address: Account, method: str, *args: StackValue
    ) -> tuple[StackValue, ...]:
        stack = write_stack(args)
        code, result = await self._portal.call(lambda: self._servers.run(address, method, stack))
        if code not in (0, 1):
            raise GetFailed(code)
        return read_stack(result)

    async def send(self, boc: bytes) -> bytes:
        try:
            name = normalized_hash(read_external(boc)[1])
        except CodecError as error:
            raise NotAccepted(str(error)) from error
        await self._portal.call(lambda: self._servers.send(boc))
        return name

    async def transactions(self, address: Account, after_lt: int, limit: int = 100) -> list[Tx]:
        lt, name = await self._portal.call(lambda: self._servers.last(address))
        oldest: deque[Tx] = deque(maxlen=limit)
        while lt > after_lt:
            page, lt, name = await self._page(address, lt, name)
            oldest.extend(tx for tx in page if tx.lt > after_lt)
        return list(reversed(oldest))

    async def _page(self, address: Account, lt: int, name: bytes) -> tuple[list[Tx], int, bytes]:
        boc = await self._portal.call(lambda: self._servers.transactions(address, lt, name))
        return read_page(boc, address, lt, name)

    async def wait(self, seqno: int) -> Head:
        while (head := await self.head()).seqno < seqno:
            await self._portal.call(lambda: self._servers.wait(seqno))
        return head

    async def fees(self) -> Fees:
        """Prices as the config said at most `PRICES_TIME` ago: they take 0.2 s to read."""
        if self._fees is None or trio.current_time() > self._fees_until:
            self._fees = read_fees(await self._portal.call(self._servers.config))
            self._fees_until = trio.current_time() + PRICES_TIME
        return self._fees


@final
class _Portal:
    """An asyncio loop in a thread, and the way into it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["_Portal"]:
        portal = cls()
        threading.Thread(target=portal._run, name="lite-servers", daemon=True).start()
        try:
            await portal._ready.wait()
            yield portal
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CONNECT_TIME):
                await portal._ready.wait()
                portal._close()
                await portal._ended.wait()

    async def call(self, work: Callable[[], Coroutine[object, None, T]]) -> T:
        """What the coroutine returns or raises; cancelling this cancels it.

        Raises `Timeout` after `CALL_TIME`, whatever the thread does, and `Closed` after the end.
        """
        if self._loop is None or self._loop.is_closed():
            raise Closed("the chain is closed")
        done = trio.Event()
        future = asyncio.run_coroutine_threadsafe(_work(work), self._loop)
        future.add_done_callback(lambda _: self._tell(done))
        try:
            with trio.move_on_after(CALL_TIME) as scope:
                await done.wait()
        finally:
            future.cancel()
        if scope.cancelled_caught:
            raise Timeout("lite-servers take too long")
        if future.cancelled():
            raise Closed("the chain is closed")
        return future.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._tell(self._ended)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # What a task of pytoniq dies of is the peer's doing; the next call connects again.
        self._loop.set_exception_handler(lambda *_: None)
        self._tell(self._ready)
        await self._stop.wait()

    def _close(self) -> None:
        loop, stop = self._loop, self._stop
        self._loop = None
        if loop is not None and stop is not None:
            loop.call_soon_threadsafe(stop.set)

    def _tell(self, event: trio.Event) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(event.set)


async def _work(work: Callable[[], Coroutine[object, None, T]]) -> T:
    """The coroutine is made in the loop's thread, so none is left unawaited if the loop is gone."""
    return await work()


@final
class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A lite-server answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"lite-server: {message} ({code})")
        self.code = code
        self.message = message


@final
class _Servers:
    """Several lite-servers as one; lives in the loop's thread."""

    def __init__(self, servers: Sequence[LiteServer], network: int, trust: int) -> None:
        logging.getLogger(LiteClient.__name__).setLevel(logging.CRITICAL)
        self._servers = [_Server(server, network, trust) for server in servers]
        self._network = network
        self._enough = min(ENOUGH, len(servers))

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self._servers))

    async def head(self) -> Head:
        block = await self._newest()
        return await self._agree(lambda server: server.head(block), lambda head: head)

    async def account(self, address: Account) -> Contract | None:
        block = await self._newest()
        found = await self._agree(
            lambda server: server.account(block, address), lambda found: found[0]
        )
        return found[1]

    async def last(self, address: Account) -> tuple[int, bytes]:
        """Time and hash of the newest transaction; 0 if none is known."""
        block = await self._newest()
        return await self._agree(lambda server: server.last(block, address), lambda last: last)

    async def run(self, address: Account, method: str, stack: bytes) -> tuple[int, bytes]:
        block = await self._newest()
        return await self._agree(
            lambda server: server.run(block, address, method, stack), lambda result: result
        )

    async def config(self) -> Cell:
        """The dictionary of the configuration. Raises `RemoteError` for another chain's."""
        block = await self._newest()
        network, config = await self._agree(
            lambda server: server.config(block), lambda found: (found[0], found[1].get_hash(0))
        )
        if network != self._network:
            raise RemoteError(f"lite-servers of network {network}")
        return config

    async def transactions(self, address: Account, lt: int, name: bytes) -> bytes:
        """A page of transactions as any one server gives it."""
        heard: list[bytes | Exception] = []
        for server in self._asked():
            result = await _outcome(server.transactions(address, lt, name))
            if not isinstance(result, Exception):
                return result
            heard.append(result)
        raise _failure(heard)

    async def send(self, boc: bytes) -> None:
        """Hand an external to all; one that takes it is enough."""
        heard = await self._hear(lambda server: server.send(boc), _nobody)
        if any(not isinstance(result, Exception) for result in heard):
            return
        for result in heard:
            if isinstance(result, _Refused) and result.code not in _BUSY:
                found = _EXIT_CODE.search(result.message)
                raise NotAccepted(result.message, int(found[1]) if found else None)
        raise _failure(heard)

    async def wait(self, seqno: int) -> None:
        """Until enough servers have the block, or `WAIT_TIME` is over."""
        heard = await self._hear(lambda server: server.wait(seqno), self._answered, grace=0.0)
        if not any(isinstance(result, _Refused) for result in heard) and not self._answered(heard):
            raise _failure(heard)

    async def _newest(self) -> BlockIdExt:
        """The newest block that enough servers have reached, whatever one of them makes up."""
        heard = await self._hear(lambda server: server.newest(), self._answered, grace=LATE_TIME)
        if not self._answered(heard):
            raise _failure(heard)
        blocks = [result for result in heard if not isinstance(result, Exception)]
        return sorted(blocks, key=lambda block: -block.seqno)[self._enough - 1]

    async def _agree(
        self, ask: Callable[["_Server"], Awaitable[T]], key: Callable[[T], Hashable]
    ) -> T:
        """What enough servers say alike."""

        def said(heard: Sequence[T | Exception]) -> Counter[Hashable]:
            return Counter(key(result) for result in heard if not isinstance(result, Exception))

        def agreed(heard: Sequence[T | Exception]) -> bool:
            return max(said(heard).values(), default=0) >= self._enough

        heard = await self._hear(ask, agreed, grace=0.0)
        if not agreed(heard):
            raise RemoteError("lite-servers disagree") if self._answered(heard) else _failure(heard)
        most = said(heard).most_common(1)[0][0]
        return next(r for r in heard if not isinstance(r, Exception) and key(r) == most)

    async def _hear(
        self,
        ask: Callable[["_Server"], Awaitable[T]],
        enough: Callable[[Sequence[T | Exception]], bool],
        grace: float = 0.0,
    ) -> list[T | Exception]:
        """Ask several at once; once there is enough, the others get `grace` seconds more."""
        tasks = [asyncio.create_task(_outcome(ask(server))) for server in self._asked()]
        waiting, heard = set(tasks), list[T | Exception]()
        try:
            while waiting and not (enough(heard) and grace == 0.0):
                limit = grace if enough(heard) else None
                done, waiting = await asyncio.wait(
                    waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                heard += [task.result() for task in tasks if task in done]
        finally:
            for task in waiting:
                task.cancel()
        return heard

    def _answered(self, heard: Sequence[T | Exception]) -> bool:
        return sum(not isinstance(result, Exception) for result in heard) >= self._enough

    def _asked(self) -> list["_Server"]:
        """Those that failed longest ago, or never."""
        return sorted(self._servers, key=lambda server: server.failed_at)[:MOST_ASKED]


def _nobody(_: Sequence[object]) -> bool:
    """All are to be heard."""
    return False


async def _outcome(asked: Awaitable[T]) -> T | Exception:
    try:
        return await asked
    except (TussahError, _Refused) as error:
        return error
    except KeyError as error:
        return RemoteError(f"a lite-server answered something else: no {error}")


def _failure(heard: Sequence[object]) -> TussahError:
    """Why there is no answer: a refusal says more than a silence."""
    for result in heard:
        if isinstance(result, _Refused) and result.code not in _BUSY:
            return RemoteError(str(result))
    for result in heard:
        if isinstance(result, RemoteError):
            return result
    for result in heard:
        if isinstance(result, Exception):
            return Unreachable(str(result))
    return Unreachable("too few lite-servers answer")


@final
class _Server:
    """One lite-server: its connection, and queries; lives in the loop's thread."""

    def __init__(self, server: LiteServer, network: int, trust: int) -> None:
        self._server = server
        self._network = network
        self._trust = trust
        self._client: LiteClient | None = None
        self._opening: asyncio.Task[LiteClient] | None = None
        self.failed_at = 0.0
        """By the loop's clock; 0: never."""

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._client is not None:
            await self._client.close()

    async def newest(self) -> BlockIdExt:
        return await self._newest(await self._connected())

    async def _newest(self, client: LiteClient) -> BlockIdExt:
        info = await self._query(client, lambda client: client.get_masterchain_info())
        block: BlockIdExt = BlockIdExt.from_dict(info["last"])
        return block

    async def head(self, block: BlockIdExt) -> Head:
        """The masterchain's number; time and logical time of the newest shard."""
        shards = await self._ask(lambda client: client.raw_get_all_shards_info(block))
        found = [shard for tree in shards.values() for shard in tree.list if shard is not None]
        if not found:
            raise RemoteError("a chain without shards")
        time, lt = (max(shard.gen_utime for shard in found), max(shard.end_lt for shard in found))
        return Head(seqno=block.seqno, time=time, lt=lt)

    async def account(self, block: BlockIdExt, address: Account) -> tuple[bytes, Contract | None]:
        """The hash of its ShardAccount, and what is in it."""
        where = Address((0, address))
        _, entry = await self._ask(lambda client: client.raw_get_account_state(where, block))
        if entry is None or entry.cell is None:
            return b"", None
        return entry.cell.hash, read_account(address, entry.cell)

    async def last(self, block: BlockIdExt, address: Account) -> tuple[int, bytes]:
        """See `_Servers`. Of an account that is gone only the face knows, whom we believe."""
        _, contract = await self.account(block, address)
        if contract is not None or self._trust < 2:
            return (contract.last_lt, contract.last_hash) if contract else (0, b"")
        asked = {"id": block.to_dict(), "account": _account_id(address)}
        found = await self._ask(lambda client: client.liteserver_request("getAccountState", asked))
        return read_last(found["proof"], address) if not found["state"] else (0, b"")

    async def run(
        self, block: BlockIdExt, address: Account, method: str, stack: bytes
    ) -> tuple[int, bytes]:
        """Exit code and stack, as the server says: no proof of them exists."""
        number = int.from_bytes(crc16(method.encode()), "big") | 0x10000
        asked = {
            "mode": 4,
            "id": block.to_dict(),
            "account": _account_id(address),
            "method_id": number,
            "params": stack,
        }
        found = await self._ask(lambda client: client.liteserver_request("runSmcMethod", asked))
        return found["exit_code"], found.get("result", b"")

    async def config(self, block: BlockIdExt) -> tuple[int, Cell]:
        """The network's global id, and the configuration as far as prices go."""
        return await self._config(await self._connected(), block, _PRICES)

    async def _config(
        self, client: LiteClient, block: BlockIdExt, numbers: Sequence[int]
    ) -> tuple[int, Cell]:
        asked = {"mode": 0, "id": block.to_dict(), "param_list": list(numbers)}
        found = await self._query(
            client, lambda client: client.liteserver_request("getConfigParams", asked)
        )
        state = read_cell(found["config_proof"])
        if self._trust < 2:
            check_state(read_cell(found["state_proof"]), state, block.root_hash)
        return read_config(state)

    async def transactions(self, address: Account, lt: int, name: bytes) -> bytes:
        asked = {"count": PAGE, "account": _account_id(address), "lt": lt, "hash": name.hex()}
        found = await self._ask(lambda client: client.liteserver_request("getTransactions", asked))
        page = found["transactions"]
        return page if isinstance(page, bytes) else b""

    async def send(self, boc: bytes) -> None:
        await self._ask(lambda client: client.raw_send_message(boc))

    async def wait(self, seqno: int) -> None:
        limit = int(WAIT_TIME * 1_000)
        await self._ask(
            lambda client: client.wait_masterchain_seqno(seqno, limit, "getMasterchainInfo")
        )

    async def _ask(self, query: Callable[[LiteClient], Awaitable[T]]) -> T:
        return await self._query(await self._connected(), query)

    async def _query(self, client: LiteClient, query: Callable[[LiteClient], Awaitable[T]]) -> T:
        """An answer within `ANSWER_TIME`, or the connection is given up."""
        try:
            async with asyncio.timeout(ANSWER_TIME):
                return await query(client)
        except LiteServerError as error:
            raise _Refused(error.code, error.message) from error
        except TimeoutError as error:
            await self._fail(client)
            raise Timeout("a lite-server does not answer") from error
        except Exception as error:  # whatever pytoniq runs into: a lost link, a stranger's bytes
            if _alive(client) and not isinstance(error, (LiteClientError, EOFError, OSError)):
                raise RemoteError(f"no answer of a lite-server: {error!r}") from error
            await self._fail(client)
            raise Unreachable("the link to a lite-server broke") from error

    async def _connected(self) -> LiteClient:
        """A live connection; all who want one wait for the same attempt."""
        if self._client is not None and _alive(self._client):
            return self._client
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect())
        return await asyncio.shield(self._opening)

    async def _connect(self) -> LiteClient:
        server = self._server
        client = self._client = self._client or LiteClient(
            server.host, server.port, b64encode(server.key).decode(), trust_level=self._trust
        )
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await client.close()
                await client.connect()
        except Exception as error:  # whatever pytoniq runs into while it connects
            await self._fail(client)
            raise Unreachable(
                f"lite-server {server} cannot be reached, {type(error).__name__}"
            ) from error
        # It would ask for every block; and dies of a server's own time limit.
        client.updater.cancel()
        # Something to listen for: else pytoniq looks for queries every 20 ms before it reads.
        client.tasks[_STANDING] = asyncio.get_running_loop().create_future()
        try:
            await self._check_network(client)
        except BaseException:  # whatever it was: nothing is asked over this connection
            await self._fail(client)
            raise
        return client

    async def _check_network(self, client: LiteClient) -> None:
        """Raises `RemoteError` for a server of another chain."""
        network, _ = await self._config(client, await self._newest(client), _PRICES[:1])
        if network != self._network:
            raise RemoteError(
                f"lite-server {self._server} is of network {network}, not {self._network}"
            )

    async def _fail(self, client: LiteClient) -> None:
        self.failed_at = asyncio.get_running_loop().time()
        await client.close()


def _alive(client: LiteClient) -> bool:
    return client.inited and not client.listener.done()


def _account_id(address: Account) -> dict[str, int | str]:
    return {"workchain": 0, "id": address.hex()}
