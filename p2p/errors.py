"""Every error of Tussah, in one tree: who is at fault decides the branch.

    TussahError
    |-- LocalError              our bug, our misuse, or our machine
    |   |-- NoPath              no set of relays satisfies the path rules
    |   |-- DirectoryStale      the list of nodes is too old to choose from
    |   |-- DirectorySplit      the servers of the list do not agree
    |   |-- Insufficient        not enough funds
    |   |-- NoCapacity          a bound of ours is reached
    |   |-- BadKeystore         a file of keys that is damaged
    |   |-- WrongPassphrase     a file of keys that does not open
    |   `-- Livelock            a core asks to be woken in the past, for ever
    |-- RemoteError             the peer's fault
    |   |-- TlError             bytes that are no value of the TL schema
    |   |-- AdnlError           a datagram, or a message in it, that breaks ADNL
    |   |-- CodecError          bytes that are no canonical message
    |   |-- AdvertError         an advert that breaks a rule
    |   |-- DhtError            a key, value or node that breaks a rule of the DHT
    |   |-- OnionError          a frame, cell or handshake that breaks the protocol or its seal
    |   |-- AnswerTooBig        more than was asked for
    |   |-- HopRefused          a relay on the path said no
    |   |-- EndRefused          the endpoint said no
    |   |-- CircuitLost         a circuit that was open is gone
    |   |-- BadModel            a model file that breaks a rule
    |   |-- Stale               too old to be believed
    |   |-- BadSignature        signed by nobody we asked
    |   |-- BadPreimage         a payment that does not lead to its root
    |   |-- OverCapacity        a promise of more than there is
    |   |-- Closing             the peer is leaving
    |   `-- Rejected            the peer's protocol refused us
    `-- Unreachable             nobody's fault
        |-- Timeout             no answer in time
        |-- Closed              the link or node is closed
        `-- GuardUnreachable    the first relay of the path cannot be reached

Bytes from a peer can raise `RemoteError` and `Unreachable` only. Expected refusals (busy, paused,
no funds) are values, not errors.
"""


class TussahError(Exception):
    """Root of the tree."""


class LocalError(TussahError):
    """Our own bug or misuse, or a limit of this machine."""


class NoPath(LocalError):
    """No set of relays satisfies the path rules; more relays must join, or fewer be asked for."""


class DirectoryStale(LocalError):
    """The directory is too old to choose from; wait until it is fetched again."""


class DirectorySplit(LocalError):
    """No two directory servers hold the same list; the last one we had serves for a while."""


class Insufficient(LocalError):
    """Not enough funds."""


class NoCapacity(LocalError):
    """A bound of this node is reached; try again when something has ended."""


class BadKeystore(LocalError):
    """A file of keys is none, or not a whole one; its keys must be restored from their words."""


class WrongPassphrase(LocalError):
    """A passphrase does not open a file of keys, or the file is damaged: nobody can tell which."""


class Livelock(LocalError):
    """A core's deadline stays in the past however often its timer is handled."""

    def __init__(self, node: int, deadline: float) -> None:
        super().__init__(f"node {node} keeps a deadline at {deadline!r} that never passes")
        self.node = node
        self.deadline = deadline


class RemoteError(TussahError):
    """The peer's fault: what it sent breaks the protocol, or it refused."""


class TlError(RemoteError):
    """Bytes that are not one value of the TL schema within its bounds."""


class AdnlError(RemoteError):
    """A datagram, or a message in it, that breaks ADNL; `reason` is the word it is counted by."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CodecError(RemoteError):
    """Bytes that are not one canonical message within its bounds."""


class AdvertError(RemoteError):
    """An advert that breaks a rule; the argument names which."""


class DhtError(RemoteError):
    """A key, value or node that breaks a rule of the DHT; the argument names which."""


class OnionError(RemoteError):
    """A frame, cell or handshake that breaks the onion protocol, or that our keys do not open."""


class AnswerTooBig(RemoteError):
    """An answer larger than the caller allowed."""


class HopRefused(RemoteError):
    """A relay on the path refused the circuit."""

    def __init__(self, hop: int, status: int) -> None:
        super().__init__(f"hop {hop} refused with status {status}")
        self.hop = hop
        self.status = status


class EndRefused(RemoteError):
    """The endpoint refused the circuit; `reason` is its offer field, unparsed."""

    def __init__(self, reason: bytes) -> None:
        super().__init__("the endpoint refused")
        self.reason = reason


class CircuitLost(RemoteError):
    """A circuit that was open is gone; `hop` is who said so, None if unknown."""

    def __init__(self, hop: int | None) -> None:
        super().__init__(f"the circuit was lost at hop {hop}")
        self.hop = hop


class BadModel(RemoteError):
    """A model file that breaks a rule; the argument names where."""


class Stale(RemoteError):
    """Too old to be believed."""


class BadSignature(RemoteError):
    """A signature that does not verify."""


class BadPreimage(RemoteError):
    """A tick that does not hash to what was agreed."""


class OverCapacity(RemoteError):
    """A promise of more than stands behind it."""


class Closing(RemoteError):
    """The peer is leaving and takes no new work."""


class Rejected(RemoteError):
    """The peer's protocol refused us; the argument is its code."""


class Unreachable(TussahError):
    """Nobody's fault: the network did not carry it."""


class Timeout(Unreachable):
    """No answer in time."""


class Closed(Unreachable):
    """The link or node is closed."""


class GuardUnreachable(Unreachable):
    """The first relay of the path cannot be reached."""


def only_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, out of the groups that nurseries wrap it in."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
