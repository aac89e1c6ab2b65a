"""A lane: coins of one payer that one payee may claim, by vouchers of a rising total.

`LaneConfig` fixes a lane for life: the contract's address is a hash of it. What the chain said of a
lane last is a `LaneState`; the two sides of it are `PayerLane` and `PayeeLane`.
"""

from dataclasses import dataclass
from typing import NewType

from ledger.money import Nano

Account = NewType("Account", bytes)
"""32 bytes: the address of an account of workchain 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneConfig:
    """What a lane is, for its whole life."""

    payer_key: bytes
    """32 bytes: the Ed25519 key whose vouchers count."""
    payee_key: bytes
    """32 bytes: the Ed25519 key that signs claims and closes."""
    payer: Account
    """The payer's wallet: gets back what is left, and may begin to close."""
    payee: Account
    """The payee's wallet: gets what vouchers say."""
    network: int
    """Global id of the chain: mainnet -239, testnet -3, embedded -4242."""
    lane_id: int
    """64 random bits, never used twice."""
    close_delay: int
    """seconds between a payer's wish to close and its right to take the rest."""
    min_claim: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """What the chain says of a lane."""

    claimed: Nano
    close_at: int
    """Unix time from which the payer may take the rest; 0: not asked for; 1: closed."""
    balance: Nano
    seen_at: float
    """Unix time of the look."""
