"""The face: a lite-server of TON over a chain in this process, for wallets as they are.

It speaks ADNL over TCP on loopback, to whoever knows its public key, and answers as of the newest
block whatever block is asked about. What it says is as true as the chain behind it: clients that
check signatures of validators find none (see `blocks`). A client that breaks the protocol or stops
reading is disconnected; one that asks for too much at once waits.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, final

import trio
from pytoniq_core import Cell

from ledger.chain import blocks, lite_api, tcp
from ledger.chain.base import GetFailed, Head, NotAccepted, StackValue
from ledger.chain.boc import write_boc
from ledger.chain.stack import read_stack, write_stack
from ledger.lane import Account
from p2p.entropy import SystemEntropy
from p2p.errors import CodecError, RemoteError, Unreachable
from p2p.identity import Identity

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

LOOPBACK: Final = "127.0.0.1"

HELLO_TIME: Final = 10.0
"""seconds for a handshake."""

IDLE_TIME: Final = 60.0
"""seconds without a byte after which a client is gone; pytoniq pings every 3, tonutils every 5."""

SEND_TIME: Final = 10.0
"""seconds that a client may take to read an answer."""

MOST_CONNECTIONS: Final = 64
MOST_IN_FLIGHT: Final = 16
"""queries of one connection; the next one is started when one of them is answered."""

MOST_TRANSACTIONS: Final = 16
LONGEST_WAIT: Final = 30.0
"""seconds that a query may wait for a block."""

_CHUNK: Final = 65_536


class RawChain(Protocol):
    """A chain that shows its cells: what a lite-server needs beyond `base.Chain`."""

    @property
    def network(self) -> int:
        """As of `Chain`, like the next three."""

    async def head(self) -> Head: ...

    async def wait(self, seqno: int) -> Head: ...

    async def send(self, boc: bytes) -> bytes: ...

    async def run_get(
        self, address: Account, method: str | int, *args: StackValue
    ) -> tuple[StackValue, ...]:
        """As `Chain.run_get`; an integer is a method's id."""

    async def shard_account(self, address: Account) -> Cell | None:
        """The account's ShardAccount; None if there is no such account."""

    async def raw_transactions(
        self, address: Account, lt: int, limit: int
    ) -> Sequence[tuple[Head, Cell]]:
        """Transactions at `lt` and before, newest first, each with its block."""

    async def config(self) -> Cell:
        """The dictionary of the configuration."""


async def serve(
    chain: RawChain,
    key: Identity,
    port: int,
    *,
    task_status: "TaskStatus[int]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer lite-clients on a port of loopback until cancelled; 0 is any, the status says which.

    Raises `OSError` if the port is taken.
    """
    face = _Face(chain, key)
    listeners = await trio.open_tcp_listeners(port, host=LOOPBACK)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(face.connection, listeners)


@final
class _Face:
    """What connections share."""

    def __init__(self, chain: RawChain, key: Identity) -> None:
        self._answers = _Answers(chain)
        self._key = key
        self._open = 0

    async def connection(self, stream: trio.SocketStream) -> None:
        if self._open == MOST_CONNECTIONS:
            return await trio.aclose_forcefully(stream)
        self._open += 1
        try:
            async with stream:
                if session := await self._handshake(stream):
                    await _Connection(stream, session, self._answers).run()
        finally:
            self._open -= 1

    async def _handshake(self, stream: trio.SocketStream) -> tcp.Session | None:
        """None for a client that does not know our key, or is slow to say so."""
        hello = b""
        with trio.move_on_after(HELLO_TIME), suppress(RemoteError, trio.BrokenResourceError):
            while len(hello) < tcp.HELLO_SIZE:
                chunk = await stream.receive_some(tcp.HELLO_SIZE - len(hello))
                if not chunk:
                    return None
                hello += chunk
            return tcp.accept(self._key, hello, SystemEntropy())
        return None


@final
class _Connection:
    """One client after its handshake."""

    def __init__(
        self, stream: trio.SocketStream, session: tcp.Session, answers: "_Answers"
    ) -> None:
        self._stream = stream
        self._session = session
        self._answers = answers
        self._sending = trio.Lock()
        self._slots = trio.Semaphore(MOST_IN_FLIGHT)
        self._alive = trio.CancelScope()

    async def run(self) -> None:
        """Until the client leaves, or has to."""
        with self._alive:
            async with trio.open_nursery() as nursery:
                await self._send(b"")
                await self._read(nursery)
                nursery.cancel_scope.cancel()

    async def _read(self, nursery: trio.Nursery) -> None:
        with suppress(RemoteError, trio.BrokenResourceError):
            while chunk := await self._receive():
                for payload in self._session.feed(chunk):
                    await self._take(nursery, payload)

    async def _receive(self) -> bytes:
        chunk = b""
        with trio.move_on_after(IDLE_TIME):
            chunk = bytes(await self._stream.receive_some(_CHUNK))
        return chunk

    async def _take(self, nursery: trio.Nursery, payload: bytes) -> None:
        message = lite_api.read_payload(payload)
        if isinstance(message, lite_api.Ping):
            await self._send(message.pong())
        elif message is not None:
            await self._slots.acquire()
            nursery.start_soon(self._answer, message)

    async def _answer(self, asked: lite_api.Asked) -> None:
        try:
            await self._send(asked.answer(await self._answers.to(asked.body)))
        finally:
            self._slots.release()

    async def _send(self, payload: bytes) -> None:
        """Frame and send. A client that is gone or does not read ends its connection."""
        async with self._sending:  # frames leave in the order of their key stream
            with trio.move_on_after(SEND_TIME), suppress(trio.BrokenResourceError):
                await self._stream.send_all(self._session.frame(payload))
                return
            self._alive.cancel()


@final
class _Answers:
    """Queries to answers; what the chain refuses is an answer, too."""

    def __init__(self, chain: RawChain) -> None:
        self._chain = chain

    async def to(self, body: bytes) -> bytes:
        """The answer to a query, at most a mebibyte."""
        try:
            wait, question = lite_api.read_question(body)
            if wait is not None and not await self._reached(wait):
                return lite_api.error(lite_api.TIMED_OUT, "timeout")
            if question is None:
                return lite_api.error(lite_api.BAD_REQUEST, "not a query of this server")
            answer = await self._to(question, await self._chain.head())
        except CodecError as error:
            return lite_api.error(lite_api.BAD_REQUEST, str(error))
        except NotAccepted as error:
            return lite_api.error(0, _refusal(error))
        except Unreachable:
            return lite_api.error(lite_api.NOT_READY, "the chain does not answer")
        if len(answer) > tcp.LARGEST_FRAME - 256:
            return lite_api.error(lite_api.FAILED, "the answer is too large")
        return answer

    async def _reached(self, wait: lite_api.Wait) -> bool:
        with trio.move_on_after(min(max(wait.seconds, 0.0), LONGEST_WAIT)) as scope:
            await self._chain.wait(wait.seqno)
        return not scope.cancelled_caught

    async def _to(self, question: lite_api.Question, head: Head) -> bytes:
        block = blocks.masterchain_block(self._chain.network, head)
        match question:
            case lite_api.GetMasterchainInfo():
                return lite_api.masterchain_info(block)
            case lite_api.GetTime():
                return lite_api.current_time(head.time)
            case lite_api.GetVersion():
                return lite_api.version(head.time)
            case lite_api.GetAllShardsInfo():
                shards = blocks.shard_hashes(self._chain.network, head)
                return lite_api.all_shards(block, write_boc([shards]))
            case lite_api.GetAccountState():
                return await self._account(question, head, block)
            case lite_api.SendMessage():
                await self._chain.send(question.body)
                return lite_api.message_sent()
            case lite_api.RunMethod():
                return await self._method(question, head, block)
            case lite_api.GetTransactions():
                return await self._transactions(question)
            case lite_api.GetOneTransaction():
                return await self._transaction(question)
            case lite_api.GetConfig():
                config = await self._chain.config()
                proofs = blocks.config_proof(self._chain.network, head, config)
                return lite_api.config(block, *proofs)
            case lite_api.GetLibraries():
                return lite_api.no_libraries()
            case lite_api.LookupBlock():
                return self._block(question, head, block)

    async def _account(
        self, asked: lite_api.GetAccountState, head: Head, block: lite_api.BlockId
    ) -> bytes:
        network = self._chain.network
        entry = await self._entry(asked.workchain, asked.account)
        if entry is None:
            return lite_api.account_state(block, blocks.empty_block(network, head), b"", b"")
        shard, proof = blocks.account_proof(network, head, asked.account, entry)
        state = write_boc([entry[0]]) if entry[0].bits[0] else b""
        return lite_api.account_state(block, shard, proof, state)

    async def _entry(self, workchain: int, account: bytes) -> Cell | None:
        """That of an account which is gone names its last transaction, and is shown for that.

        TON itself forgets both, and then clients cannot read how an account ended.
        """
        if workchain != lite_api.BASECHAIN:
            return None
        return await self._chain.shard_account(Account(account))

    async def _method(
        self, asked: lite_api.RunMethod, head: Head, block: lite_api.BlockId
    ) -> bytes:
        args = read_stack(asked.params) if asked.params else ()
        exit_code, results = await self._run(asked, args)
        shard = blocks.empty_block(self._chain.network, head)
        return lite_api.method_result(asked.mode, block, shard, exit_code, write_stack(results))

    async def _run(
        self, asked: lite_api.RunMethod, args: tuple[StackValue, ...]
    ) -> tuple[int, tuple[StackValue, ...]]:
        try:
            account = Account(asked.account)
            return 0, await self._chain.run_get(account, asked.method, *args)
        except GetFailed as failed:
            return failed.exit_code, ()

    async def _transactions(self, asked: lite_api.GetTransactions) -> bytes:
        limit = min(max(asked.count, 0), MOST_TRANSACTIONS)
        found = await self._chain.raw_transactions(Account(asked.account), asked.lt, limit)
        if not found or found[0][1].hash != asked.hash:
            raise CodecError("no transaction of this time and hash")
        ids = [blocks.empty_block(self._chain.network, head) for head, _ in found]
        return lite_api.transactions(ids, write_boc([cell for _, cell in found]))

    async def _transaction(self, asked: lite_api.GetOneTransaction) -> bytes:
        found = await self._chain.raw_transactions(Account(asked.account), asked.lt, 1)
        cells = [cell for _, cell in found if blocks.logical_time(cell) == asked.lt]
        return lite_api.transaction(asked.block, write_boc(cells) if cells else b"")

    def _block(self, asked: lite_api.LookupBlock, head: Head, block: lite_api.BlockId) -> bytes:
        """The newest block alone is known."""
        if not asked.mode & 1 or asked.seqno != head.seqno:
            return lite_api.error(lite_api.NOT_READY, "block not found")
        proof = blocks.header_proof(self._chain.network, head, asked.workchain)
        if asked.workchain == lite_api.BASECHAIN:
            block = blocks.empty_block(self._chain.network, head)
        return lite_api.block_header(block, proof)


def _refusal(error: NotAccepted) -> str:
    """In the words of TON's lite-server, from which clients read the exit code."""
    code = "" if error.exit_code is None else f": exitcode={error.exit_code}"
    return f"cannot apply external message to current state : {error}{code}"
