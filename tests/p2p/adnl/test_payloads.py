"""Messages written by hand are those of the schema."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import tl
from p2p.adnl import payloads
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.ton import AdnlMessageAnswer, AdnlMessageCustom, AdnlMessageQuery

IDS = st.binary(min_size=32, max_size=32)
EDGES = [0, 1, 2, 3, 4, 253, 254, 255, 256, MAX_DATAGRAM_PAYLOAD]


@given(IDS, st.binary(max_size=300) | st.sampled_from(EDGES).map(bytes))
def test_they_are_what_the_schema_makes_of_them(query_id, payload):
    assert payloads.query(query_id, payload) == tl.pack(AdnlMessageQuery(query_id, payload))
    assert payloads.answer(query_id, payload) == tl.pack(AdnlMessageAnswer(query_id, payload))
    assert payloads.custom(payload) == tl.pack(AdnlMessageCustom(payload))


def test_more_than_tl_can_say_is_refused():
    with pytest.raises(ValueError, match="too many"):
        payloads.custom(bytes(1 << 24))
