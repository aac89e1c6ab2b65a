"""The keys of a mint: who it is, what it signs credits with, and what it pays with."""

from collections.abc import Mapping
from typing import Final, final

from ledger.credit import EPOCH_SECONDS, LEAST, MOST, Keyset, Signed, mint_key, public_key, sign
from ledger.keys import Master
from p2p.identity import Identity

EXPONENTS: Final = range(LEAST, MOST + 1)


@final
class MintKeys:
    """`identity` is the node's. Secrets of an epoch are derived once and kept."""

    def __init__(self, master: Master, identity: Identity) -> None:
        self._master = master
        self._secrets: dict[int, Mapping[int, bytes]] = {}
        self._publics: dict[int, Mapping[int, bytes]] = {}
        self.identity = identity

    def keyset(self, epoch: int, fee_bp: int) -> Keyset:
        """What to publish of an epoch: the weeks since 1970 are counted."""
        start = epoch * EPOCH_SECONDS
        secret = self._master.mint_master
        return Keyset.build(self.identity, secret, epoch=epoch, start=start, fee_bp=fee_bp)

    def secrets(self, epoch: int) -> Mapping[int, bytes]:
        """The k of an epoch's credits, by exponent."""
        if epoch not in self._secrets:
            master = self._master.mint_master
            self._secrets[epoch] = {j: mint_key(master, epoch, j) for j in EXPONENTS}
        return self._secrets[epoch]

    def sign(self, epoch: int, j: int, blind: bytes) -> Signed:
        """Sign a blinded credit; the same again for the same one. Raises `CodecError`: no point."""
        k = self.secrets(epoch)[j]
        if epoch not in self._publics:
            self._publics[epoch] = {i: public_key(k) for i, k in self.secrets(epoch).items()}
        return sign(k, self._publics[epoch][j], blind)

    def payer(self, lane_id: int) -> Identity:
        """Signs the vouchers of one lane to a worker."""
        return self._master.payer(lane_id)

    def forget(self, epoch: int) -> None:
        """An epoch is over."""
        self._secrets.pop(epoch, None)
        self._publics.pop(epoch, None)
