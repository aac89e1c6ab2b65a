"""Vouchers in a file for a friend: whoever has it can claim for this node, and do nothing else."""

from collections.abc import Mapping
from typing import Final

from ledger.backup import Backup
from ledger.guarding import Watched
from ledger.lane import Account, LaneConfig
from ledger.money import MAX_NANO, Nano
from ledger.voucher import Voucher
from p2p.errors import CodecError
from p2p.identity import SIGNATURE_SIZE
from scripts.failure import Document, Failed
from scripts.funds import account, address

MOST: Final = 4_096
"""lanes in a file"""


def document(kept: Backup, network: int) -> Document:
    """The `shared` document."""
    return {
        "schema": "tussah/shared/1",
        "network": network,
        "lanes": [
            {
                "lane": address(Account(one.voucher.lane)),
                "config": one.config.pack().hex(),
                "cumulative_nano": one.voucher.cumulative.value,
                "sig": one.voucher.sig.hex(),
            }
            for one in kept.promises
        ],
    }


def read(body: object) -> list[Watched]:
    """The lanes of such a document, not believed yet. Raises `Failed`."""
    lanes = body.get("lanes") if isinstance(body, Mapping) else None
    if not isinstance(lanes, list) or len(lanes) > MOST:
        message = "That is no file of shared vouchers."
        raise Failed("invalid_request", message, "Your friend writes one: tussah lanes share FILE.")
    return [_lane(number, lane) for number, lane in enumerate(lanes, 1)]


def _lane(number: int, given: object) -> Watched:
    try:
        fields = given if isinstance(given, Mapping) else {}
        total = fields["cumulative_nano"]
        if type(total) is not int or not 0 <= total <= MAX_NANO:
            raise ValueError("no amount")
        sig = bytes.fromhex(fields["sig"])
        if len(sig) != SIGNATURE_SIZE:
            raise ValueError("no signature")
        held = Voucher(lane=account(str(fields["lane"])), cumulative=Nano(total), sig=sig)
        return Watched(config=LaneConfig.parse(bytes.fromhex(fields["config"])), voucher=held)
    except (KeyError, TypeError, ValueError, CodecError) as error:
        message = f"Lane {number} of the file cannot be read."
        raise Failed("invalid_request", message, "Have your friend write it anew.") from error
