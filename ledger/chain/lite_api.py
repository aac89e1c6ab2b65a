"""TON's lite-server protocol in TL: the queries a server reads, the answers it writes.

Only what the face answers is here; any other query is an error 400 to the client. Integers are
little-endian, 256-bit values stand as they are, byte strings carry their length and are padded
to four bytes. Source: ton-blockchain/ton, tl/generate/scheme/lite_api.tl and ton_api.tl.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from p2p.errors import CodecError

_T = TypeVar("_T")

MASTERCHAIN: Final = -1
BASECHAIN: Final = 0
WHOLE_SHARD: Final = -(1 << 63)
"""The shard that is all of its workchain."""

NOT_READY: Final = 651
TIMED_OUT: Final = 652
"""Error codes of lite-servers: `notready` and `timeout` (ton/common/errorcode.h)."""
BAD_REQUEST: Final = -400
FAILED: Final = -500

MAX_QUERY: Final = 131_072
"""bytes: an external takes 65,535, everything else far less."""

MOST_LIBRARIES: Final = 16
MOST_PARAMS: Final = 256

_PING: Final = bytes.fromhex("9a2b084d")
_PONG: Final = bytes.fromhex("03fb69dc")
_QUERY: Final = bytes.fromhex("7af98bb4")
_ANSWER: Final = bytes.fromhex("1684ac0f")
_LITE_QUERY: Final = bytes.fromhex("df068c79")
_WAIT: Final = bytes.fromhex("92b8eaba")


@dataclass(frozen=True, slots=True)
class BlockId:
    """tonNode.blockIdExt."""

    workchain: int
    shard: int
    seqno: int
    root_hash: bytes
    file_hash: bytes

    def pack(self) -> bytes:
        """80 bytes."""
        head = struct.pack("<iqi", self.workchain, self.shard, self.seqno)
        return head + self.root_hash + self.file_hash


@dataclass(frozen=True, slots=True)
class Ping:
    """tcp.ping: answered in kind, outside of any query."""

    random: bytes

    def pong(self) -> bytes:
        return _PONG + self.random


@dataclass(frozen=True, slots=True)
class Asked:
    """adnl.message.query that holds a liteServer.query."""

    number: bytes
    body: bytes

    def answer(self, answer: bytes) -> bytes:
        """adnl.message.answer."""
        return _ANSWER + self.number + blob(answer)


@dataclass(frozen=True, slots=True)
class GetMasterchainInfo:
    """The newest block."""


@dataclass(frozen=True, slots=True)
class GetTime:
    """Unix seconds of the chain."""


@dataclass(frozen=True, slots=True)
class GetVersion:
    """What the server can."""


@dataclass(frozen=True, slots=True)
class GetAllShardsInfo:
    """The newest block of each shard, as of a masterchain block."""

    block: BlockId


@dataclass(frozen=True, slots=True)
class GetAccountState:
    """An account, with a proof."""

    block: BlockId
    workchain: int
    account: bytes


@dataclass(frozen=True, slots=True)
class SendMessage:
    """An external message for the chain."""

    body: bytes


@dataclass(frozen=True, slots=True)
class RunMethod:
    """A get-method; `params` is the BoC of a stack."""

    mode: int
    block: BlockId
    workchain: int
    account: bytes
    method: int
    params: bytes


@dataclass(frozen=True, slots=True)
class GetTransactions:
    """`count` transactions of an account, newest first, beginning with the one named."""

    count: int
    workchain: int
    account: bytes
    lt: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class GetOneTransaction:
    """The transaction of an account at a logical time."""

    block: BlockId
    workchain: int
    account: bytes
    lt: int


@dataclass(frozen=True, slots=True)
class GetConfig:
    """All of the chain's configuration; `params` are those asked for, empty for all."""

    mode: int
    block: BlockId
    params: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GetLibraries:
    """Cells that code may refer to by hash."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LookupBlock:
    """A block by number, logical time or time."""

    mode: int
    workchain: int
    shard: int
    seqno: int
    lt: int | None
    utime: int | None


Question = (
    GetMasterchainInfo
    | GetTime
    | GetVersion
    | GetAllShardsInfo
    | GetAccountState
    | SendMessage
    | RunMethod
    | GetTransactions
    | GetOneTransaction
    | GetConfig
    | GetLibraries
    | LookupBlock
)


@dataclass(frozen=True, slots=True)
class Wait:
    """waitMasterchainSeqno: a prefix; the query that follows is answered at or after the block."""

    seqno: int
    seconds: float


def read_payload(payload: bytes) -> Ping | Asked | None:
    """What a frame carries; None for the empty frame. Raises `CodecError`."""
    if not payload:
        return None
    if len(payload) > MAX_QUERY:
        raise CodecError("a query is too long")
    reader = _Reader(payload)
    kind = reader.take(4)
    if kind == _PING:
        return reader.done(Ping(reader.take(8)))
    if kind != _QUERY:
        raise CodecError("neither a ping nor a query")
    number, inner = reader.take(32), _Reader(reader.blob())
    reader.done(None)
    if inner.take(4) != _LITE_QUERY:
        raise CodecError("no query to a lite-server")
    return inner.done(Asked(number, inner.blob()))


def read_question(body: bytes) -> tuple[Wait | None, Question | None]:
    """A query and what it waits for first. None instead of a query that the face does not know.

    Raises `CodecError` for one that breaks its schema.
    """
    wait = None
    if body[:4] == _WAIT:
        reader = _Reader(body[4:])
        wait = Wait(reader.i32(), reader.i32() * 0.001)
        body = body[12:]
    read = _READERS.get(body[:4])
    if read is None:
        return wait, None
    reader = _Reader(body[4:])
    return wait, reader.done(read(reader))


def masterchain_info(last: BlockId) -> bytes:
    """liteServer.masterchainInfo; hashes of the zero state are zero."""
    zero = bytes(32)
    init = struct.pack("<i", MASTERCHAIN) + zero + zero
    return bytes.fromhex("81288385") + last.pack() + zero + init


def all_shards(block: BlockId, data: bytes) -> bytes:
    """liteServer.allShardsInfo without a proof."""
    return bytes.fromhex("2de78f09") + block.pack() + blob(b"") + blob(data)


def account_state(block: BlockId, shard: BlockId, proof: bytes, state: bytes) -> bytes:
    """liteServer.accountState without a proof that the shard's block is the masterchain's."""
    parts = (blob(b""), blob(proof), blob(state))
    return bytes.fromhex("51c77970") + block.pack() + shard.pack() + b"".join(parts)


def message_sent() -> bytes:
    """liteServer.sendMsgStatus 1."""
    return bytes.fromhex("97e55039") + _i32(1)


def method_result(mode: int, block: BlockId, shard: BlockId, exit_code: int, stack: bytes) -> bytes:
    """liteServer.runMethodResult; of what `mode` may ask for, the stack alone is given (bit 2)."""
    given = mode & 4
    head = bytes.fromhex("6b619aa3") + _i32(given) + block.pack() + shard.pack()
    return head + _i32(exit_code) + (blob(stack) if given else b"")


def transactions(blocks: Sequence[BlockId], boc: bytes) -> bytes:
    """liteServer.transactionList."""
    ids = b"".join(block.pack() for block in blocks)
    return bytes.fromhex("0bc6266f") + _i32(len(blocks)) + ids + blob(boc)


def transaction(block: BlockId, boc: bytes) -> bytes:
    """liteServer.transactionInfo without a proof; `boc` is empty if there is none."""
    return bytes.fromhex("47edde0e") + block.pack() + blob(b"") + blob(boc)


def current_time(now: int) -> bytes:
    """liteServer.currentTime."""
    return bytes.fromhex("0d0053e9") + _i32(now)


def version(now: int) -> bytes:
    """liteServer.version 1.1 with no capabilities."""
    return bytes.fromhex("e591045a") + struct.pack("<iiqi", 0, 0x101, 0, now)


def config(block: BlockId, state_proof: bytes, config_proof: bytes) -> bytes:
    """liteServer.configInfo."""
    head = bytes.fromhex("2f277bae") + _i32(0) + block.pack()
    return head + blob(state_proof) + blob(config_proof)


def no_libraries() -> bytes:
    """liteServer.libraryResult of none."""
    return bytes.fromhex("6bb97a11") + _i32(0)


def block_header(block: BlockId, proof: bytes) -> bytes:
    """liteServer.blockHeader."""
    return bytes.fromhex("19822d75") + block.pack() + _i32(0) + blob(proof)


def error(code: int, message: str) -> bytes:
    """liteServer.error."""
    return bytes.fromhex("48e1a9bb") + _i32(code) + blob(message.encode())


def blob(data: bytes) -> bytes:
    """A TL byte string."""
    head = bytes([len(data)]) if len(data) < 254 else b"\xfe" + len(data).to_bytes(3, "little")
    return head + data + bytes(-(len(head) + len(data)) % 4)


def _i32(value: int) -> bytes:
    return struct.pack("<i", value)


@final
class _Reader:
    """Walks over the bytes of one object; every step raises `CodecError` beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise CodecError("a query is cut short")
        self._at += size
        return taken

    def done(self, read: _T) -> _T:
        if self._at != len(self._data):
            raise CodecError("bytes after the end of a query")
        return read

    def i32(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def blob(self) -> bytes:
        size, head = self.take(1)[0], 1
        if size == 255:
            raise CodecError("no length of a byte string")
        if size == 254:
            size, head = int.from_bytes(self.take(3), "little"), 4
        data = self.take(size)
        self.take(-(head + size) % 4)
        return data

    def block(self) -> BlockId:
        return BlockId(self.i32(), self.i64(), self.i32(), self.take(32), self.take(32))

    def many(self, most: int, one: Callable[[], _T]) -> tuple[_T, ...]:
        count = self.i32()
        if not 0 <= count <= most:
            raise CodecError("too many in a query")
        return tuple(one() for _ in range(count))

    def account(self) -> tuple[int, bytes]:
        return self.i32(), self.take(32)


def _lookup_block(reader: _Reader) -> LookupBlock:
    mode = reader.i32()
    workchain, shard, seqno = reader.i32(), reader.i64(), reader.i32()
    lt = reader.i64() if mode & 2 else None
    utime = reader.i32() if mode & 4 else None
    return LookupBlock(mode, workchain, shard, seqno, lt, utime)


def _get_config(reader: _Reader) -> GetConfig:
    return GetConfig(reader.i32(), reader.block(), ())


def _get_config_params(reader: _Reader) -> GetConfig:
    return GetConfig(reader.i32(), reader.block(), reader.many(MOST_PARAMS, reader.i32))


def _get_libraries(reader: _Reader) -> GetLibraries:
    return GetLibraries(reader.many(MOST_LIBRARIES, lambda: reader.take(32)))


_READERS: Final[dict[bytes, Callable[[_Reader], Question]]] = {
    bytes.fromhex("2ee6b589"): lambda _: GetMasterchainInfo(),
    bytes.fromhex("345aad16"): lambda _: GetTime(),
    bytes.fromhex("0b942b23"): lambda _: GetVersion(),
    bytes.fromhex("6bfdd374"): lambda r: GetAllShardsInfo(r.block()),
    bytes.fromhex("250e896b"): lambda r: GetAccountState(r.block(), *r.account()),
    bytes.fromhex("82d40a69"): lambda r: SendMessage(r.blob()),
    bytes.fromhex("d25dc65c"): lambda r: RunMethod(
        r.i32(), r.block(), *r.account(), r.i64(), r.blob()
    ),
    bytes.fromhex("a1e7401c"): lambda r: GetTransactions(
        r.i32(), *r.account(), r.i64(), r.take(32)
    ),
    bytes.fromhex("ea240fd4"): lambda r: GetOneTransaction(r.block(), *r.account(), r.i64()),
    bytes.fromhex("b7261b91"): _get_config,
    bytes.fromhex("191c112a"): _get_config_params,
    bytes.fromhex("62b622d1"): _get_libraries,
    bytes.fromhex("1ef7c8fa"): _lookup_block,
}
