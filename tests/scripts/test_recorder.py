"""The recorder of a demonstration: what counts as seen, where it is found, and what is not."""

import json
from dataclasses import asdict

import pytest

from inference.protocol import Chunk
from p2p import codec, wire
from p2p.entropy import seeded
from p2p.identity import AdnlId, Identity
from p2p.onion import cell
from p2p.onion.cell import Cell, Command, Frame, Info
from p2p.wire import FRAME, Endpoint, Kind, Link, Message
from scripts import recorder
from scripts.recorder import About, Markers, Recorder, Seen

CLIENT, WORKER, RELAY = (Identity(name * 32) for name in (b"c", b"w", b"r"))
HERE, THERE = Endpoint("127.0.0.1", 40_001), Endpoint("127.0.0.1", 4_001)
TO_CLIENT, TO_WORKER, TO_RELAY = (Link(node.id, 1) for node in (CLIENT, WORKER, RELAY))

PROMPT = 'Who said "wild silk" first?\nIn Überlingen?'
ANSWER = "Nobody knows, but moths have been there before us."

MARKERS = Markers(
    client_public=CLIENT.public,
    client_addresses=("127.0.0.1:40001",),
    worker_public=WORKER.public,
    prompt=PROMPT,
    answer=ANSWER,
)


def said(data, kind=Kind.QUERY):
    return wire.pack(Message(kind, 1, data))


def onion(*commands):
    frames = [Frame(7, command, 0, b"").pack(seeded(1)) for command in commands]
    return said(b"".join(frames), Kind.ONION)


def in_cells(message, size=cell.MAX_DATA, stream=1):
    """The plaintexts of the cells that carry one message of a stream."""
    framed = codec.frame(message)
    parts = [framed[at : at + size] for at in range(0, len(framed), size)]
    offsets = [size * i for i in range(len(parts))]
    cells = [
        Cell(stream, cell.Kind.DATA, 0, offset, part)
        for offset, part in zip(offsets, parts, strict=True)
    ]
    return [one.pack(4) for one in cells]


def chunk(text, first=0):
    return Chunk(first=first, ids=(1,), text=text).encode()


def saw(recording, own=RELAY, markers=MARKERS):
    """The facts that a recording holds; all others are False."""
    found = asdict(recording.seen(markers, own.id).saw)
    return {name for name, held in found.items() if held}


@pytest.fixture
def recording():
    return Recorder()


# --- in the messages of links ---


def test_a_recorder_that_heard_nothing_saw_nothing(recording):
    seen = recording.seen(MARKERS, RELAY.id)
    assert not any(asdict(seen.saw).values())
    assert (seen.frames, seen.odd_frames, seen.bytes) == (0, 0, 0)
    assert (seen.complete, seen.clear_on_links, seen.neighbours) == (True, False, ())


@pytest.mark.parametrize(("text", "what"), [(PROMPT, "prompt"), (ANSWER, "answer")])
@pytest.mark.parametrize("sent", [True, False])
def test_text_in_a_message_of_a_link_is_seen_and_in_clear(recording, text, what, sent):
    recording.message(TO_RELAY, sent, said(b"before " + text.encode() + b" after"))
    assert saw(recording) == {what}
    assert recording.seen(MARKERS, RELAY.id).clear_on_links


def test_a_piece_of_a_text_is_enough_and_less_is_chance(recording):
    window = ANSWER.encode()[: recorder.WINDOW]
    recording.message(TO_RELAY, True, said(window[:-1]))
    assert saw(recording) == set()
    recording.message(TO_RELAY, True, said(window))
    assert saw(recording) == {"answer"}


def test_two_messages_do_not_make_a_text_of_their_ends(recording):
    recording.message(TO_RELAY, True, said(PROMPT.encode()[:6]))
    recording.message(TO_RELAY, True, said(PROMPT.encode()[6:12]))
    assert saw(recording) == set()


@pytest.mark.parametrize("name", [CLIENT.id, CLIENT.public])
@pytest.mark.parametrize("form", [bytes, lambda name: name.hex().encode()])
def test_every_form_of_the_askers_id_is_seen_on_a_link(recording, name, form):
    recording.message(TO_RELAY, False, said(b"from " + form(name)))
    assert saw(recording) == {"client_id"}


def test_workers_in_the_directory_are_no_meeting(recording):
    recording.message(TO_RELAY, False, said(WORKER.public + WORKER.id, Kind.ANSWER))
    assert saw(recording) == set()


# --- in what is opened and sealed ---


@pytest.mark.parametrize(("text", "what"), [(PROMPT, "prompt"), (ANSWER, "answer")])
def test_text_in_an_opened_plaintext_is_seen_and_not_in_clear_on_links(recording, text, what):
    recording.plaintext("create-request", text.encode())
    assert saw(recording) == {what}
    assert not recording.seen(MARKERS, RELAY.id).clear_on_links


@pytest.mark.parametrize(("node", "what"), [(WORKER, "worker_id"), (CLIENT, "client_id")])
def test_a_node_that_a_circuit_is_to_go_on_to_is_met(recording, node, what):
    recording.plaintext("create-info", Info(next=node.id, issued=60).pack())
    assert saw(recording) == {what}


def test_a_prompt_as_json_escapes_it_is_seen(recording):
    escaped = json.dumps({"content": PROMPT}).encode()
    assert PROMPT.encode() not in escaped
    recording.plaintext("cell", escaped)
    assert saw(recording) == {"prompt"}
    recording = Recorder()
    recording.plaintext("cell", json.dumps({"content": PROMPT}, ensure_ascii=False).encode())
    assert saw(recording) == {"prompt"}


@pytest.mark.parametrize("what", ["opened", "sealed"])
def test_an_answer_in_many_messages_is_put_together(recording, what):
    for at in range(0, len(ANSWER), 4):
        for text in in_cells(chunk(ANSWER[at : at + 4], at)):
            recording.plaintext(what, text)
    assert saw(recording) == {"answer"}


@pytest.mark.parametrize("size", [1, 5, 11])
def test_a_message_cut_into_small_cells_is_put_together(recording, size):
    for text in in_cells(chunk(ANSWER), size):
        recording.plaintext("opened", text)
    assert saw(recording) == {"answer"}


def test_pieces_of_different_streams_and_directions_are_not_mixed(recording):
    half = recorder.WINDOW // 2
    sides = [("opened", 1), ("sealed", 1), ("opened", 2)]
    for (what, stream), text in zip(sides, (ANSWER[:half], ANSWER[half : 2 * half], "x"), strict=1):
        for one in in_cells(chunk(text), stream=stream):
            recording.plaintext(what, one)
    assert saw(recording) == set()


def test_a_stream_that_is_no_protocol_of_ours_breaks_nothing(recording):
    recording.plaintext("opened", Cell(1, cell.Kind.DATA, 0, 0, b"\x01\0\0\0\xc1 junk").pack(4))
    assert saw(recording) == set()


# --- short texts ---


def test_a_text_shorter_than_a_window_is_sought_whole(recording):
    markers = Markers.from_json(MARKERS.to_json() | {"prompt": "Is silk?", "client_addresses": []})
    recording.plaintext("cell", b"... Is silk! ...")
    assert saw(recording, markers=markers) == set()
    recording.plaintext("cell", b"... Is silk? ...")
    assert saw(recording, markers=markers) == {"prompt"}


def test_a_few_letters_count_in_quotes_only(recording):
    markers = Markers.from_json(MARKERS.to_json() | {"prompt": "Why?", "client_addresses": []})
    recording.plaintext("cell", b"...Why?...")
    assert saw(recording, markers=markers) == set()
    recording.plaintext("cell", b'{"content":"Why?"}')
    assert saw(recording, markers=markers) == {"prompt"}


def test_no_text_is_never_seen(recording):
    markers = Markers.from_json(MARKERS.to_json() | {"answer": "", "client_addresses": []})
    recording.message(TO_RELAY, True, said(b'noise "" noise'))
    assert saw(recording, markers=markers) == set()


# --- neighbours and frames ---


@pytest.mark.parametrize(
    "command", [Command.CREATE, Command.CREATED, Command.CELL, Command.FAIL, Command.DESTROY]
)
def test_frames_of_circuits_make_neighbours(recording, command):
    recording.message(TO_WORKER, True, onion(command))
    recording.message(TO_CLIENT, False, onion(Command.PADDING, command))
    assert recording.seen(MARKERS, RELAY.id).neighbours == (WORKER.id, CLIENT.id)
    assert saw(recording) == {"worker_id", "client_id"}


@pytest.mark.parametrize("command", [Command.HELLO, Command.PADDING, Command.CREDIT])
def test_frames_of_the_link_itself_make_none(recording, command):
    recording.message(TO_WORKER, True, onion(command))
    recording.message(TO_WORKER, True, said(b"a query"))
    assert recording.seen(MARKERS, RELAY.id).neighbours == ()
    assert saw(recording) == set()


def test_frames_are_counted_and_those_of_another_size_apart(recording):
    recording.message(TO_RELAY, True, onion(Command.CELL, Command.CELL, Command.CELL))
    recording.message(TO_RELAY, False, onion(Command.CREDIT))
    recording.message(TO_RELAY, True, said(b"no frame"))
    seen = recording.seen(MARKERS, RELAY.id)
    assert (seen.frames, seen.odd_frames) == (4, 0)

    for size in (0, 1, FRAME - 1, FRAME + 1):
        recording.message(TO_RELAY, True, said(bytes(size), Kind.ONION))
    seen = recording.seen(MARKERS, RELAY.id)
    assert (seen.frames, seen.odd_frames) == (4, 4)


@pytest.mark.parametrize("data", [b"", b"\x02", b"\xff" * 20])
def test_what_is_no_message_is_kept_and_counts_as_no_frame(recording, data):
    recording.message(TO_RELAY, False, data)
    seen = recording.seen(MARKERS, RELAY.id)
    assert (seen.odd_frames, seen.frames, seen.bytes) == (0, 0, len(data))


# --- addresses, and what a node knows of itself ---


def test_the_askers_address_is_seen_at_the_other_end_of_its_connection(recording):
    recording.meet(TO_CLIENT, THERE, HERE)
    assert saw(recording) == {"client_address"}
    assert recording.about(RELAY.public).addresses == ("127.0.0.1:4001",)


def test_another_nodes_address_is_not_the_askers(recording):
    recording.meet(TO_WORKER, HERE, THERE)
    assert saw(recording) == set()


def test_a_node_knows_itself(recording):
    recording.meet(TO_RELAY, HERE, THERE)
    assert saw(recording, own=CLIENT) == {"client_address", "client_id"}
    assert saw(recording, own=WORKER) == {"worker_id"}


# --- room ---


def test_what_found_no_room_makes_the_recording_incomplete(recording, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_BYTES", 2_000)
    recording.message(TO_RELAY, True, said(bytes(1_991)))
    assert recording.seen(MARKERS, RELAY.id).complete
    recording.plaintext("create-request", PROMPT.encode())
    for text in in_cells(chunk(ANSWER)):
        recording.plaintext("opened", text)
    recording.message(TO_WORKER, True, onion(Command.CELL))

    seen = recording.seen(MARKERS, RELAY.id)
    assert not seen.complete
    assert not seen.saw.prompt
    assert not seen.saw.answer
    assert (seen.frames, seen.neighbours) == (1, (WORKER.id,))
    assert seen.bytes > 2_000


# --- logs ---


@pytest.mark.parametrize(
    "line",
    [
        CLIENT.id.hex(),
        CLIENT.public.hex(),
        "dialled by 127.0.0.1:40001",
        PROMPT,
        json.dumps(PROMPT),
        ANSWER,
    ],
)
def test_a_log_that_names_the_asker_or_the_text_is_known(line):
    assert MARKERS.names_asker(f"info {line}\n".encode())


def test_a_log_of_other_things_is_innocent():
    line = f"worker {WORKER.id.hex()} at 127.0.0.1:4001 has answered 50 tokens"
    assert not MARKERS.names_asker(line.encode())


# --- as they travel ---


def through_json(value):
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


def test_values_come_back_from_json_as_they_were(recording):
    recording.meet(TO_CLIENT, THERE, HERE)
    recording.message(TO_WORKER, True, onion(Command.CELL, Command.DESTROY))
    recording.plaintext("create-request", PROMPT.encode())
    seen = recording.seen(MARKERS, RELAY.id)
    assert isinstance(seen, Seen)
    assert seen.neighbours == (AdnlId(WORKER.id),)
    about = About(public=CLIENT.public, addresses=("127.0.0.1:1", "[::1]:2"))
    for value in (MARKERS, seen, about, recording.about(RELAY.public)):
        assert through_json(value) == value
