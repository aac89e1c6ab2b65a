"""The words of a wallet, against pytoniq-core's own reading of them."""

import pytest
from pytoniq_core.crypto import keys

from ledger import words
from p2p.entropy import seeded

MOTHS = words.make(seeded(7))


def test_fresh_words_are_a_wallet_to_other_programs():
    assert keys.mnemonic_is_valid(list(MOTHS))
    assert words.secret(MOTHS) == keys.mnemonic_to_private_key(list(MOTHS))[1][:32]


def test_words_are_drawn_from_the_given_source_and_no_other():
    assert words.make(seeded(7)) == MOTHS
    assert words.make(seeded(8)) != MOTHS


def test_what_a_person_types_is_read():
    assert words.read("\t" + "  ".join(MOTHS).upper() + "\n") == MOTHS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("moth", "there are 1 words"),
        ("", "there are 0 words"),
        (" ".join([*MOTHS, "moth"]), "there are 25 words"),
        (" ".join([*MOTHS[:4], "abandn", *MOTHS[5:]]), r"word 5 .* did you mean abandon\?"),
        (" ".join([*MOTHS[:23], "0"]), "word 24 is none of the list$"),
        (" ".join([*MOTHS[:2], MOTHS[3], MOTHS[2], *MOTHS[4:]]), "two may be swapped"),
    ],
    ids=["one", "none", "too many", "a slip", "nothing like it", "swapped"],
)
def test_a_slip_is_named(text, why):
    with pytest.raises(ValueError, match=why):
        words.read(text)
