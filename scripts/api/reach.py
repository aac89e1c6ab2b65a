"""Whether others can reach a node: the `reach` part of its status."""

from collections.abc import Sequence

from p2p.identity import AdnlId
from p2p.node import Announced
from p2p.overlay.reach import Dialable, Reachability
from p2p.wire import Endpoint
from scripts.api.common import address, moment
from scripts.failure import Document


def reach(
    *,
    listening: Endpoint | None,
    udp: Sequence[Endpoint],
    announced: Announced,
    serves_dht: bool,
    verdicts: Sequence[Reachability] = (),
    attachments: Sequence[AdnlId] = (),
) -> Document:
    """What a node says of where it is, and what strangers who tried have found."""
    since = [verdict.since for verdict in verdicts if verdict.since is not None]
    return {
        "mode": _mode(announced, attachments),
        "addresses": [] if listening is None else [address(listening)],
        "udp": _addresses(udp),
        "announced": {"tcp": _addresses(announced.tcp), "udp": _addresses(announced.udp)},
        "dht": "server" if serves_dht else "client",
        "transports": [_transport(verdict) for verdict in verdicts],
        "attachments": [relay.hex() for relay in attachments],
        "checked_at": moment(min(since)) if since else None,
        "advice": _advice(listening, announced, verdicts),
    }


def _mode(announced: Announced, attachments: Sequence[AdnlId]) -> str:
    if announced.tcp or (announced.udp and not attachments):
        return "direct"
    return "relayed" if attachments else "outbound"


def _transport(verdict: Reachability) -> Document:
    return {
        "transport": verdict.transport.name.lower(),
        "dialable": verdict.dialable.value,
        "endpoint": None if verdict.endpoint is None else address(verdict.endpoint),
        "since_at": None if verdict.since is None else moment(verdict.since),
        "lasting": verdict.lasts,
        "reason": verdict.reason,
    }


def _advice(
    listening: Endpoint | None, announced: Announced, verdicts: Sequence[Reachability]
) -> str | None:
    failed = [verdict.reason for verdict in verdicts if verdict.dialable is Dialable.NO]
    if failed:
        words = "; ".join(dict.fromkeys(failed))
        return f"{words[0].upper()}{words[1:]}."
    reached = any(verdict.dialable is Dialable.YES for verdict in verdicts)
    if listening is None or announced.tcp or announced.udp or reached:
        return None
    return (
        f"It listens on {address(listening)}, which says to nobody where it is: set node.announce "
        f"to the address that others dial, and forward TCP and UDP port {listening.port} to it."
    )


def _addresses(endpoints: Sequence[Endpoint]) -> list[str]:
    return [address(endpoint) for endpoint in endpoints]
