"""The lite-server protocol, against pytoniq-core's reading of TON's own schema."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.tl.generator import TlGenerator

from ledger.chain import lite_api
from ledger.chain.lite_api import BlockId, read_payload, read_question
from p2p.errors import CodecError

SCHEMAS = TlGenerator.with_default_schemas().generate()
BLOCK = BlockId(-1, lite_api.WHOLE_SHARD, 77, bytes([1]) * 32, bytes([2]) * 32)
ID = {
    "workchain": -1,
    "shard": lite_api.WHOLE_SHARD,
    "seqno": 77,
    "root_hash": "01" * 32,
    "file_hash": "02" * 32,
}
WHO = {"workchain": 0, "id": "03" * 32}
ACCOUNT = bytes([3]) * 32
PARTS = {"workchain": -1, "shard": lite_api.WHOLE_SHARD, "seqno": 5}

QUESTIONS = [
    ("getMasterchainInfo", {}, lite_api.GetMasterchainInfo()),
    ("getTime", {}, lite_api.GetTime()),
    ("getVersion", {}, lite_api.GetVersion()),
    ("getAllShardsInfo", {"id": ID}, lite_api.GetAllShardsInfo(BLOCK)),
    (
        "getAccountState",
        {"id": ID, "account": WHO},
        lite_api.GetAccountState(BLOCK, 0, ACCOUNT),
    ),
    ("sendMessage", {"body": bytes(300)}, lite_api.SendMessage(bytes(300))),
    (
        "runSmcMethod",
        {"mode": 7, "id": ID, "account": WHO, "method_id": 85_143, "params": b"stack"},
        lite_api.RunMethod(7, BLOCK, 0, ACCOUNT, 85_143, b"stack"),
    ),
    (
        "getTransactions",
        {"count": 16, "account": WHO, "lt": 1 << 60, "hash": "04" * 32},
        lite_api.GetTransactions(16, 0, ACCOUNT, 1 << 60, bytes([4]) * 32),
    ),
    (
        "getOneTransaction",
        {"id": ID, "account": WHO, "lt": 9},
        lite_api.GetOneTransaction(BLOCK, 0, ACCOUNT, 9),
    ),
    ("getConfigAll", {"mode": 0, "id": ID}, lite_api.GetConfig(0, BLOCK, ())),
    (
        "getConfigParams",
        {"mode": 0, "id": ID, "param_list": [18, 21, -999]},
        lite_api.GetConfig(0, BLOCK, (18, 21, -999)),
    ),
    (
        "getLibraries",
        {"library_list": ["05" * 32, "06" * 32]},
        lite_api.GetLibraries((bytes([5]) * 32, bytes([6]) * 32)),
    ),
    (
        "lookupBlock",
        {"mode": 1, "id": PARTS, "lt": None, "utime": None},
        lite_api.LookupBlock(1, -1, lite_api.WHOLE_SHARD, 5, None, None),
    ),
    (
        "lookupBlock",
        {"mode": 6, "id": PARTS, "lt": 11, "utime": 12},
        lite_api.LookupBlock(6, -1, lite_api.WHOLE_SHARD, 5, 11, 12),
    ),
]


def written(name, data):
    return SCHEMAS.serialize(SCHEMAS.get_by_name("liteServer." + name), data)


def read(answer):
    """As pytoniq reads it: a dict."""
    found, size = SCHEMAS.deserialize(answer)
    assert size == len(answer)
    return found


@pytest.mark.parametrize(("name", "data", "question"), QUESTIONS)
def test_queries_are_read_as_others_write_them(name, data, question):
    assert read_question(written(name, data)) == (None, question)


@pytest.mark.parametrize(("name", "data", "question"), QUESTIONS)
def test_a_query_cut_short_or_prolonged_is_refused(name, data, question):
    whole = written(name, data)
    for size in range(4, len(whole)):
        with pytest.raises(CodecError):
            read_question(whole[:size])
    with pytest.raises(CodecError):
        read_question(whole + bytes(4))


def test_a_wait_stands_before_the_query_it_delays():
    prefix = written("waitMasterchainSeqno", {"seqno": 9, "timeout_ms": 2_500})
    wait, question = read_question(prefix + written("getTime", {}))
    assert (wait.seqno, wait.seconds) == (9, pytest.approx(2.5))
    assert question == lite_api.GetTime()


def test_a_query_that_is_not_known_is_none():
    assert read_question(written("getBlock", {"id": ID})) == (None, None)
    assert read_question(b"") == (None, None)


@pytest.mark.parametrize("count", [-1, 17, 1 << 30])
def test_lists_are_bounded_before_they_are_read(count):
    head = written("getLibraries", {"library_list": []})[:4]
    with pytest.raises(CodecError):
        read_question(head + count.to_bytes(4, "little", signed=True) + bytes(32 * 17))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_a_codec_error(data):
    heads = [written(name, fields)[:4] for name, fields, _ in QUESTIONS]
    for body in (data, *(head + data for head in heads)):
        try:
            read_question(body)
        except CodecError:
            continue


@given(st.binary(max_size=120))
def test_any_payload_is_read_or_refused(data):
    for payload in (data, bytes.fromhex("7af98bb4") + data, bytes.fromhex("9a2b084d") + data):
        try:
            read_payload(payload)
        except CodecError:
            continue


@given(st.binary(max_size=1_200))
def test_queries_and_answers_travel_in_adnl_messages(body):
    query = SCHEMAS.serialize(
        SCHEMAS.get_by_name("adnl.message.query"),
        {"query_id": "0a" * 32, "query": bytes.fromhex("df068c79") + lite_api.blob(body)},
    )
    asked = read_payload(query)
    assert (asked.number, asked.body) == (bytes([10]) * 32, body)
    answer = read(asked.answer(lite_api.message_sent()))
    assert (answer["query_id"], answer["answer"]["status"]) == ("0a" * 32, 1)


def test_a_payload_longer_than_any_query_is_refused():
    with pytest.raises(CodecError, match="too long"):
        read_payload(bytes.fromhex("7af98bb4") + bytes(lite_api.MAX_QUERY))


def test_pings_are_answered_in_kind():
    ping = SCHEMAS.serialize(SCHEMAS.get_by_name("tcp.ping"), {"random_id": -5})
    assert read(read_payload(ping).pong()) == {"@type": "tcp.pong", "random_id": -5}
    assert read_payload(b"") is None


def test_answers_are_read_by_others_as_they_are_meant():
    info = read(lite_api.masterchain_info(BLOCK))
    assert info["last"] | {"@type": ""} == ID | {"@type": ""}
    assert read(lite_api.all_shards(BLOCK, b"data"))["data"] == b"data"
    state = read(lite_api.account_state(BLOCK, BLOCK, b"proof", b"state"))
    assert (state["proof"], state["state"], state["shard_proof"]) == (b"proof", b"state", b"")
    method = read(lite_api.method_result(7, BLOCK, BLOCK, -14, b"stack"))
    assert (method["mode"], method["exit_code"], method["result"]) == (4, -14, b"stack")
    assert "result" not in read(lite_api.method_result(0, BLOCK, BLOCK, 0, b"stack"))
    page = read(lite_api.transactions([BLOCK, BLOCK], b"boc"))
    assert (len(page["ids"]), page["transactions"]) == (2, b"boc")
    assert read(lite_api.transaction(BLOCK, b"boc"))["transaction"] == b"boc"
    assert read(lite_api.current_time(1_700_000_000))["now"] == 1_700_000_000
    assert read(lite_api.version(1_700_000_000))["version"] == 0x101
    assert read(lite_api.config(BLOCK, b"one", b"two"))["config_proof"] == b"two"
    assert read(lite_api.no_libraries())["result"] == []
    assert read(lite_api.block_header(BLOCK, b"proof"))["header_proof"] == b"proof"
    refused = read(lite_api.error(652, "timeout"))
    assert (refused["code"], refused["message"]) == (652, "timeout")
