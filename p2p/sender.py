"""The seam between upper cores and the network: they name peers by id, never by address or link.

Under it a stack carries a payload over ADNL, RLDP2 or a link, whichever leads to the peer; in tests
and large simulations a twin in memory does. A core is given its `Sender`, the `Procedures` that
step its queries, and answers what reaches it by a `Handler`.
"""

from typing import Final, Protocol

from p2p.identity import AdnlId
from p2p.ton import AdnlAddress, AdnlAddressList
from p2p.wire import MAX_MESSAGE

MAX_DATAGRAM_PAYLOAD: Final = 8_192
"""bytes of a payload, and of its answer, that ADNL carries in parts; what is longer takes RLDP2."""

MAX_QUESTION: Final = 16_384
"""bytes of a message or of a query: what every way carries, as RLDP2 takes no more unasked."""

MAX_ANSWER: Final = MAX_MESSAGE
"""bytes of an answer: what every way carries."""


class Sender(Protocol):
    """Carries payloads to peers. Called from inside a core, while its stack is in a step."""

    def send(self, peer: AdnlId, payload: bytes) -> None:
        """One message, unanswered; lost in silence if it cannot be carried.

        Raises `LocalError` for more than `MAX_QUESTION` bytes.
        """

    async def query(
        self,
        peer: AdnlId,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
        max_answer: int = MAX_DATAGRAM_PAYLOAD,
    ) -> bytes:
        """Ask once and wait for the answer, `timeout` seconds at most; stepped by `Procedures`.

        Raises `Unreachable` (`Timeout` and `Closed` among it), `AnswerTooBig`, and `NoCapacity`
        while too many are outstanding; `LocalError` for more than `MAX_QUESTION` bytes. Who may
        repeat a query does so itself, as another query.
        """

    def learn(self, public: bytes, addresses: AdnlAddressList) -> None:
        """A peer's key (32 bytes of Ed25519), and where it says that it can be reached."""


class UdpSender(Sender, Protocol):
    """A `Sender` that can be told where to ask: for who must know that a peer is reached there."""

    async def query_at(
        self,
        peer: AdnlId,
        address: AdnlAddress,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
    ) -> bytes:
        """Ask as `query` does, but by a datagram to this address and in no other way.

        The peer's key must have been learnt. Who answers was reached there; by `query` it may have
        been over a link, or back through a NAT, in which it alone has made a hole for us.
        """


class Handler(Protocol):
    """A core that is spoken to. Neither call raises because of what a peer sent."""

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """Take a message."""

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """The answer to a query; None is silence, which the asker takes for loss.

        So is an answer of more than `MAX_ANSWER` bytes; one of more than was asked for is that, or
        `AnswerTooBig`.
        """
