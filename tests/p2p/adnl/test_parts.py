"""Messages cut into parts, and put together whatever order they come in."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.adnl.drops import Drop
from p2p.adnl.parts import MAX_PARTED, MAX_PARTS, PART, Assembly, split
from p2p.errors import AdnlError
from p2p.ton import AdnlMessagePart

MESSAGES = st.binary(min_size=1, max_size=MAX_PARTED)


def add(assembly, part):
    """The message, None, or why the part was refused."""
    try:
        return assembly.add(part)
    except AdnlError as error:
        return error.reason


@given(MESSAGES, st.randoms(use_true_random=False))
def test_parts_in_any_order_make_the_message(message, random):
    parts = split(message)
    random.shuffle(parts)
    assembly = Assembly()
    results = [add(assembly, part) for part in parts]
    assert results == [None] * (len(parts) - 1) + [message]
    assert len(assembly) == 0


@given(MESSAGES)
def test_parts_say_what_they_are_of(message):
    parts = split(message)
    assert [len(part.data) for part in parts[:-1]] == [PART] * (len(parts) - 1)
    assert {part.hash for part in parts} == {sha256(message).digest()}
    assert {part.total_size for part in parts} == {len(message)}


def test_a_repeated_part_is_refused_and_harmless():
    message = bytes(range(256)) * 8
    first, second = split(message)
    assembly = Assembly()
    assert add(assembly, first) is None
    assert add(assembly, first) is Drop.PART
    assert add(assembly, second) == message


def test_a_new_message_ends_one_that_lost_a_part():
    old, new = split(b"o" * 3_000), split(b"n" * 2_000)
    assembly = Assembly()
    assert add(assembly, old[0]) is None
    assert add(assembly, new[0]) is None
    assert add(assembly, old[2]) is Drop.PART
    assert add(assembly, new[1]) == b"n" * 2_000


PROPER = split(b"x" * 3_000)[1]


@pytest.mark.parametrize(
    "part",
    [
        replace(PROPER, total_size=0),
        replace(PROPER, total_size=-1),
        replace(PROPER, total_size=MAX_PARTED + 1),
        replace(PROPER, offset=-1),
        replace(PROPER, offset=3_000 - PART + 1),
        replace(PROPER, offset=2**31 - 1),
        replace(PROPER, data=b""),
    ],
)
def test_a_part_beyond_its_message_is_refused(part):
    assembly = Assembly()
    assert add(assembly, part) is Drop.PART
    assert len(assembly) == 0


def test_overlapping_parts_do_not_grow_the_buffer():
    assembly = Assembly()
    for offset in range(100):
        add(assembly, AdnlMessagePart(b"h" * 32, 100, offset, b"x" * (100 - offset)))
        assert len(assembly) <= 100


def test_a_message_that_is_not_its_hash_is_refused_and_forgotten():
    assembly = Assembly()
    first, second = split(b"x" * 2_000)
    assert add(assembly, first) is None
    assert add(assembly, replace(second, data=b"y" * 976)) is Drop.PART
    assert len(assembly) == 0
    assert [add(assembly, part) for part in (first, second)] == [None, b"x" * 2_000]


def test_tiny_parts_are_soon_refused():
    assembly, message = Assembly(), bytes(1_000)
    digest = sha256(message).digest()
    results = [add(assembly, AdnlMessagePart(digest, 1_000, at, b"\0")) for at in range(1_000)]
    assert results == [None] * MAX_PARTS + [Drop.PART] * (1_000 - MAX_PARTS)


@given(
    st.lists(
        st.builds(
            AdnlMessagePart,
            st.sampled_from([b"1" * 32, b"2" * 32, sha256(b"abcd").digest()]),
            st.integers(-1, 6),
            st.integers(-1, 6),
            st.sampled_from([b"", b"a", b"ab", b"cd", b"abcd"]),
        ),
        max_size=30,
    )
)
def test_no_parts_raise_anything_else_or_make_a_false_message(parts):
    assembly = Assembly()
    for part in parts:
        result = add(assembly, part)
        assert result in (None, Drop.PART, b"abcd")
        assert 0 <= len(assembly) <= 6
