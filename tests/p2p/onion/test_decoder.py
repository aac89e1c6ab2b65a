"""The recorded circuits, judged by a decoder that was written from their specification alone."""

import ast
import copy
import importlib.util
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).parent

spec = importlib.util.spec_from_file_location("onion_decoder", HERE / "decoder.py")
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)

RECORDINGS = {recording.name: recording for recording in decoder.load()}
OPEN = [name for name, recording in RECORDINGS.items() if recording.session]
FAILED = [name for name, recording in RECORDINGS.items() if recording.fail]
BAD = RECORDINGS["refused frames"]
REASONS = {
    "a flipped bit": "does not open",
    "the last cell again": "does not open",
    "a cell too early": "does not open",
    "a cell of a wrong length": "not the length of a cell here",
    "a cell of another depth": "not the length of a cell here",
    "a length past the end of the frame": "longer than a frame",
    "a flipped bit in e": "does not open",
    "a flipped bit in a CREATE": "does not open",
    "a CREATE of a wrong length": "not the length of a CREATE",
    "a relay at the endpoint's depth": "a relay where only an endpoint can be",
    "a low-order point to a relay": "low-order point",
    "a low-order point to an endpoint": "low-order point",
    "an ek with a coefficient of q": "not an ML-KEM key",
    "an ek of coefficients over q": "not an ML-KEM key",
    "a flipped bit in a CREATED": "does not open",
    "a low-order point from the guard": "low-order point",
    "a CREATED of a wrong length": "not the length of a CREATED",
    "a flipped bit in a FAIL": "does not open",
}


@pytest.fixture(scope="module")
def circuits():
    return {name: decoder.Circuit(recording) for name, recording in RECORDINGS.items()}


@pytest.fixture
def circuit(circuits, name):
    return circuits[name]


@pytest.fixture
def refusing(circuits):
    return circuits[BAD.name]


def assert_frames(recorded, computed):
    """A recorded frame is 1200 bytes, and all but the random ones behind its body are known."""
    for frame, expected in zip(recorded, computed, strict=True):
        assert len(frame) == decoder.FRAME
        assert frame[: 8 + len(expected.body)] == expected.pack()


def entries(*reasons):
    return [bad for bad in BAD.bad if bad.why in reasons]


def named(bad):
    return f"{bad.why} on link {bad.link}"


def flipped(body):
    """Every body that is one bit away."""
    number = int.from_bytes(body, "little")
    for bit in range(8 * len(body)):
        yield (number ^ 1 << bit).to_bytes(len(body), "little")


def opens(key, number, body):
    try:
        return bool(decoder._open_cell(key, number, body))
    except decoder.RefusedError:
        return False


def with_hop(recording, index, **changed):
    hops = list(recording.hops)
    hops[index] = hops[index]._replace(**changed)
    return replace(recording, hops=hops)


def damaged(value):
    return bytes([value[0] ^ 8]) + value[1:]


def all_create(circuit):
    return b"".join(circuit.creates)


def all_created(circuit):
    return b"".join(circuit.replies)


# --- The file ---


def test_the_decoder_shares_no_code_with_what_it_judges():
    tree = ast.parse((HERE / "decoder.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert not any(module.split(".")[0] == "p2p" for module in modules)


def test_the_file_is_written_in_the_one_form():
    text = decoder.VECTORS.read_bytes()
    pairs = []
    json.loads(text, object_pairs_hook=lambda items: pairs.append([key for key, _ in items]))
    assert all(keys == sorted(keys) for keys in pairs)
    assert not re.search(rb'"(?=[0-9a-f]*[A-F])[0-9a-fA-F]+"', text)
    assert text.endswith(b"\n")
    assert not text.endswith(b"\n\n")


def test_the_file_holds_every_promised_case():
    relays = {len(recording.hops) - 1 for recording in RECORDINGS.values()}
    failures = {(len(r.hops) - 1, r.fail.hop) for r in RECORDINGS.values() if r.fail}
    busy = [r.hops[1].status[0] for r in RECORDINGS.values() if len(r.create) == 2]
    assert relays == {1, 2, 3}
    assert failures >= {(1, 1), (2, 2), (3, 1), (3, 2), (3, 3)}
    assert 3 in busy
    assert {bad.why for bad in BAD.bad} == set(REASONS)


@pytest.mark.parametrize("name", ["1 relay", "2 relays", "3 relays"])
def test_the_cells_stand_before_on_and_after_every_rekey(name):
    for forward in True, False:
        cells = [cell for cell in RECORDINGS[name].cells if cell.forward == forward]
        assert [cell.number for cell in cells] == [0, 1, 1023, 1024, 1025, 2048]
        assert {0, decoder.DATA} <= {len(cell.data) for cell in cells}


# --- Set-up (section 5) ---


@pytest.mark.parametrize("name", RECORDINGS)
def test_create_is_recomputed_on_every_link(circuit):
    for recorded, computed in zip(circuit.recording.create, circuit.create_frames(), strict=True):
        assert_frames(recorded, computed)


@pytest.mark.parametrize("name", RECORDINGS)
def test_created_is_recomputed_on_every_link(circuit):
    for recorded, computed in zip(circuit.recording.created, circuit.created_frames(), strict=True):
        assert_frames(recorded, computed)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_message_has_the_size_of_its_depth(circuit):
    creates = [len(message) for message in circuit.creates]
    replies = [len(message) for message in reversed(circuit.replies)]
    assert creates == [2384, 2240, 2096, 1952][: len(creates)]
    assert replies == [2384, 2320, 2256, 2192][: len(replies)]


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_hop_opens_its_create_and_passes_on_the_next(circuit):
    recording = circuit.recording
    inner = [*circuit.creates[1:], recording.request]
    for link, frames in enumerate(recording.create, 1):
        assert circuit.deliver(link, frames) == inner[link - 1]


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_client_reads_the_answer_of_the_last_hop_reached(circuit):
    recording = circuit.recording
    last = recording.hops[len(recording.create) - 1]
    offer = recording.offer if last.role == decoder.ENDPOINT else b""
    assert circuit.deliver(1, recording.created[-1]) == last.status + offer


@pytest.mark.parametrize("name", RECORDINGS)
def test_session_and_resume_come_from_the_exporter_of_an_open_circuit(circuit):
    assert circuit.session == circuit.recording.session
    assert circuit.resume == circuit.recording.resume


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_path_ends_at_the_hop_that_refuses(circuit):
    recording = circuit.recording
    reached, beyond = (
        recording.hops[: len(recording.create)],
        recording.hops[len(recording.create) :],
    )
    assert not any(hop.refuses for hop in reached[:-1])
    assert bool(recording.session) == (not beyond and not reached[-1].refuses)
    assert all(hop.status == bytes(16) for hop in beyond)


@pytest.mark.parametrize("name", RECORDINGS)
def test_circuit_numbers_are_local_to_the_link_and_never_zero(circuit):
    numbers = circuit.numbers()
    assert 0 not in numbers
    assert len(set(numbers)) == len(numbers)


def test_the_time_of_issue_is_a_whole_minute():
    assert all(recording.issued % 60 == 0 for recording in RECORDINGS.values())


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("field", ["id", "onion_private", "client_ephemeral", "puzzle"])
def test_what_a_hop_was_sent_shows_in_create(circuits, index, field):
    recording = RECORDINGS["3 relays"]
    changed = {field: damaged(getattr(recording.hops[index], field))}
    other = decoder.Circuit(with_hop(recording, index, **changed))
    assert all_create(other) != all_create(circuits[recording.name])


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("field", ["hop_ephemeral", "status"])
def test_what_a_hop_chose_shows_in_created_alone(circuits, index, field):
    recording = RECORDINGS["3 relays"]
    value = getattr(recording.hops[index], field)
    changed = {field: value[:4] + damaged(value[4:])}  # a status keeps its code
    other, kept = decoder.Circuit(with_hop(recording, index, **changed)), circuits[recording.name]
    assert all_create(other) == all_create(kept)
    assert all_created(other) != all_created(kept)


@pytest.mark.parametrize("field", ["network", "issued", "kem_seed", "request"])
def test_what_the_client_chose_shows_in_create(circuits, field):
    recording = RECORDINGS["3 relays"]
    value = getattr(recording, field)
    other = replace(recording, **{field: value + 60 if isinstance(value, int) else damaged(value)})
    assert all_create(decoder.Circuit(other)) != all_create(circuits[recording.name])


@pytest.mark.parametrize("field", ["kem_m", "offer"])
def test_what_the_endpoint_chose_shows_in_created_alone(circuits, field):
    recording, kept = RECORDINGS["3 relays"], circuits["3 relays"]
    other = decoder.Circuit(replace(recording, **{field: damaged(getattr(recording, field))}))
    assert all_create(other) == all_create(kept)
    assert all_created(other) != all_created(kept)


# --- Cells (sections 6 and 7) ---


@pytest.mark.parametrize("name", OPEN)
def test_every_cell_is_recomputed_on_every_link(circuit):
    for cell in circuit.recording.cells:
        assert_frames(cell.frames, circuit.cell_frames(cell))


@pytest.mark.parametrize("name", OPEN)
def test_every_hop_opens_one_layer_of_a_forward_cell(circuit):
    for cell in circuit.recording.cells:
        if not cell.forward:
            continue
        frames = [decoder.unpack(frame) for frame in cell.frames]
        texts = [
            circuit.hop_takes_cell(link, cell.number, frame) for link, frame in enumerate(frames, 1)
        ]
        assert texts[:-1] == [frame.body for frame in frames[1:]]
        assert texts[-1][: decoder.COUNTED] == decoder.cell_plaintext(cell)


@pytest.mark.parametrize("name", OPEN)
def test_the_client_opens_every_layer_of_a_backward_cell(circuit):
    for cell in circuit.recording.cells:
        if not cell.forward:
            text = circuit.client_takes_cell(cell.number, decoder.unpack(cell.frames[-1]))
            assert text[: decoder.COUNTED] == decoder.cell_plaintext(cell)


@pytest.mark.parametrize("name", OPEN)
def test_the_offsets_of_a_stream_leave_no_gap(name):
    ends = {}
    for cell in RECORDINGS[name].cells:
        if cell.stream:
            stream = cell.forward, cell.stream
            assert cell.offset == ends.get(stream, 0)
            ends[stream] = cell.offset + len(cell.data)


@pytest.mark.parametrize("name", FAILED)
def test_a_fail_is_recomputed_and_peeled_to_the_relay_that_sent_it(circuit):
    failure = circuit.recording.fail
    assert_frames(failure.frames, circuit.fail_frames(failure))
    assert circuit.client_takes_fail(decoder.unpack(failure.frames[-1])) == failure[:2]


# --- What must be refused ---


@pytest.mark.parametrize("bad", BAD.bad, ids=named)
def test_a_bad_frame_is_refused_for_the_reason_it_names(refusing, bad):
    with pytest.raises(decoder.RefusedError, match=REASONS[bad.why]):
        refusing.deliver(bad.link, bad.frames)


def test_refused_frames_leave_the_circuit_as_it_was(refusing):
    for bad in BAD.bad:
        with pytest.raises(decoder.RefusedError):
            refusing.deliver(bad.link, bad.frames)
    answer = refusing.deliver(1, BAD.created[-1])
    assert answer == BAD.hops[-1].status + BAD.offer


@pytest.mark.parametrize("bad", entries("a flipped bit"), ids=named)
def test_a_flipped_cell_is_the_next_cell_but_for_one_bit(refusing, bad):
    body = decoder.unpack(bad.frames[0]).body
    key, number = refusing.forward_keys[bad.link - 1], refusing.next_number(forward=True)
    assert any(opens(key, number, near) for near in flipped(body))


@pytest.mark.parametrize(("why", "ahead"), [("the last cell again", -1), ("a cell too early", 1)])
def test_a_cell_out_of_turn_would_open_in_its_turn(refusing, why, ahead):
    number = refusing.next_number(forward=True)
    for bad in entries(why):
        key, body = refusing.forward_keys[bad.link - 1], decoder.unpack(bad.frames[0]).body
        assert opens(key, number + ahead, body)


def test_a_flipped_create_and_created_are_good_but_for_one_bit(refusing):
    reasons = "a flipped bit in e", "a flipped bit in a CREATE", "a flipped bit in a CREATED"
    for bad in entries(*reasons):
        frames = [decoder.unpack(frame) for frame in bad.frames]
        good = refusing.replies[-1] if "CREATED" in bad.why else refusing.creates[0]
        pairs = zip(decoder.joined(frames), good, strict=True)
        assert sum((one ^ other).bit_count() for one, other in pairs) == 1


def test_a_flipped_fail_is_the_next_of_the_guard_but_for_one_bit(refusing):
    [bad] = entries("a flipped bit in a FAIL")
    key, number = refusing.backward_keys[0], refusing.next_number(forward=False)
    near = flipped(decoder.unpack(bad.frames[0]).body)
    good = next(body for body in near if opens(key, number, body))
    assert refusing.client_takes_fail(decoder.Frame(0, decoder.FAIL, 0, good))[0] == 1


@pytest.mark.parametrize(
    "bad", entries("a low-order point to a relay", "a low-order point to an endpoint"), ids=named
)
def test_a_low_order_point_is_all_that_is_wrong_with_its_create(refusing, monkeypatch, bad):
    checked = decoder.dh

    def careless(private, public):
        try:
            return checked(private, public)
        except decoder.RefusedError:
            return bytes(32)

    monkeypatch.setattr(decoder, "dh", careless)
    refusing.deliver(bad.link, bad.frames)


def test_a_low_order_point_from_the_guard_hides_a_good_status(refusing):
    [bad] = entries("a low-order point from the guard")
    message = decoder.joined([decoder.unpack(frame) for frame in bad.frames])
    handshake = copy.copy(refusing.asked[0])
    handshake.second(message[:32], bytes(32))
    decoder.check_status(handshake.open(message[32:])[: decoder.STATUS])


@pytest.mark.parametrize(
    "bad", entries("an ek with a coefficient of q", "an ek of coefficients over q"), ids=named
)
def test_the_ek_is_all_that_is_wrong_with_its_create(refusing, monkeypatch, bad):
    monkeypatch.setattr(decoder, "encapsulate", lambda ek, m: (bytes(32), bytes(decoder.CT)))
    refusing.deliver(bad.link, bad.frames)


def test_the_depth_is_all_that_is_wrong_with_a_relay_behind_the_last(refusing, monkeypatch):
    [bad] = entries("a relay at the endpoint's depth")
    monkeypatch.setattr(decoder, "MAX_DEPTH", decoder.MAX_DEPTH + 1)
    assert len(refusing.deliver(bad.link, bad.frames)) == decoder.create_length(5)


def test_every_layer_of_every_cell_guards_every_region(circuits):
    circuit = circuits["3 relays"]
    cell = next(cell for cell in circuit.recording.cells if cell.forward and cell.number == 1024)
    frames = [decoder.unpack(frame) for frame in cell.frames]
    for (link, frame), bit in itertools.product(enumerate(frames, 1), [0, 4000, -1]):
        bits = 8 * len(frame.body)
        number = int.from_bytes(frame.body, "little") ^ 1 << bit % bits
        body = number.to_bytes(len(frame.body), "little")
        with pytest.raises(decoder.RefusedError):
            circuit.hop_takes_cell(link, cell.number, frame._replace(body=body))
