"""Frames, cells and their layers: sizes, round trips, and what dies where."""

from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.cell import (
    BODY_SIZE,
    CELL_SIZE,
    FAIL_MAGIC,
    FRAME_SIZE,
    MAX_DATA,
    MORE,
    Cell,
    Code,
    Command,
    FailCode,
    Failure,
    Frame,
    Hop,
    Info,
    Kind,
    Layers,
    Status,
    body_size,
    create_size,
    handshake_frames,
    reply_size,
)
from p2p.onion.noise import Split

U8, U16, U32 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
HOPS = st.integers(1, 4)


def circuit(hops, seed=1):
    entropy = seeded(seed)
    keys = [
        Split(forward=entropy.token(32), backward=entropy.token(32), exporter=entropy.token(32))
        for _ in range(hops)
    ]
    return Layers(keys), [Hop(split, depth) for depth, split in enumerate(keys, 1)]


def upstream(layers, path, cell):
    """The bodies on each link from the client on, then the endpoint's text."""
    bodies = [layers.seal(cell.pack(layers.hops))]
    for hop in path:
        bodies.append(hop.forward(bodies[-1]))
    return bodies


def downstream(path, text):
    """The bodies on each link from the endpoint on."""
    bodies = []
    for hop in reversed(path):
        text = hop.backward(text)
        bodies.append(text)
    return bodies


def word(text):
    return Cell(1, Kind.DATA, 0, 0, text)


# --- sizes ---


def test_sizes_are_the_ones_of_the_protocol():
    assert [create_size(d) for d in (1, 2, 3, 4)] == [2384, 2240, 2096, 1952]
    assert [reply_size(d) for d in (1, 2, 3, 4)] == [2384, 2320, 2256, 2192]
    assert [body_size(d) for d in (1, 2, 3, 4, 5)] == [1192, 1176, 1160, 1144, 1128]
    assert (CELL_SIZE, MAX_DATA) == (1128, 1116)


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_every_frame_of_a_circuit_is_1200_bytes(hops):
    layers, path = circuit(hops)
    bodies = upstream(layers, path, word(b"x"))[:-1] + downstream(path, word(b"").pack(hops))
    assert [len(body) for body in bodies[:hops]] == [body_size(d + 1) for d in range(hops)]
    assert [len(body) for body in bodies[hops:]] == [body_size(d) for d in range(hops, 0, -1)]
    for body in bodies:
        assert len(Frame(7, Command.CELL, 0, body).pack(seeded(1))) == FRAME_SIZE


@pytest.mark.parametrize("size", [2384, 2240, 2192, 1952])
def test_a_handshake_is_two_frames(size):
    message = seeded(1).token(size)
    first, second = handshake_frames(9, Command.CREATE, message)
    assert (first.flags, second.flags) == (MORE, 0)
    assert len(first.body) == BODY_SIZE
    assert first.body + second.body == message
    assert {len(frame.pack(seeded(1))) for frame in (first, second)} == {FRAME_SIZE}


# --- round trips ---


@given(U32, st.sampled_from(Command), U8, st.binary(max_size=BODY_SIZE))
def test_frame_comes_back(number, command, flags, body):
    frame = Frame(number, command, flags, body)
    assert Frame.unpack(frame.pack(seeded(1))) == frame


def test_filler_of_a_frame_is_random():
    frame = Frame(0, Command.PADDING, 0, b"")
    entropy = seeded(1)
    first, second = frame.pack(entropy), frame.pack(entropy)
    assert first[:8] == second[:8] == bytes(8)
    assert first != second


@given(st.one_of(st.none(), st.binary(min_size=32, max_size=32)), U32, U64)
def test_info_comes_back(following, issued, puzzle):
    info = Info(next=following, issued=issued, puzzle=puzzle)
    assert Info.unpack(info.pack()) == info


@given(st.sampled_from(Code), U8, U32)
def test_status_comes_back(code, detail, unix):
    status = Status(code=code, detail=detail, unix=unix)
    assert Status.unpack(status.pack()) == status


@st.composite
def cells(draw):
    kind = draw(st.sampled_from(Kind))
    low, high = {Kind.DUMMY: (0, 0), Kind.RESET: (1, 1)}.get(kind, (0, MAX_DATA))
    data = draw(st.binary(min_size=low, max_size=high))
    return Cell(draw(U16), kind, draw(U8), draw(U32), data)


@given(cells(), HOPS)
def test_cell_comes_back(cell, hops):
    text = cell.pack(hops)
    assert len(text) == body_size(hops + 1)
    assert Cell.unpack(text) == cell


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), cells()), max_size=20), HOPS)
def test_cells_cross_a_circuit_both_ways(moves, hops):
    layers, path = circuit(hops)
    for forward, cell in moves:
        if forward:
            assert Cell.unpack(upstream(layers, path, cell)[-1]) == cell
        else:
            assert Cell.unpack(layers.open(downstream(path, cell.pack(hops))[-1])) == cell


@pytest.mark.parametrize("hops", [1, 4])
def test_cells_cross_the_change_of_keys(hops):
    layers, path = circuit(hops)
    for number in range(2100):
        cell = word(number.to_bytes(4, "little"))
        assert Cell.unpack(upstream(layers, path, cell)[-1]) == cell
        assert Cell.unpack(layers.open(downstream(path, cell.pack(hops))[-1])) == cell


# --- what no honest side writes ---


@given(st.binary(max_size=1300))
def test_any_bytes_into_a_parser_raise_only_our_error(data):
    for parse in (Frame.unpack, Info.unpack, Status.unpack, Cell.unpack):
        with suppress(OnionError):
            parse(data)


@given(st.binary(min_size=FRAME_SIZE, max_size=FRAME_SIZE))
def test_any_frame_is_read_or_refused(data):
    try:
        frame = Frame.unpack(data)
    except OnionError:
        return
    assert frame.pack(seeded(1))[: 8 + len(frame.body)] == data[: 8 + len(frame.body)]


@given(st.binary(max_size=200).map(lambda head: head.ljust(CELL_SIZE, b"\0")))
def test_any_cell_is_read_or_refused(text):
    try:
        cell = Cell.unpack(text)
    except OnionError:
        return
    assert cell.pack(4) == text


@given(st.binary(min_size=96, max_size=96), st.binary(min_size=16, max_size=16))
def test_any_info_and_status_is_read_or_refused(info, status):
    for parse, data in ((Info.unpack, info), (Status.unpack, status)):
        with suppress(OnionError):
            assert parse(data).pack() == data


@given(st.integers(0, 95), st.integers(1, 255))
def test_a_reserved_byte_of_info_must_be_zero(position, value):
    assume((position, value) != (36, 1))  # the flag that says endpoint
    data = bytearray(Info(next=None, issued=60).pack())
    data[position] ^= value
    spoken = range(32, 36), range(40, 48)
    if any(position in field for field in spoken):
        assert Info.unpack(bytes(data)).next is None
    else:
        with pytest.raises(OnionError):
            Info.unpack(bytes(data))


BAD_CELLS = {
    "unknown kind": (0, Kind.DATA, 2, b"\x06"),
    "n over 1116": (0, Kind.DATA, 8, (1117).to_bytes(2, "little")),
    "reserved field": (0, Kind.DATA, 10, b"\x01"),
    "filler": (3, Kind.DATA, CELL_SIZE - 1, b"\x01"),
    "dummy with data": (1, Kind.DATA, 2, bytes([Kind.DUMMY])),
    "reset without code": (0, Kind.DATA, 2, bytes([Kind.RESET])),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_cell_is_refused(name):
    size, kind, at, replaced = BAD_CELLS[name]
    text = bytearray(Cell(1, kind, 0, 0, b"x" * size).pack(4))
    text[at : at + len(replaced)] = replaced
    with pytest.raises(OnionError):
        Cell.unpack(bytes(text))


def test_bytes_behind_the_cell_do_not_count():
    cell = word(b"answer")
    assert Cell.unpack(cell.pack(1)[:CELL_SIZE] + b"\xff" * 48) == cell


def test_text_of_a_cell_is_not_shown():
    assert "secret" not in repr(word(b"secret"))


def test_more_data_than_a_cell_holds_is_our_own_bug():
    with pytest.raises(ValueError, match="more data"):
        word(b"x" * (MAX_DATA + 1)).pack(4)


# --- tagging, replay, reordering, loss: dead at the next hop ---


def regions(size):
    """A bit of the first byte, the second, the middle, the last byte of text and of the tag."""
    return [0, 9, size // 2 * 8 + 3, (size - 17) * 8, (size - 16) * 8 + 7, size * 8 - 1]


def flip(body, bit):
    damaged = bytearray(body)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
@pytest.mark.parametrize("region", range(6))
def test_forward_tampering_dies_at_the_next_hop(hops, region):
    for link in range(hops):
        layers, path = circuit(hops)
        body = upstream(layers, path[:link], word(b"prompt"))[-1]
        with pytest.raises(OnionError):
            path[link].forward(flip(body, regions(len(body))[region]))


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
@pytest.mark.parametrize("region", range(6))
def test_backward_tampering_dies_at_the_client(hops, region):
    for link in range(hops):
        layers, path = circuit(hops)
        text = word(b"answer").pack(hops)
        for depth in reversed(range(hops)):
            text = path[depth].backward(text)
            if depth == link:
                text = flip(text, regions(len(text))[region])
        with pytest.raises(OnionError):
            layers.open(text)


@given(st.integers(0, 3), st.permutations(range(4)))
def test_reordered_replayed_or_lost_cells_die_at_the_next_hop(link, order):
    layers, path = circuit(4)
    bodies = [upstream(layers, path[:link], word(bytes([i])))[-1] for i in range(4)]
    expected = 0
    for i in [*order, order[0]]:
        if i == expected:
            path[link].forward(bodies[i])
            expected += 1
        else:
            with pytest.raises(OnionError):
                path[link].forward(bodies[i])
            return


@given(st.binary(max_size=BODY_SIZE + 8), st.integers(0, 3))
def test_any_body_at_a_hop_raises_only_our_error(data, depth):
    layers, path = circuit(4)
    for body in (data, data.ljust(body_size(depth + 1), b"\0")[: body_size(depth + 1)]):
        with pytest.raises(OnionError):
            path[depth].forward(body)
        with pytest.raises(OnionError):
            layers.open(body)
        with pytest.raises(OnionError):
            layers.open_fail(body)


@pytest.mark.parametrize("size", [0, 1128, 1159, 1161, 1192])
def test_backward_body_of_a_wrong_size_is_refused(size):
    _, path = circuit(4)
    with pytest.raises(OnionError):
        path[1].backward(bytes(size))


# --- FAIL ---


@pytest.mark.parametrize("hops", [2, 3, 4])
@pytest.mark.parametrize("code", FailCode)
def test_fail_names_its_relay_and_reason_after_cells(hops, code):
    for failing in range(1, hops):
        layers, path = circuit(hops)
        for _ in range(3):
            layers.open(downstream(path, word(b"answer").pack(hops))[-1])
        body = path[failing - 1].fail(code)
        for hop in reversed(path[: failing - 1]):
            body = hop.backward(body)
        assert layers.open_fail(body) == Failure(failing, code)


def test_cell_cannot_be_passed_off_as_fail():
    """Not even an endpoint that writes the magic into its own text."""
    layers, path = circuit(3)
    text = (FAIL_MAGIC + bytes([FailCode.LIMITS])).ljust(body_size(4), b"\0")
    with pytest.raises(OnionError):
        layers.open_fail(downstream(path, text)[-1])


def test_fail_cannot_be_passed_off_as_cell():
    layers, path = circuit(3)
    with pytest.raises(OnionError):
        layers.open(path[0].backward(path[1].fail(FailCode.LIMITS)))


@pytest.mark.parametrize("text", [bytes([0]), bytes([6]), b"\x01\x01"])
def test_fail_of_unknown_code_or_filler_is_refused(text):
    layers, path = circuit(2)
    body = path[0].backward((FAIL_MAGIC + text).ljust(body_size(2), b"\0"))
    with pytest.raises(OnionError):
        layers.open_fail(body)
