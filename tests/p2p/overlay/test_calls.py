"""The calls of the directory exchange, byte for byte, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec
from p2p.errors import CodecError
from p2p.overlay import calls
from p2p.overlay.calls import News, Publish, Refusal, Refused, Sync

sessions = st.binary(min_size=8, max_size=8)
numbers = st.integers(0, 2**63)


@given(st.builds(Publish, st.binary(max_size=768)) | st.builds(Sync, sessions, numbers))
def test_a_call_comes_back_as_it_was(call):
    assert calls.read_call(calls.pack_call(call)) == call


@given(sessions, numbers, st.lists(st.binary(max_size=768), min_size=1, max_size=5), st.booleans())
def test_news_come_back_as_they_were(session, number, adverts, more):
    news = News(session, number, more, adverts)
    assert calls.read_news(calls.pack_news(news)) == news


def test_the_bytes_of_each_message():
    assert calls.pack_call(Publish(b"ad")).hex() == "9220c4026164"
    assert calls.pack_call(Sync(b"sessions", 5)).hex() == "9321c40873657373696f6e7305"
    assert calls.pack_done().hex() == "9100"
    assert calls.pack_refusal(Refusal.BUSY).hex() == "920101"
    news = News(b"sessions", 9, False, [b"ad"])
    assert calls.pack_news(news).hex() == "9500c40873657373696f6e7309c291c4026164"


def test_refusals_are_read_from_either_answer():
    for code in Refusal:
        body = calls.pack_refusal(code)
        assert calls.read_done(body) == calls.read_news(body) == Refused(code)
    assert calls.read_done(calls.pack_done()) is None


@pytest.mark.parametrize("call", [[0, 5, bytes(32)], [34], [16, b""]])
def test_calls_of_another_kind_are_known_as_such(call):
    assert calls.read_call(codec.pack(call)) is None


@pytest.mark.parametrize(
    "call",
    [
        [],
        5,
        {"type": "buy"},
        [b"32"],
        [32],
        [32, b"advert", 1],
        [32, "advert"],
        [33, bytes(8)],
        [33, bytes(8), "5"],
        [33, 5, 5],
        [32, bytes(2_000)],
    ],
)
def test_what_is_no_call_is_refused(call):
    with pytest.raises(CodecError):
        calls.read_call(codec.pack(call))


@pytest.mark.parametrize(
    "answer",
    [
        [],
        5,
        [2],
        [1],
        [1, "busy"],
        [0, bytes(8), 1, False],
        [0, bytes(7), 1, False, []],
        [0, bytes(8), -1, False, []],
        [0, bytes(8), 1, 0, []],
        [0, bytes(8), 1, False, [5]],
        [0, bytes(8), 1, False, b""],
        [0, bytes(8), 1, True, []],
        [0, bytes(8), 1, False, [], 5],
    ],
)
def test_what_is_no_news_is_refused(answer):
    with pytest.raises(CodecError):
        calls.read_news(codec.pack(answer))
    if answer != [2]:
        with pytest.raises(CodecError):
            calls.read_done(codec.pack(answer))


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_else(data):
    for read in (calls.read_call, calls.read_news, calls.read_done):
        try:
            read(data)
        except CodecError:
            continue
