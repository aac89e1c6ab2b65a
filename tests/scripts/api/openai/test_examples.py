"""The examples of docs/examples, against the local API and a stand-in for Telegram's Bot API."""

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inference.client import AskFailed
from tests.scripts.api.openai.conftest import KEY

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"

OWNER, STRANGER = 12, 666


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Telegram(ThreadingHTTPServer):
    """Has news of messages, each given until its number is passed, and hears what is sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Bot)
        self.updates, self.heard, self.paths = [], [], []

    def send(self, text, chat=OWNER):
        message = {"chat": {"id": chat}, "text": text}
        self.updates.append({"update_id": 100 + len(self.updates), "message": message})

    @property
    def said(self):
        return [body["text"] for method, body in self.heard if method == "sendMessage"]


class _Bot(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rpartition("/")[2]
        self.server.paths.append(self.path)
        if method == "getUpdates":
            result = [each for each in self.server.updates if each["update_id"] >= body["offset"]]
        else:
            self.server.heard.append((method, body))
            result = True
        raw = json.dumps({"ok": True, "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def telegram():
    with Telegram() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bot(api, telegram):
    address = f"http://127.0.0.1:{telegram.server_address[1]}/bot1:SECRET"
    made = example("telegram_bot").Bot(
        telegram=address, api=api.url, key=KEY, chats=frozenset({OWNER})
    )
    return made


def said_to(operator, at=-1):
    return [(message.role, message.content) for message in operator.asked[at][0].messages]


async def test_a_message_is_answered_by_the_network_and_remembered(bot, telegram, api, beside):
    telegram.send("Name two moths.")
    await beside(bot.once)
    telegram.send("And one more.")
    await beside(bot.once)
    assert telegram.said == ["Luna, atlas."] * 2
    assert said_to(api.operator) == [
        ("user", "Name two moths."),
        ("assistant", "Luna, atlas."),
        ("user", "And one more."),
    ]
    assert api.operator.asked[0][1].max_price.value == 30_000_000
    assert ("sendChatAction", {"chat_id": OWNER, "action": "typing"}) in telegram.heard


async def test_only_its_owner_spends_credits(bot, telegram, api, beside):
    telegram.send("Name two moths.", chat=STRANGER)
    await beside(bot.once)
    assert api.operator.asked == []
    assert "666" in telegram.said[0]


async def test_what_was_said_can_be_forgotten(bot, telegram, api, beside):
    for text in ("/start", "Hello.", "/new", "Again."):
        telegram.send(text)
    await beside(bot.once)
    assert said_to(api.operator) == [("user", "Again.")]
    await beside(bot.once)
    assert len(api.operator.asked) == 2


async def test_a_failure_is_said_and_the_question_can_be_repeated(bot, telegram, api, beside):
    whole = api.operator.script
    api.operator.script = [AskFailed(code="no_worker", message="Nobody serves.", advice="Wait.")]
    telegram.send("Hello.")
    await beside(bot.once)
    assert telegram.said[0].startswith("No answer: Nobody serves.")
    api.operator.script = whole
    telegram.send("Hello.")
    await beside(bot.once)
    assert said_to(api.operator) == [("user", "Hello.")]


async def test_a_long_answer_takes_several_messages(bot, telegram, beside):
    await beside(bot.say, OWNER, "a" * 5_000)
    assert [len(text) for text in telegram.said] == [4_096, 904]
