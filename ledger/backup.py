"""What words cannot bring back: the vouchers of lanes that pay us, and how far numbers were used.

    TSBK | version u8 | nonce 24 | ciphertext of a canonical map

Sealed with a key of the master, so the wallet's words open it and nothing else has to be
remembered. A backup that is old is harmless: a lower voucher never replaces a higher one, and
claims less at the worst.
"""

from dataclasses import dataclass
from typing import Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from ledger import lane_rows, store, voucher
from ledger.fields import I63, U32, VERSION, integer, items, octets, read_map
from ledger.keys import Master
from ledger.lane import LaneConfig, Role
from ledger.money import MAX_NANO, Nano
from ledger.store import Connection, blob
from ledger.voucher import Voucher
from p2p import codec
from p2p.codec import Value
from p2p.entropy import Entropy
from p2p.errors import BadSignature, CodecError
from p2p.identity import AdnlId

MAGIC: Final = b"TSBK\x01"
_NONCE: Final = 24

MAX_FILE: Final = 4 * 1024 * 1024
"""bytes: 4,096 lanes of 400, and counters."""

_MOST: Final = 16_384
"""lanes, and counters; a node takes a quarter as many lanes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A lane to us, and the best voucher on it."""

    config: LaneConfig
    voucher: Voucher
    peer: AdnlId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    promises: tuple[Promise, ...]
    counters: tuple[tuple[AdnlId, int, int], ...]
    """Mint, epoch, and the first number never used."""

    @property
    def promised(self) -> Nano:
        """The sum of all vouchers: it rises with each."""
        return sum((one.voucher.cumulative for one in self.promises), Nano(0))


def read(connection: Connection) -> Backup:
    """What there is to keep."""
    rows = lane_rows.every(connection, Role.PAYEE, live=True)
    counters = connection.execute("SELECT mint, epoch, next FROM counter ORDER BY mint, epoch")
    return Backup(
        promises=tuple(
            Promise(
                config=row.config,
                voucher=Voucher(lane=row.lane, cumulative=row.cumulative, sig=row.sig),
                peer=lane_rows.peer(connection, row.lane),
            )
            for row in sorted(rows, key=lambda row: row.lane)
        ),
        counters=tuple(
            (AdnlId(blob(mint)), store.integer(epoch), store.integer(number))
            for mint, epoch, number in counters
        ),
    )


def seal(backup: Backup, master: Master, entropy: Entropy) -> bytes:
    """The content of a file."""
    nonce = entropy.token(_NONCE)
    sealed: bytes = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        _pack(backup), MAGIC, nonce, master.backup_key
    )
    return MAGIC + nonce + sealed


def unseal(file: bytes, master: Master) -> Backup:
    """What a file holds.

    Raises `BadSignature` if it was not sealed for this wallet, or changed, and `CodecError`.
    """
    if len(file) > MAX_FILE or not file.startswith(MAGIC):
        raise CodecError("it is no backup of a wallet")
    at = len(MAGIC) + _NONCE
    try:
        plain: bytes = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            file[at:], MAGIC, file[len(MAGIC) : at], master.backup_key
        )
    except (CryptoError, ValueError) as error:
        raise BadSignature("it is another wallet's, or damaged") from error
    return _unpack(plain)


def _pack(backup: Backup) -> bytes:
    return codec.pack(
        {
            "v": VERSION,
            "lanes": [
                [
                    one.config.pack(),
                    one.voucher.lane,
                    one.voucher.cumulative.value,
                    one.voucher.sig,
                    one.peer,
                ]
                for one in backup.promises
            ],
            "counters": [list(counter) for counter in backup.counters],
        }
    )


def _unpack(plain: bytes) -> Backup:
    fields = read_map(plain, MAX_FILE, ("v", "lanes", "counters"))
    return Backup(
        promises=tuple(_promise(each) for each in items(fields["lanes"], 0, _MOST)),
        counters=tuple(_counter(each) for each in items(fields["counters"], 0, _MOST)),
    )


def _promise(value: Value) -> Promise:
    packed, lane, cumulative, sig, peer = items(value, 5, 5)
    if not isinstance(packed, bytes) or not isinstance(sig, bytes):
        raise CodecError("a lane in a backup with other fields")
    config = LaneConfig.parse(packed)
    held = Voucher(lane=octets(lane), cumulative=Nano(integer(cumulative, MAX_NANO)), sig=sig)
    voucher.verify(config.payer_key, held)
    return Promise(config=config, voucher=held, peer=None if peer is None else AdnlId(octets(peer)))


def _counter(value: Value) -> tuple[AdnlId, int, int]:
    mint, epoch, number = items(value, 3, 3)
    return AdnlId(octets(mint)), integer(epoch, U32), integer(number, I63)
