"""A mint that would know a customer again: it shows it keys that nobody else has seen."""

from dataclasses import replace

from ledger import wire
from ledger.credit import BUNDLES, EPOCH_SECONDS, Spend
from ledger.keys import Master
from ledger.line import Line
from ledger.messages import Buy, Change, Changed, KeysetList, Keysets, Sigs
from ledger.mintkeys import MintKeys


class Tagging:
    """Stands before a mint: once `on`, it shows and signs with those keys.

    `honest` times it shows the true keys first, as the directory has them. What a spend's change
    goes on it knows from the worker; here a test tells it: `spends`.
    """

    def __init__(self, mint, now, monkeypatch):
        self.keys = MintKeys(Master(b"T" * 32), mint.identity)
        self.epoch = int(now) // EPOCH_SECONDS
        self.on = False
        self.honest = 0
        self.spends = {}
        call = Line.call

        async def tagged(line, body):
            answer = await call(line, body)
            return self.answer(wire.read_request(body), answer) if self.on else answer

        monkeypatch.setattr(Line, "call", tagged)

    def knows(self, payment):
        self.spends[payment.lock_id] = Spend.parse(payment.spend)

    def answer(self, request, answer):
        match request, wire.read_reply(answer):
            case Keysets(), _ if self.honest:
                self.honest -= 1
            case Keysets(), KeysetList():
                answer = wire.encode(KeysetList((self.keys.keyset(self.epoch, 50).signed,)))
            case Buy(), Sigs():
                outputs = zip(BUNDLES[request.bundle], request.outputs, strict=True)
                answer = wire.encode(Sigs(tuple(self.sign(j, B) for j, B in outputs)))
            case Change(), Changed(sigs=sigs) as changed:
                blanks = self.spends[request.lock].terms.blanks
                signed = [(j, self.sign(j, B)) for (j, _), B in zip(sigs, blanks, strict=False)]
                answer = wire.encode(replace(changed, sigs=tuple(signed)))
        return answer

    def sign(self, j, blind):
        return self.keys.sign(self.epoch, j, blind)
