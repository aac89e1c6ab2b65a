"""A bot for Telegram whose answers come from a node's local API: private on the side of the model.

    tussah up --detach
    export OPENAI_BASE_URL=http://127.0.0.1:8420/v1 OPENAI_API_KEY=$(tussah key api)
    export BOT_TOKEN=...            # from @BotFather
    export BOT_CHATS=12345          # who may ask: it spends your credits; others learn their number
    python telegram_bot.py

Telegram reads what is said to a bot; the worker reads the question, but learns neither who asked
nor that it came from Telegram. Standard library only. What was said lives in memory, the last few
messages of each chat; `/new` forgets them.
"""

import json
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

POLL_SECONDS = 50
"""Telegram holds a request for news that long; then we ask again."""

REMEMBERED = 12
"""messages of a chat, questions and answers"""

LONGEST = 4_096
"""characters: Telegram takes no longer message"""

ANSWER_TOKENS = 400
MAX_PRICE_NANO = 30_000_000
"""0.03 TON for an answer, at the most"""

GREETING = "Ask me something. /new forgets what was said."
SECRET = "This bot answers its owner's chats only. The number of this one is {chat}."  # noqa: S105
SORRY = "No answer: {why}"

Message = dict[str, str]


class Refused(Exception):  # noqa: N818 - an answer, if not the one hoped for
    """The API or Telegram said no, and why."""


def call(url: str, body: dict[str, Any], key: str | None, seconds: float) -> dict[str, Any]:
    """POST a JSON document, read one. Raises `Refused`, or `OSError` if nobody listens."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the owner's own URLs
    try:
        with urlopen(request, timeout=seconds) as response:  # noqa: S310
            document: dict[str, Any] = json.load(response)
    except HTTPError as error:
        raise Refused(_why(error)) from error
    return document


def _why(error: HTTPError) -> str:
    """What OpenAI's and Telegram's errors say of themselves."""
    try:
        document = json.load(error)
        told = document["error"]["message"] if "error" in document else document["description"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
    return str(told)


@dataclass
class Bot:
    """One bot, its owner's chats, and what was said in them."""

    telegram: str
    """Address of the Bot API with the token in it."""
    api: str
    """Base URL of the local API."""
    key: str
    chats: frozenset[int]
    said: dict[int, deque[Message]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED))
    )
    offset: int = 0

    def run(self) -> None:
        """Answer, for ever. A network that is away is waited for."""
        while True:
            try:
                self.once()
            except (OSError, URLError, HTTPException, Refused) as error:
                sys.stderr.write(f"waiting: {error}\n")
                time.sleep(5)

    def once(self) -> None:
        """Wait for news, and answer each message."""
        for chat, text in self.news():
            self.hear(chat, text)

    def news(self) -> Iterator[tuple[int, str]]:
        """Messages with text that have come. What is taken is never given again."""
        wish = {"offset": self.offset, "timeout": POLL_SECONDS, "allowed_updates": ["message"]}
        updates = self._telegram("getUpdates", wish, POLL_SECONDS + 10)
        for update in updates:
            self.offset = max(self.offset, update["update_id"] + 1)
            message = update.get("message", {})
            if "text" in message:
                yield message["chat"]["id"], message["text"]

    def hear(self, chat: int, text: str) -> None:
        """Answer one message."""
        if chat not in self.chats:
            self.say(chat, SECRET.format(chat=chat))
        elif text == "/start":
            self.say(chat, GREETING)
        elif text == "/new":
            self.said.pop(chat, None)
            self.say(chat, "Forgotten.")
        else:
            self._telegram("sendChatAction", {"chat_id": chat, "action": "typing"}, 10)
            self.say(chat, self.answer(chat, text))

    def answer(self, chat: int, text: str) -> str:
        """What the model says, or why it says nothing; then the question is forgotten."""
        question = {"role": "user", "content": text}
        body = {
            "model": "auto",
            "messages": [*self.said[chat], question],
            "max_tokens": ANSWER_TOKENS,
            "tussah": {"max_price_nano": MAX_PRICE_NANO},
        }
        try:
            done = call(f"{self.api}/chat/completions", body, self.key, 600)
        except (Refused, OSError) as error:
            return SORRY.format(why=error)
        answer = str(done["choices"][0]["message"]["content"])
        self.said[chat] += [question, {"role": "assistant", "content": answer}]
        return answer

    def say(self, chat: int, text: str) -> None:
        """Send a text, in as many messages as it needs."""
        for at in range(0, len(text), LONGEST):
            part = {"chat_id": chat, "text": text[at : at + LONGEST]}
            self._telegram("sendMessage", part, 30)

    def _telegram(self, method: str, body: dict[str, Any], seconds: float) -> Any:  # noqa: ANN401
        return call(f"{self.telegram}/{method}", body, None, seconds)["result"]


def main() -> None:
    """Run the bot that the environment describes."""
    environ = os.environ
    host = environ.get("BOT_API", "https://api.telegram.org")
    chats = frozenset(int(chat) for chat in environ.get("BOT_CHATS", "").split(",") if chat)
    Bot(
        telegram=f"{host}/bot{environ['BOT_TOKEN']}",
        api=environ["OPENAI_BASE_URL"].rstrip("/"),
        key=environ["OPENAI_API_KEY"],
        chats=chats,
    ).run()


if __name__ == "__main__":
    main()
