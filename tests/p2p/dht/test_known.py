"""Records that are known: found by their bytes, checked once, and bounded."""

import pytest

from p2p import tl
from p2p.dht import node as nodes
from p2p.dht.known import Known
from p2p.errors import TlError
from p2p.identity import Identity
from p2p.ton import AdnlAddressList, AdnlAddressUdp, DhtNode, DhtNodes

NETWORK = 7


def record(number, version=1, network=NETWORK):
    addresses = AdnlAddressList((AdnlAddressUdp(0x2D000001 + number, 30_303),), 1, 1, 0, 0)
    return nodes.build(Identity(bytes([number]) * 32), addresses, version, network)


def known_of(*records, size=16):
    known = Known(NETWORK, private=False, size=size)
    for one in records:
        assert known.check(one) is not None
    return known


def answer(*records):
    return tl.pack(DhtNodes(tuple(records)), boxed=False)


def test_known_records_are_read_as_their_nodes_and_others_as_records():
    first, second, third = (record(number) for number in (1, 2, 3))
    known = known_of(first, third)
    buffer = b"head" + answer(first, second, third)
    found, end = known.read(buffer, 4)
    assert end == len(buffer)
    assert [one if isinstance(one, DhtNode) else one.record for one in found] == [
        first,
        second,
        third,
    ]
    assert [isinstance(one, DhtNode) for one in found] == [False, True, False]


def test_reading_with_and_without_what_is_known_comes_to_the_same():
    records = [record(number) for number in range(1, 9)]
    buffer = answer(*records)
    plain, end = Known(NETWORK, private=False).read(buffer, 0)
    quick, same = known_of(*records).read(buffer, 0)
    assert (
        [one.record for one in quick]
        == plain
        == list(tl.parse(DhtNodes, buffer, boxed=False).nodes)
    )
    assert end == same == len(buffer)


def test_record_that_differs_in_any_byte_is_not_taken_for_the_known_one():
    one = record(1)
    known, packed = known_of(one), answer(one)[4:]
    assert known.at(packed, 0).record == one
    for at in range(len(packed)):
        damaged = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        assert known.at(damaged, 0) is None
        assert known.at(packed[:at], 0) is None


@pytest.mark.parametrize("buffer", [b"", b"\1", b"\1\0\0\0", b"\xff\xff\xff\xff" + bytes(64)])
def test_what_ends_too_early_or_counts_too_much_is_refused(buffer):
    with pytest.raises(TlError):
        known_of(record(1)).read(buffer, 0)


def test_newer_record_of_a_key_takes_the_place_of_the_older():
    known = known_of(record(1, version=1), record(1, version=2))
    assert len(known) == 1
    assert known.at(answer(record(1, version=2)), 4).version == 2
    assert known.at(answer(record(1, version=1)), 4) is None


def test_bad_record_counts_for_nothing_and_is_not_remembered():
    good, known = record(1), Known(NETWORK, private=False)
    forged = DhtNode(good.id, good.addr_list, good.version + 1, good.signature)
    assert known.check(forged) is None
    assert known.check(record(2, network=8)) is None
    assert len(known) == 0


def test_oldest_is_forgotten():
    known = known_of(*(record(number) for number in range(1, 9)), size=3)
    assert len(known) == 3
    assert known.at(answer(record(1)), 4) is None
    assert known.at(answer(record(8)), 4) is not None
