"""What of OpenAI's fields is done, dropped by name, or refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import Nano
from p2p.identity import AdnlId
from p2p.onion.shaping import Shaping
from scripts.api.asking import FIELDS, WISHES
from scripts.api.openai.request import HERE, REFUSED, chat, completion
from scripts.failure import Failed, Failure

PLAIN = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("functions", [{}]),
        ("audio", {"voice": "moth"}),
        ("modalities", ["text", "audio"]),
        ("stream", "yes"),
        ("stream_options", 5),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": float("nan")}),
        ("logit_bias", {"9" * 8: 1}),
        ("logit_bias", {"9" * 5_000: 1}),
        ("logit_bias", {str(token): 1 for token in range(301)}),
        ("tussah", 5),
        ("temperature", 3),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field, value):
    with pytest.raises(Failed) as failed:
        chat({**PLAIN, field: value}, {})
    assert failed.value.failure.code == "invalid_request"
    assert failed.value.failure.param == field


@pytest.mark.parametrize(
    "more",
    [
        {"n": 1, "tools": [], "logprobs": False, "response_format": {"type": "text"}},
        {"stream_options": None, "logit_bias": None, "tussah": None},
    ],
)
def test_what_asks_for_nothing_is_let_pass(more):
    assert chat({**PLAIN, **more}, {}).request == chat(PLAIN, {}).request


def test_what_could_only_name_the_asker_is_dropped_and_said():
    form = chat({**PLAIN, "user": "me", "metadata": {"a": 1}, "wings": 4}, {})
    assert form.ignored == ("metadata", "user", "wings")
    assert form.request == chat(PLAIN, {}).request


def test_a_mistyped_wish_is_refused():
    with pytest.raises(Failed, match="max_price_nano"):
        chat({**PLAIN, "tussah": {"max_prise_nano": 5}}, {})


def test_headers_wish_for_who_cannot_add_to_a_body_and_bodies_come_first():
    headers = {
        "x-tussah-max-price": "7",
        "x-tussah-relays": "2",
        "x-tussah-shaping": "0",
        "x-tussah-deadline": "9.5",
        "x-tussah-worker": "ab" * 32,
    }
    wish = chat({**PLAIN, "tussah": {"relays": 1}}, headers).wish
    assert (wish.max_price, wish.relays, wish.deadline_s) == (Nano(7), 1, 9.5)
    assert wish.shaping is Shaping.OFF
    assert wish.worker == AdnlId(b"\xab" * 32)
    with pytest.raises(Failed, match="x-tussah-relays"):
        chat(PLAIN, {"x-tussah-relays": "many"})


def test_parts_of_text_are_one_text():
    content = [{"type": "text", "text": "Name"}, {"type": "text", "text": "moths."}]
    form = chat({**PLAIN, "messages": [{"role": "user", "content": content}]}, {})
    assert form.request.messages[0].content == "Name\nmoths."


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        [5],
        [{"type": "text"}],
        [{"type": "image_url", "image_url": {"url": "https://example.com/moth.png"}}],
    ],
)
def test_what_is_no_text_is_refused(content):
    with pytest.raises(Failed) as failed:
        chat({**PLAIN, "messages": [{"role": "user", "content": content}]}, {})
    assert failed.value.failure.param.startswith("messages[0].content")


def test_biases_are_thousandths_in_order():
    form = chat({**PLAIN, "logit_bias": {"9": -100, "2": 0.5}}, {})
    assert form.request.bias == ((2, 500), (9, -100_000))


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [1, 2], 5])
def test_a_prompt_is_one_text(prompt):
    with pytest.raises(Failed) as failed:
        completion({"model": "auto", "prompt": prompt}, {})
    assert failed.value.failure.param == "prompt"
    assert completion({"prompt": ["Moths:"]}, {}).request.text == "Moths:"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)

NAMES = st.sampled_from((*FIELDS, *HERE, *REFUSED, "user")) | st.text(max_size=8)


def outcome(read, body):
    """What was ignored of a body, or why it was refused."""
    try:
        return read(body, {}).ignored
    except Failed as failed:
        return failed.failure


@given(st.dictionaries(NAMES, JSON, max_size=6), st.dictionaries(st.sampled_from(WISHES), JSON))
def test_any_body_is_a_request_or_a_refusal_of_one_field(fields, own):
    for read in (chat, completion):
        for body in (fields, {**PLAIN, "prompt": "?", **fields}, {**PLAIN, "tussah": own}):
            found = outcome(read, body)
            if isinstance(found, Failure):
                assert (found.code, bool(found.param)) == ("invalid_request", True)
            else:
                assert set(found) <= set(body)
