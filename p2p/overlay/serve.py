"""Answers the calls of nodes that publish their advert or ask what is new."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from p2p import defaults
from p2p.bucket import Bucket, full_bucket
from p2p.entropy import Entropy
from p2p.errors import AdvertError
from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay import calls
from p2p.overlay.advert import Advert, Rules
from p2p.overlay.calls import News, Publish, Refusal, Sync
from p2p.overlay.directory import Directory, Verdict


@final
class DirectoryServer:
    """`answer` every call; a call is never too strange to be answered."""

    def __init__(self, directory: Directory, rules: Rules, entropy: Entropy) -> None:
        self._directory = directory
        self._rules = rules
        self._session = entropy.token(calls.SESSION_SIZE)
        self._peers: dict[AdnlId, _Allowance] = {}
        self._newcomers = full_bucket(defaults.NEW_NODES, defaults.NEW_NODES_BURST, 0.0)

    def answer(self, now: float, peer: AdnlId, body: bytes) -> bytes:
        """The answer to a call of this peer. Raises `CodecError` if it is none."""
        allowance = self._allowance(peer, now)
        if not allowance.calls.take(now):
            return calls.pack_refusal(Refusal.BUSY)
        match calls.read_call(body):
            case Publish(advert):
                return self._publish(now, peer, advert, allowance)
            case Sync(session, since):
                return self._sync(now, since if session == self._session else 0, allowance)
            case None:
                return calls.pack_refusal(Refusal.UNKNOWN)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"directory_peers": len(self._peers)}

    def _publish(self, now: float, peer: AdnlId, buffer: bytes, allowance: "_Allowance") -> bytes:
        """Nodes speak for themselves only: a stranger's advert comes by `Sync`, from a server."""
        try:
            advert = adverts.read(buffer, now, self._rules)
            if advert.id != peer:
                return calls.pack_refusal(Refusal.REFUSED)
            if not allowance.publishes.take(now) or not self._may_come(now, peer):
                return calls.pack_refusal(Refusal.BUSY)
            verdict = self._directory.add(now, buffer)
        except AdvertError:
            return calls.pack_refusal(Refusal.REFUSED)
        return _PUBLISHED[verdict]

    def _may_come(self, now: float, peer: AdnlId) -> bool:
        return self._directory.newest(peer) is not None or self._newcomers.take(now)

    def _sync(self, now: float, since: int, allowance: "_Allowance") -> bytes:
        newer = self._directory.since(since)
        if since == 0 and newer and not allowance.pulls.take(now):
            return calls.pack_refusal(Refusal.BUSY)
        taken = _within(newer, defaults.SYNC_ANSWER)
        last = newer[taken - 1][0] if taken else since
        buffers = [advert.buffer for _, advert in newer[:taken]]
        return calls.pack_news(News(self._session, last, taken < len(newer), buffers))

    def _allowance(self, peer: AdnlId, now: float) -> "_Allowance":
        """What this peer may still ask; the one unheard of for longest is forgotten when full."""
        allowance = self._peers.pop(peer, None) or _fresh(self._rules.epoch, now)
        self._peers[peer] = allowance
        if len(self._peers) > defaults.SYNC_PEERS:
            del self._peers[next(iter(self._peers))]
        return allowance


@dataclass(slots=True)
class _Allowance:
    calls: Bucket
    pulls: Bucket
    publishes: Bucket


def _fresh(epoch: float, now: float) -> _Allowance:
    return _Allowance(
        calls=full_bucket(defaults.SYNC_CALLS / epoch, defaults.SYNC_CALLS, now),
        pulls=full_bucket(1 / epoch, defaults.SYNC_PULLS, now),
        publishes=full_bucket(defaults.PUBLISHES / epoch, defaults.PUBLISH_BURST, now),
    )


def _within(newer: Iterable[tuple[int, Advert]], limit: int) -> int:
    """How many of them fit."""
    size = count = 0
    for _, advert in newer:
        size += len(advert.buffer)
        if size > limit:
            break
        count += 1
    return count


_PUBLISHED = {
    Verdict.NEW: calls.pack_done(),
    Verdict.KNOWN: calls.pack_done(),
    Verdict.OLD: calls.pack_refusal(Refusal.REFUSED),
    Verdict.FULL: calls.pack_refusal(Refusal.TOO_MUCH),
}
