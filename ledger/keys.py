"""One secret, and every key that a node's money hangs on.

The master is the wallet's own Ed25519 seed, so whoever has it can open the wallet with any other
program and restore the rest. Each use has a key of its own, so that none gives away another.
"""

from hashlib import blake2b
from typing import Final, final

from p2p.identity import Identity

MASTER_SIZE: Final = 32

_PAYER: Final = "tussah.payer"
_PAYEE: Final = "tussah.payee"
_CREDIT: Final = "tussah.credit"
_MINT: Final = "tussah.mint"
_BACKUP: Final = "tussah.backup"


@final
class Master:
    """32 secret bytes. Never printed: its `repr` is that of the wallet's public key."""

    __slots__ = ("_payee", "_secret", "_wallet")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != MASTER_SIZE:
            raise ValueError(f"a master secret is {MASTER_SIZE} bytes, not {len(secret)}")
        self._secret = secret
        self._wallet = Identity(secret)
        self._payee = Identity(self.sub(_PAYEE))

    def sub(self, label: str, index: int = 0) -> bytes:
        """32 bytes for one use: `label` of at most 16 bytes of ASCII, `index` of 64 bits."""
        message = index.to_bytes(8, "little")
        person = label.encode("ascii")
        return blake2b(message, digest_size=32, key=self._secret, person=person).digest()

    @property
    def secret(self) -> bytes:
        """The 32 bytes themselves: for the file that they are kept in, and nothing else."""
        return self._secret

    @property
    def wallet(self) -> Identity:
        """Spends what the wallet holds."""
        return self._wallet

    @property
    def payee(self) -> Identity:
        """Signs claims and closes of the lanes that pay us."""
        return self._payee

    def payer(self, lane_id: int) -> Identity:
        """Signs the vouchers of one lane of ours, and nothing else."""
        return Identity(self.sub(_PAYER, lane_id))

    @property
    def credit_seed(self) -> bytes:
        """What all credits and chains of ticks are derived from."""
        return self.sub(_CREDIT)

    @property
    def mint_master(self) -> bytes:
        """What a mint's signing keys of all epochs are derived from."""
        return self.sub(_MINT)

    @property
    def backup_key(self) -> bytes:
        """What backups are encrypted with, so that the words alone open them."""
        return self.sub(_BACKUP)

    def __repr__(self) -> str:
        return f"Master({self._wallet.public.hex()[:8]})"
