"""Pieces on their way out: nothing lost, nothing longer than a cell, no broken character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import protocol
from inference.engine.base import Channel, Piece
from inference.pieces import CELL, Outbox
from p2p import codec

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


def told(draw, width):
    """The texts of a token and its alternatives, the longest of which are cut."""
    return (b"x" * draw(st.sampled_from([0, 3, 90])), *(b"alternative",) * width)


@st.composite
def answers(draw):
    """Consecutive pieces of one answer; logprobs on all of them or on none."""
    logged, width = draw(st.booleans()), draw(st.sampled_from([0, 1, 20]))
    pieces, first = [], 0
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.sampled_from([0, 1, 2, 40, 300]))
        text = draw(texts) * draw(st.sampled_from([1, 1, 9]))
        if count or text:
            pieces.append(
                Piece(
                    first=first,
                    ids=tuple(range(first, first + count)),
                    text=text,
                    channel=draw(st.sampled_from(Channel)),
                    logprobs=(-1.5,) * count if logged else (),
                    top=(tuple((i, -0.5) for i in range(width)),) * count if logged else (),
                    texts=tuple(told(draw, width) for _ in range(count)) if logged else (),
                )
            )
            first += count
    return pieces


def drained(outbox):
    while len(outbox):
        yield outbox.take()


@given(answers())
def test_all_of_an_answer_leaves_in_chunks_of_one_cell(pieces):
    outbox = Outbox()
    for piece in pieces:
        outbox.put(piece)
    chunks = list(drained(outbox))
    ids = [id_ for chunk in chunks for id_ in chunk.ids]
    assert ids == [id_ for piece in pieces for id_ in piece.ids]
    for channel in Channel:
        sent = "".join(chunk.text for chunk in chunks if chunk.channel == channel)
        assert sent == "".join(piece.text for piece in pieces if piece.channel is channel)
    expected = 0
    for chunk in chunks:
        assert len(codec.frame(chunk.encode())) <= CELL
        assert protocol.read_worker(chunk.encode()) == chunk
        assert chunk.first == expected
        assert chunk.ids or chunk.text
        expected += len(chunk.ids)


def test_pieces_that_wait_leave_together():
    outbox = Outbox()
    for first in range(8):
        outbox.put(Piece(first=first, ids=(first,), text=str(first)))
    (chunk,) = drained(outbox)
    assert (chunk.text, chunk.ids) == ("01234567", tuple(range(8)))


def test_channels_stay_apart():
    outbox = Outbox()
    outbox.put(Piece(first=0, ids=(1,), text="a", channel=Channel.REASONING))
    outbox.put(Piece(first=1, ids=(2,), text="b"))
    assert [chunk.channel for chunk in drained(outbox)] == [1, 0]


@pytest.mark.parametrize(
    ("ids", "text", "too_full", "half_empty"),
    [
        (256, "", False, False),
        (257, "", True, False),
        (128, "", False, True),
        (0, "x" * 8_193, True, False),
        (0, "é" * 2_048, False, True),
    ],
)
def test_when_the_engine_pauses_and_goes_on(ids, text, too_full, half_empty):
    outbox = Outbox()
    outbox.put(Piece(first=0, ids=tuple(range(ids)), text=text))
    assert (outbox.too_full, outbox.half_empty) == (too_full, half_empty)
