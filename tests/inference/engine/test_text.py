"""Text that was given out never has to be taken back."""

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.text import Text


def feed(text, *parts):
    return [text.push(part) for part in parts]


def test_a_split_character_waits_for_its_end():
    assert feed(Text([]), b"a\xe2", b"\x82", b"\xac!") == ["a", "", "\u20ac!"]


def test_what_never_becomes_a_character_is_replaced_at_the_end():
    text = Text([])
    assert feed(text, b"a\xe2\x82") == ["a"]
    assert text.finish() == "\ufffd"


def test_a_stop_string_across_tokens_is_not_shown():
    text = Text([b"END"])
    assert feed(text, b"so E", b"N", b"D and more") == ["so ", "", ""]
    assert text.stopped
    assert text.finish() == ""


def test_what_only_looked_like_a_stop_is_shown():
    text = Text([b"END"])
    assert feed(text, b"E", b"NX", b"EN") == ["", "ENX", ""]
    assert text.finish() == "EN"
    assert not text.stopped


def test_the_earliest_of_several_stops_counts():
    text = Text([b"c d", b"b"])
    assert feed(text, b"a b c d") == ["a "]


def test_a_stop_may_overlap_itself():
    text = Text([b"aab"])
    assert "".join(feed(text, b"aa", b"aab")) == "aa"
    assert text.stopped


words = st.text(alphabet="ab\u20ac", max_size=30)


@given(words, st.lists(st.text(alphabet="ab\u20ac", min_size=1, max_size=4), max_size=4), st.data())
def test_any_cut_of_the_bytes_gives_the_same_text(words, stops, data):
    raw = words.encode()
    encoded = [stop.encode() for stop in stops]
    text, shown, at = Text(encoded), "", 0
    while at < len(raw) and not text.stopped:
        step = data.draw(st.integers(1, 5))
        shown += text.push(raw[at : at + step])
        at += step
    if not text.stopped:
        shown += text.finish()
    ends = [place for stop in stops if (place := words.find(stop)) >= 0]
    # the stop that is complete first wins, which is not always the one that begins first
    whole = [place + len(stop) for stop in stops if (place := words.find(stop)) >= 0]
    if not ends:
        assert shown == words
    else:
        assert words.startswith(shown)
        assert min(ends) <= len(shown) <= min(whole)
        assert not any(stop in shown for stop in stops)
