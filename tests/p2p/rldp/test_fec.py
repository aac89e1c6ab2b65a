"""Symbols give the block back, and nothing that a peer sends reaches the library's panics."""

import os
import subprocess
import sys

import pytest
import raptorq
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.entropy import sample, seeded
from p2p.errors import LocalError
from p2p.rldp import fec
from p2p.rldp.fec import Decoder, Encoder, limit_of, symbols_of

SIZES = [1, 767, 768, 769, 9_984, 105_216, 1_999_999, 2_000_000]
TONS_OWN = [40_000, 300_080]
"""bytes of blocks of which TON's repair symbols are not those of the RFC"""


def block(size, seed=1):
    return seeded(seed).token(size)


def decoded(size, encoder, numbers):
    """What those symbols give, and how many of them it took."""
    decoder = Decoder(size)
    for taken, seqno in enumerate(numbers, 1):
        assert decoder.add(seqno, encoder.symbol(seqno))
        data = decoder.decode()
        if data is not None:
            return data, taken
    return None, len(numbers)


@pytest.mark.parametrize("size", [*SIZES, *TONS_OWN])
def test_first_symbols_are_the_block_itself(size):
    data, count = block(size), symbols_of(size)
    encoder = Encoder(data)
    assert encoder.count == count
    assert b"".join(map(encoder.symbol, range(count))) == data.ljust(768 * count, b"\0")
    assert decoded(size, encoder, range(count)) == (data, count)


@pytest.mark.parametrize("size", SIZES)
def test_symbols_are_those_of_the_library_in_whatever_order_they_are_asked_for(size):
    data, count = block(size), symbols_of(size)
    packets = raptorq.Encoder.with_defaults(data, 768).get_encoded_packets(50)
    encoder = Encoder(data)
    for seqno in [count + 40, 0, count - 1, *range(count, count + 50)]:
        assert packets[seqno] == seqno.to_bytes(4, "big") + encoder.symbol(seqno)


@pytest.mark.parametrize("count", [1, 13, 53, 137, 391, 1_777])
@pytest.mark.parametrize("keep", [0.0, 0.9])
def test_any_symbols_will_do_if_there_are_two_more_than_needed(count, keep):
    size = count * 768
    encoder = Encoder(block(size))
    own = sample(seeded(2), range(count), int(keep * count))
    repairs = sample(seeded(3), range(count, 3 * count + 9), count - len(own) + 2)
    data, taken = decoded(size, encoder, [*own, *repairs])
    assert data == block(size)
    assert count <= taken <= count + 2


@pytest.mark.parametrize("size", TONS_OWN)
def test_repair_symbols_that_are_tons_own_are_not_the_librarys(size):
    data, count = block(size), symbols_of(size)
    packets = raptorq.Encoder.with_defaults(data, 768).get_encoded_packets(20)
    encoder = Encoder(data)
    for seqno in range(count, count + 20):
        assert packets[seqno] != seqno.to_bytes(4, "big") + encoder.symbol(seqno)


@settings(max_examples=60)
@given(st.integers(1, 60_000), st.integers(0, 2**32), st.data())
def test_any_block_comes_back_from_any_symbols(size, seed, data):
    count = symbols_of(size)
    numbers = data.draw(
        st.lists(st.integers(0, limit_of(size) - 1), min_size=count, unique=True, max_size=count)
    )
    encoder = Encoder(block(size, seed))
    got, _ = decoded(size, encoder, [*numbers, *(n for n in range(count + 9) if n not in numbers)])
    assert got == block(size, seed)


@pytest.mark.parametrize("size", [0, 2_000_001, 2**40, -1])
def test_block_of_a_size_that_none_has_is_refused(size):
    with pytest.raises(ValueError, match="block"):
        Decoder(size)
    with pytest.raises(ValueError, match="block"):
        Encoder(bytes(min(max(size, 0), 2_000_001)))


@pytest.mark.parametrize("seqno", [-1, limit_of(1_000), 2**24, 2**40])
def test_number_that_no_symbol_has_is_refused(seqno):
    assert not Decoder(1_000).add(seqno, bytes(768))
    with pytest.raises(ValueError, match="number"):
        Encoder(bytes(1_000)).symbol(seqno)


@pytest.mark.parametrize("length", [0, 1, 767, 769, 4_096])
def test_symbol_of_the_wrong_length_is_refused(length):
    decoder = Decoder(2_000)
    assert not decoder.add(0, bytes(length))
    assert decoder.symbols == {}


def test_symbol_counts_once():
    decoder = Decoder(1_000)
    assert decoder.add(1, bytes(768))
    assert not decoder.add(1, b"x" * 768)
    assert decoder.decode() is None


def test_symbols_that_never_decode_are_given_up(monkeypatch):
    class Deaf:
        fed = 0

        def decode(self, packet):
            Deaf.fed += 1

    monkeypatch.setattr(fec.raptorq, "Decoder", Stub(Deaf))
    decoder = Decoder(2_000)
    for seqno in range(5, 40):
        decoder.add(seqno, bytes(768))
        assert decoder.decode() is None
    assert decoder.given_up
    assert Deaf.fed == 3 + 7


def test_panic_of_the_library_ends_a_block_and_not_the_node(monkeypatch):
    monkeypatch.setattr(fec.raptorq, "Decoder", Stub(lambda: raptorq.Encoder.with_defaults(b"", 7)))
    decoder = Decoder(1_000)
    decoder.add(2, bytes(768))
    decoder.add(3, bytes(768))
    assert decoder.decode() is None
    assert decoder.given_up


class Stub:
    def __init__(self, make):
        self.make = make

    def with_defaults(self, size, symbol):
        return self.make()


def test_interrupt_is_no_panic():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fec._guarded(interrupt)
    with pytest.raises(LocalError, match="raptorq panicked"):
        fec._guarded(raptorq.Encoder.with_defaults, b"", 768)


# --- what the door walls off: an upgrade that mends or worsens it is noticed ---


@pytest.mark.parametrize(
    "call",
    [
        lambda: raptorq.Encoder.with_defaults(b"", 768),
        lambda: raptorq.Decoder.with_defaults(0, 768),
        lambda: raptorq.Decoder.with_defaults(100, 768).decode(b""),
        lambda: raptorq.Decoder.with_defaults(100, 768).decode(bytes(4) + bytes(5)),
        lambda: raptorq.Decoder.with_defaults(100, 768).decode(b"\1\0\0\0" + bytes(768)),
    ],
    ids=["no data", "size 0", "no packet", "short symbol", "second block"],
)
def test_library_panics_with_what_is_no_exception(call):
    caught = None
    try:
        call()
    except Exception as error:
        pytest.fail(f"{error!r} is an exception like others")
    except BaseException as error:
        caught = error
    assert type(caught).__name__ == "PanicException"


def test_library_takes_a_symbol_of_the_wrong_length():
    assert raptorq.Decoder.with_defaults(2_000, 768).decode(bytes(4) + bytes(999)) is None


def test_library_ends_the_process_on_a_size_beyond_reason():
    code = """
import resource, raptorq
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    raptorq.Decoder.with_defaults(2**40, 768)
except BaseException:
    pass
"""
    quiet = os.environ | {"RUST_BACKTRACE": "0"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=quiet)
    assert ended.returncode != 0
