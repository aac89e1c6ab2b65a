"""A worker's open requests: which stream is whose, in which state, and what is said on it.

The ground on which the parts of `inference.serving` stand. It knows time and the circuits' room,
holds the effects until they are drained, and forgets a request with all that was begun for it.
"""

from collections.abc import Callable
from typing import Final, final

from inference.order import Conversation, Order, State
from inference.protocol import PLAIN, Abort, Refusal
from inference.schedule import Desk
from inference.serving_effects import Cancel, Deny, Effect, End, GiveUp, Say, Settle
from ledger.money import ZERO
from p2p import codec
from p2p.core import Deadlines, Event
from p2p.entropy import Entropy
from p2p.onion.cell import CircuitId

MAX_STREAMS: Final = 4
"""requests of one circuit at once: one running, two waiting, one quoted"""


@final
class Orders:
    """See the module. `room` says how many bytes a circuit takes now; it has no effect.

    `upload` is the most bytes that a message of an asker may have.
    """

    def __init__(
        self, desk: Desk, entropy: Entropy, room: Callable[[CircuitId], int], *, upload: int
    ) -> None:
        self._desk = desk
        self._entropy = entropy
        self._room = room
        self._upload = upload
        self._circuits: dict[CircuitId, Conversation] = {}
        self._orders: dict[int, Order] = {}
        self._tokens = 0
        self._out: list[Event] = []

        self.now = 0.0
        self.deadlines = Deadlines()
        self.refusals: dict[str, int] = {}
        self.misbehaved = 0
        self.earned = ZERO

    # --- which there are ---

    def greet(self, circuit: CircuitId) -> Conversation:
        """A circuit that ends here from now on."""
        conversation = Conversation(circuit, self._entropy.token(16))
        self._circuits[circuit] = conversation
        return conversation

    def part(self, circuit: CircuitId) -> None:
        """A circuit is gone."""
        conversation = self._circuits.pop(circuit, None)
        if conversation is not None:
            for order in list(conversation.orders.values()):
                self.forget(order)

    def part_all(self) -> None:
        """All circuits are as good as gone."""
        for circuit in list(self._circuits):
            self.part(circuit)

    def begin(self, conversation: Conversation, stream: int) -> Order:
        """A new stream of a circuit."""
        self._tokens += 1
        conversation.newest = stream
        unframer = codec.Unframer(self._upload)
        order = Order(self._tokens, conversation, stream, unframer)
        conversation.orders[stream] = self._orders[order.token] = order
        return order

    def conversation(self, circuit: CircuitId) -> Conversation | None:
        """The circuit, if it ends here."""
        return self._circuits.get(circuit)

    def get(self, token: int, *states: State) -> Order | None:
        """The request of this token, if it is in one of these states; else what comes is late."""
        order = self._orders.get(token)
        return order if order is not None and order.state in states else None

    def find(self, circuit: CircuitId, stream: int) -> Order | None:
        """The request on this stream."""
        conversation = self._circuits.get(circuit)
        return conversation.orders.get(stream) if conversation is not None else None

    def all(self) -> list[Order]:
        """Those that are open now."""
        return list(self._orders.values())

    def here(self, order: Order) -> bool:
        """Whether it has not been forgotten."""
        return order.token in self._orders

    def count(self, *states: State) -> int:
        """How many are in these states."""
        return sum(order.state in states for order in self._orders.values())

    def held(self) -> int:
        """Bytes of prompts that have not come to their end."""
        return sum(len(order.unframer) for order in self._orders.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered; offers do not count."""
        return self.count(State.ASKED, State.QUOTED) == len(self._orders)

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "circuits": len(self._circuits),
            "orders": len(self._orders),
            "prompt_bytes": self.held(),
            "timers": len(self.deadlines),
        }

    # --- what becomes of one ---

    def enter(
        self, order: Order, state: State, seconds: float, then: Callable[[Order], None]
    ) -> None:
        """A state, and what ends it if nothing else does."""
        if order.timer is not None:
            order.timer.cancel()
        order.state = state
        order.timer = self.deadlines.at(self.now + seconds, lambda: then(order))

    def silent(self, order: Order) -> None:
        """Nothing has come, or been taken, for too long."""
        self.give_up(order, Abort.SILENT)

    def refuse(self, order: Order, refusal: Refusal) -> None:
        """Say no, or no more."""
        self.note(refusal)
        data = codec.frame(refusal.encode())
        if self.free(order) >= len(data):
            self.say(order, data)
            self.end(order)
        else:
            self.give_up(order, Abort.SILENT)

    def end(self, order: Order) -> None:
        """All is said."""
        self.out(End(order.conversation.circuit, order.stream))
        self.forget(order)

    def give_up(self, order: Order, code: Abort) -> None:
        """Reset the stream."""
        self.out(GiveUp(order.conversation.circuit, order.stream, code))
        self.forget(order)

    def forget(self, order: Order) -> None:
        """Drop a request, what the engine does for it, and its claim to further ticks."""
        if order.state in (State.READY, State.RUNNING):
            self.out(Cancel(order.token))
        if order.earning is not None:
            locked, ticks = order.earning.locked, order.earned
            self.earned += locked.tick * ticks
            self.out(Settle(locked.lock_id, final=True, ticks=ticks))
        self._desk.leave(order.token)
        for handle in (order.timer, order.look, order.beat, order.owed):
            if handle is not None:
                handle.cancel()
        del self._orders[order.token]
        del order.conversation.orders[order.stream]

    # --- what is said ---

    def out(self, effect: Effect) -> None:
        """Have something done."""
        self._out.append(effect)

    def say(self, order: Order, data: bytes) -> None:
        """Send on its stream, where `free` has room."""
        order.conversation.said += len(data)
        self.out(Say(order.conversation.circuit, order.stream, data))

    def free(self, order: Order) -> int:
        """Bytes that the circuit takes, less what this step has said already."""
        return self._room(order.conversation.circuit) - order.conversation.said

    def deny(self, circuit: CircuitId, refusal: Refusal) -> None:
        """Say no to a circuit."""
        self.note(refusal)
        self.out(Deny(circuit, PLAIN + refusal.encode()))

    def note(self, refusal: Refusal) -> None:
        """Count a refusal."""
        name = refusal.code.name.lower()
        self.refusals[name] = self.refusals.get(name, 0) + 1

    def drain(self) -> list[Event]:
        """Effects, in order."""
        out, self._out = self._out, []
        for conversation in self._circuits.values():
            conversation.said = 0
        return out
