"""JSON of strangers: what JSON has, and nothing that could not be written again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import strict


@given(st.text())
def test_any_text_is_a_value_that_can_be_sent_or_a_value_error(text):
    try:
        value = strict.parse(text)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[-Infinity]",
        "1e999",
        '"\\ud800"',
        '{"\\udc00": 1}',
        "[" * 100_000,
        "7" * 5_000,
    ],
)
def test_what_others_could_not_read_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        strict.parse(text)


def test_a_whole_character_may_be_written_in_two_halves():
    assert strict.parse('"\\ud83e\\udd8b"') == "\N{BUTTERFLY}"
