"""Where simulated nodes are on the internet: public addresses, spread over /16s and /24s."""

from typing import Final

from p2p.adnl.address import to_address
from p2p.ton import AdnlAddressList
from p2p.wire import Endpoint

PORT: Final = 30_303

BLOCK: Final = 45
"""the /8 that all are in"""

SCATTER: Final = 0x9E_37_79
"""odd, so that 2^24 nodes have addresses of their own; neighbours share no /16"""

HOME: Final = Endpoint("192.168.1.2", PORT)
"""What a node behind a router takes its address for: every home has the same."""


def endpoint_of(node: int) -> Endpoint:
    """The public endpoint of a node; of one behind a box, one there that leads nowhere."""
    ip = node * SCATTER % (1 << 24)
    return Endpoint(f"{BLOCK}.{ip >> 16}.{ip >> 8 & 255}.{ip & 255}", PORT)


def address_of(node: int) -> AdnlAddressList:
    """The same as a node writes it into its record."""
    return AdnlAddressList((to_address(endpoint_of(node)),), 0, 0, 0, 0)
