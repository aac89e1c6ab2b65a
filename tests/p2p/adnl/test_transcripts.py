"""Recorded exchanges with an independent implementation, replayed through the core byte for byte.

The core is given what the recording node was given: its keys, its draws, the time, the datagrams
that came, and what its upper layers wanted sent. It must take every datagram, tell of every
message, and send the very bytes that were sent. Times are those of the recording, so no timer that
is its own affair (`nop`) comes into it.
"""

import base64
import json
from collections import deque
from pathlib import Path

import pytest

from p2p.adnl import address, box, packet
from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Message, Query
from p2p.adnl.keys import KeyPair, to_curve
from p2p.adnl.limits import Limits
from p2p.adnl.parts import Assembly
from p2p.identity import Identity
from p2p.tl import parse_any
from p2p.ton import (
    AdnlMessageAnswer,
    AdnlMessageCreateChannel,
    AdnlMessageCustom,
    AdnlMessagePart,
)
from p2p.wire import Endpoint

DATA = Path(__file__).parents[2] / "data" / "adnl"
FILES = (
    "dht-accept",
    "dht-dial",
    "rldp2-download-10k",
    "rldp2-download-300k",
    "rldp2-upload-100k",
)
GENEROUS = Limits(peer_burst=1_000, source_burst=1_000)
"""The recording node kept no rates."""


class Transcript:
    """One file, with every datagram opened."""

    def __init__(self, name):
        self.json = json.loads((DATA / f"{name}.json").read_text())
        self.own = Identity(bytes.fromhex(self.json["node"]["seed"]))
        self.peer = Identity(bytes.fromhex(self.json["peer"]["seed"]))
        self.place = Endpoint(*self.json["node"]["address"])
        self.peer_place = Endpoint(*self.json["peer"]["address"])
        self.started_at = self.json["node"]["reinit_date"]
        self.events = self.json["events"]
        for event in self.events:
            if "dir" in event:
                event["datagram"] = base64.b64decode(event["datagram"])
                event["packet"] = packet.read(self._open(event))

    def _open(self, event):
        datagram, outgoing = event["datagram"], event["dir"] == "out"
        if event["via"] == "channel":
            way = "out" if outgoing else "in"
            assert datagram[:32].hex() == self.json["channel"][f"{way}_id"]
            secret = bytes.fromhex(self.json["channel"][f"{way}_secret"])
            return box.unseal(secret, datagram, 32)
        if outgoing:
            key = KeyPair(bytes.fromhex(event["entropy"]["ephemeral_seed"]))
            return box.unseal(key.shared(to_curve(self.peer.public)), datagram, 64)
        return packet.unseal_direct(self.own, datagram)

    def time(self, event):
        return self.json["unix0"] + event["t"]

    def messages(self, way):
        """Every message that went one way, those in parts put together."""
        assembly = Assembly()
        for event in self.events:
            if event.get("dir") != way:
                continue
            for message in event["packet"].messages:
                if not isinstance(message, AdnlMessagePart):
                    yield event, message
                elif (whole := assembly.add(message)) is not None:
                    yield event, parse_any(whole)


class Draws:
    """The recorded draws, in the order in which the core asks for them."""

    def __init__(self, transcript):
        self.paddings, self.seeds = deque(), deque()
        channel = [bytes.fromhex(transcript.json["node"]["channel_seed"])]
        for event in transcript.events:
            if event.get("kind") == "query":
                self.seeds.append(bytes.fromhex(event["query_id"]))
            if "dir" not in event:
                continue
            direct_out = event["dir"] == "out" and event["via"] == "direct"
            offer = event["packet"].messages[0]
            if direct_out or isinstance(offer, AdnlMessageCreateChannel):
                self.seeds += channel
                channel = []
            if direct_out:
                self.seeds.append(bytes.fromhex(event["entropy"]["ephemeral_seed"]))
            if event["dir"] == "out":
                self.paddings.append([event["entropy"][name] for name in ("rand1", "rand2")])

    def token(self, n):
        if n == 32:
            return self.seeds.popleft()
        assert n == 31
        first, last = map(bytes.fromhex, self.paddings.popleft())
        return b"\0" + first.ljust(15, b"\0") + last.ljust(15, b"\0")

    def uniform(self):
        return 0.5

    def fork(self, label):
        return self


class Replay:
    """Drives the core by a transcript, and holds what it gave."""

    def __init__(self, name):
        self.transcript = transcript = Transcript(name)
        self.draws = Draws(transcript)
        self.core = AdnlCore([transcript.own], self.draws, transcript.started_at, limits=GENEROUS)
        start = transcript.json["unix0"]
        published = address.address_list([transcript.place], transcript.started_at)
        self.core.set_addresses(start, transcript.own.id, published)
        if transcript.events[0].get("dir") != "in":
            self.core.add_peer(start, transcript.peer.public, [transcript.peer_place])
        self.answers = {
            message.query_id: message.answer
            for _, message in transcript.messages("out")
            if isinstance(message, AdnlMessageAnswer)
        }
        self.sent, self.told = [], []

    def run(self):
        for event in self.transcript.events:
            now = self.transcript.time(event)
            if event.get("dir") == "in":
                self.core.receive(now, self.transcript.peer_place, event["datagram"])
            elif event.get("dir") == "out":
                self.say(now, event["packet"].messages)
            elif event["kind"] == "query":
                own, peer = self.transcript.own.id, self.transcript.peer.id
                self.core.query(now, own, peer, base64.b64decode(event["data"]), 60.0)
            self.collect(now)

    def say(self, now, messages):
        """What the node's RLDP2 wanted sent, which stands in the recorded bytes alone."""
        for message in messages:
            if isinstance(message, AdnlMessageCustom):
                own, peer = self.transcript.own.id, self.transcript.peer.id
                self.core.send(now, own, peer, message.data)

    def collect(self, now):
        sends, events = self.core.drain()
        self.sent += sends
        self.told += events
        for event in events:
            if isinstance(event, Query):
                self.core.answer(now, event.token, self.answers[event.token.query_id])
                self.collect(now)


@pytest.fixture(scope="module", params=FILES)
def replay(request):
    replay = Replay(request.param)
    replay.run()
    return replay


def recorded(replay, way):
    return [e["datagram"] for e in replay.transcript.events if e.get("dir") == way]


def test_every_incoming_datagram_is_taken(replay):
    statistics = replay.core.statistics()
    assert statistics.drops == {}
    assert statistics.accepted == statistics.received == len(recorded(replay, "in"))


def test_every_outgoing_datagram_is_made_again_byte_for_byte(replay):
    assert [send.data for send in replay.sent] == recorded(replay, "out")
    assert {send.to for send in replay.sent} == {replay.transcript.peer_place}
    assert not replay.draws.paddings
    assert not replay.draws.seeds


def test_upper_layers_are_told_what_was_sent_to_them(replay):
    came = [message for _, message in replay.transcript.messages("in")]
    told = [e.payload for e in replay.told if isinstance(e, Message)]
    assert told == [m.data for m in came if isinstance(m, AdnlMessageCustom)]
    answers = [e.payload for e in replay.told if isinstance(e, Answered)]
    assert answers == [m.answer for m in came if isinstance(m, AdnlMessageAnswer)]


def test_the_files_hold_as_many_datagrams_as_they_say():
    events = [event for name in FILES for event in Transcript(name).events]
    assert sum(event.get("dir") == "in" for event in events) == 460
    assert sum(event.get("dir") == "out" for event in events) == 228
