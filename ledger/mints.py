"""The mints that a purse deals with: whom its network names, while the directory lists them."""

from collections.abc import Sequence
from typing import Final, final

from ledger.credit import Keyset
from ledger.line import Line
from ledger.messages import KeysetList, Keysets
from ledger.payment import CannotPay, Unpaid
from p2p.errors import BadSignature, Unreachable
from p2p.identity import AdnlId
from p2p.node import Node
from p2p.overlay.advert import Advert, Role

MAX_WANTED: Final = 4
"""mints that a want can name"""


@final
class Mints:
    """See the module. A mint that was caught cheating is as one that is not listed."""

    def __init__(self, node: Node, trusted: Sequence[AdnlId]) -> None:
        self._node = node
        self.trusted = tuple(trusted)
        self.accused: frozenset[AdnlId] = frozenset()

    def usable(self) -> tuple[AdnlId, ...]:
        """The trusted ones that are listed now, at most as many as a want can name."""
        return tuple(mint for mint in self.trusted if self._advert(mint))[:MAX_WANTED]

    def common(self, mints: Sequence[AdnlId]) -> AdnlId:
        """The first of `mints` that is usable here, too. Raises `CannotPay`."""
        return self.shared(mints)[0]

    def shared(self, mints: Sequence[AdnlId]) -> tuple[AdnlId, ...]:
        """Those of `mints` that are usable here, too, in their order. Raises `CannotPay`."""
        usable = tuple(mint for mint in mints if mint in self.trusted and self._advert(mint))
        if not usable:
            raise CannotPay(Unpaid.NO_MINT, "no mint of this network is listed now")
        return usable

    def listed(self, mint: AdnlId) -> Advert:
        """What everybody sees of a mint. Raises `Unreachable`."""
        advert = self._advert(mint)
        if advert is None:
            raise Unreachable("the mint is not listed any more")
        return advert

    async def on_sale(self, line: Line, mint: AdnlId) -> Keyset:
        """The newest keyset of a mint, if it is the one that everybody sees.

        Raises `BadSignature` for another one, and what `Line.ask` raises.
        """
        advert = self.listed(mint)
        keysets = (await line.ask(Keysets(), KeysetList)).keysets
        newest = Keyset.parse(keysets[-1], advert.public) if keysets else None
        if newest is None or newest.digest != advert.fields.mint:
            raise BadSignature("the mint shows us another keyset than the directory has")
        return newest

    def _advert(self, mint: AdnlId) -> Advert | None:
        entry = self._node.directory.find(mint)
        if entry is None or mint in self.accused:
            return None
        listed = Role.MINT in entry.advert.roles and entry.advert.fields.mint is not None
        return entry.advert if listed else None
