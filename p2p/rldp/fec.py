"""RaptorQ (RFC 6330): a block of data as symbols of which any sufficient number gives it back.

The only importer of `raptorq`. It panics, with an exception that is no `Exception`, or ends the
process, on sizes that it does not expect, and takes symbols of the wrong length in silence:
everything is checked here before it is called. For blocks of which TON's symbols are not those of
the RFC `p2p.rldp.raptor` is asked instead.

Nothing tells junk from a symbol: a block that was decoded is what was sent only if its symbols
were. Who fetches from strangers checks a hash or a signature.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, ParamSpec, Protocol, TypeVar, final

import raptorq

from p2p.errors import LocalError
from p2p.rldp import raptor
from p2p.rldp.raptor import Block, code_of

SYMBOL_SIZE: Final = 768
"""bytes of a symbol, as everywhere in TON."""

MAX_SIZE: Final = 2_000_000
"""bytes of a block: a part of RLDP2. Beyond 10 MB the library would cut it in several."""

MAX_ATTEMPTS: Final = 8
"""failures to decode after which a block is given up: each costs up to 20 ms, and of honest symbols
one more than needed leaves one failure in 256, two more one in 65,536, and so on."""

FIRST_REPAIRS: Final = 16
"""repair symbols made at once: each later time it is twice as many as there are."""


def symbols_of(size: int) -> int:
    """Into how many symbols a block of `size` bytes is cut."""
    return -(-size // SYMBOL_SIZE)


def limit_of(size: int) -> int:
    """Numbers of symbols of such a block are below this: far above what an honest sender needs.

    A number with more than 24 bits cannot be told to the library.
    """
    return 16 * symbols_of(size) + 4_096


class _Encoder(Protocol):
    def get_encoded_packets(self, repairs: int) -> list[bytes]: ...


class _Decoder(Protocol):
    def decode(self, packet: bytes) -> bytes | None: ...


@final
class Encoder:
    """The symbols of a block: first its own bytes, padded with zeros, then repair symbols."""

    def __init__(self, data: bytes) -> None:
        """Raises `ValueError` for no byte, or more than 2,000,000."""
        _check(len(data))
        self.count = symbols_of(len(data))
        """symbols that are the block's own bytes"""
        self._data = data
        self._code = code_of(self.count)
        self._block: Block | None = None
        self._encoder: _Encoder | None = None
        self._repairs: list[bytes] = []

    def symbol(self, seqno: int) -> bytes:
        """The symbol of this number. Raises `ValueError` for one beyond `limit_of`."""
        if not 0 <= seqno < limit_of(len(self._data)):
            raise ValueError("no symbol has this number")
        if seqno < self.count:
            at = seqno * SYMBOL_SIZE
            return self._data[at : at + SYMBOL_SIZE].ljust(SYMBOL_SIZE, b"\0")

        if self._code.is_tons_own:
            return self._solved().symbol(seqno)
        repair = seqno - self.count
        if repair >= len(self._repairs):
            self._make(repair + 1)
        return self._repairs[repair][_ID_SIZE:]

    def _solved(self) -> Block:
        if self._block is None:
            symbols = {seqno: self.symbol(seqno) for seqno in range(self.count)}
            self._block = raptor.solve(self._code, symbols, SYMBOL_SIZE)
            assert self._block is not None, "source symbols always suffice"
        return self._block

    def _make(self, least: int) -> None:
        """The library gives all symbols from the first one each time it is asked."""
        if self._encoder is None:
            self._encoder = _guarded(raptorq.Encoder.with_defaults, self._data, SYMBOL_SIZE)
        number = max(least, FIRST_REPAIRS, self.count // 16, 2 * len(self._repairs))
        packets = _guarded(self._encoder.get_encoded_packets, number)
        self._repairs = packets[self.count :]


@final
class Decoder:
    """Gathers the symbols of a block of known size until it can be decoded."""

    def __init__(self, size: int) -> None:
        """Raises `ValueError` for no byte, or more than 2,000,000."""
        _check(size)
        self.count = symbols_of(size)
        """symbols without which there is no decoding"""
        self.symbols: dict[int, bytes] = {}
        """those that are here, by number"""
        self._size = size
        self._limit = limit_of(size)
        self._code = code_of(self.count)
        self._own = 0
        self._decoder: _Decoder | None = None
        self._fed = 0
        self._failures = 0

    @property
    def given_up(self) -> bool:
        """Whether what was sent are not the symbols of one block."""
        return self._failures >= MAX_ATTEMPTS

    def add(self, seqno: int, symbol: bytes) -> bool:
        """Take a symbol; False if it is here already, or none of such a block."""
        symbols = self.symbols
        if seqno in symbols or not 0 <= seqno < self._limit or len(symbol) != SYMBOL_SIZE:
            return False
        symbols[seqno] = symbol
        self._own += seqno < self.count
        return True

    def decode(self) -> bytes | None:
        """The block, if the symbols suffice; to be called after each that was added."""
        if self._own == self.count:
            return self._join(self.symbols)
        if len(self.symbols) < self.count or self.given_up:
            return None

        data = self._solve_tons() if self._code.is_tons_own else self._solve()
        if data is None:
            self._failures += 1
        return data

    def _join(self, symbols: Mapping[int, bytes]) -> bytes:
        return b"".join([symbols[seqno] for seqno in range(self.count)])[: self._size]

    def _solve_tons(self) -> bytes | None:
        block = raptor.solve(self._code, self.symbols, SYMBOL_SIZE)
        if block is None:
            return None
        lost = {n: block.symbol(n) for n in range(self.count) if n not in self.symbols}
        return self._join(self.symbols | lost)

    def _solve(self) -> bytes | None:
        try:
            data = _guarded(self._feed)
        except LocalError:
            self._failures = MAX_ATTEMPTS
            return None
        return data if data is not None and len(data) == self._size else None

    def _feed(self) -> bytes | None:
        """Give the library what it has not got yet: it tries once there are enough."""
        if self._decoder is None:
            self._decoder = raptorq.Decoder.with_defaults(self._size, SYMBOL_SIZE)
        decode, data = self._decoder.decode, None
        for seqno, symbol in islice(self.symbols.items(), self._fed, None):
            data = decode(seqno.to_bytes(_ID_SIZE, "big") + symbol)
        self._fed = len(self.symbols)
        return data


_ID_SIZE: Final = 4
"""bytes in front of a symbol: number of the block, always 0, and 24 bits of the symbol's number."""

P = ParamSpec("P")
T = TypeVar("T")


def _check(size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise ValueError("a block has 1 to 2,000,000 bytes")


def _guarded(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the library; a panic becomes a `LocalError`, which its callers expect."""
    try:
        return call(*args, **kwargs)
    except BaseException as error:  # a panic derives from it, and would end the process
        if type(error).__name__ != "PanicException":
            raise
        raise LocalError(f"raptorq panicked: {error}") from error
