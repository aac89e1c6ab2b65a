"""`tussah chat`: questions and answers in turn, each sent with all that was said before.

What is said lives in this process alone: no file keeps it, and neither does the node.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from scripts.api import client
from scripts.cli import answering
from scripts.cli.answering import USUAL, Manner
from scripts.cli.client import reach_or_start
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import at_home, count, spent, ton
from scripts.failure import Document, Failed, suggestion

FENCE: Final = '"""'
"""Stands alone on the line before, and on the one after, what has several lines."""

PROMPT, MORE = "> ", ". "

LEAVE: Final = ("/quit", "/exit")

HELP: Final = f"""A line that ends in \\ goes on in the next; so do all between two lines {FENCE}.
/clear     forget what was said
/model M   ask another model; /model alone: which one is asked
/cost      what this conversation has cost
/quit      leave, as Ctrl-D does
Ctrl-C stops an answer and keeps what came of it. To send a line that begins with /, begin with //.
"""


def chat(
    model: str | None = None,
    /,
    *,
    system: str | None = None,
    manner: Manner = USUAL,
    common: Common = PLAIN,
) -> int:
    """Talk with a model: each question is sent with all that was said before. /help says more.

    Ctrl-C stops an answer, which stays part of the talk as far as it came. Nothing of it is written
    to disk. From a pipe, each line is a question. Without a running node one is started that only
    asks.

    Parameters
    ----------
    model
        The model to ask; auto takes what most workers serve.
    system
        What the model is told before everything else: how to answer.
    """
    talk = _Talk(common=common, manner=manner, model=model)
    if system:
        talk.messages.append(client.said("system", system))
    path = reach_or_start(common.home)
    if _is_person():
        say("Ctrl-C stops an answer, Ctrl-D leaves, /help says more.")
    for text in _questions():
        if text in LEAVE:
            break
        if text.startswith("/") and not text.startswith("//"):
            talk.obey(text)
            continue
        try:
            talk.ask(text.removeprefix("/") if text.startswith("//") else text, path)
        except Failed as failed:
            if not _is_person():
                raise
            talk.tell(failed)
    if common.as_json:
        give(talk.document())
    return 0


@final
@dataclass(slots=True, kw_only=True)
class _Talk:
    """What was said so far, and what it cost."""

    common: Common
    manner: Manner
    model: str | None
    messages: list[Document] = field(default_factory=list)
    answers: list[Document] = field(default_factory=list)
    paid: int = 0

    def ask(self, text: str, path: Path) -> None:
        """One question and its answer. Raises `Failed`; an answer that is cut is kept."""
        question, pieces = client.said("user", text), list[str]()
        body = client.conversation(
            [*self.messages, question],
            model=self.model,
            max_tokens=self.manner.max_tokens,
            tussah=self.manner.wish(),
        )
        try:
            document = answering.ask(path, body, self.common, pieces.append)
        except Failed as failed:
            self.paid += _paid(failed.failure.cost)
            self._keep(question, "".join(pieces))
            raise
        self.paid += _paid(document["cost"])
        self.answers.append(document)
        self._keep(question, str(document["answer"]))
        if not self.common.as_json:
            answering.finish(document)

    def _keep(self, question: Document, answer: str) -> None:
        """A question without any answer is no part of the talk: it can be asked again."""
        if answer:
            self.messages += [question, client.said("assistant", answer)]

    def tell(self, failed: Failed) -> None:
        """Say what went wrong, and what it cost all the same."""
        failure = failed.failure
        say(f"tussah: {replace(failure, advice=at_home(failure.advice, self.common.home.path))}")
        if failure.cost is not None:
            say(at_home(spent(failure.cost), self.common.home.path))

    def obey(self, text: str) -> None:
        """A line that is about the talk, and no part of it."""
        word, *rest = text.split()
        match word, rest:
            case "/clear", []:
                self.messages = [each for each in self.messages if each["role"] == "system"]
                say("Forgotten.")
            case "/model", [model]:
                self.model = model
            case "/model", []:
                say(self.model or "auto: what the settings say, or most workers serve")
            case "/cost", []:
                say(f"{ton(self.paid)} for {count(len(self.answers), 'answer')}")
            case "/help", []:
                say(HELP.rstrip())
            case _:
                near = suggestion(word, ["/clear", "/model", "/cost", "/help", *LEAVE])
                say(f"{word} is no command here. {near or 'See /help.'}")

    def document(self) -> Document:
        """The `chat` document."""
        return {
            "schema": "tussah/chat/1",
            "messages": self.messages,
            "answers": self.answers,
            "paid_nano": self.paid,
        }


def _paid(cost: object) -> int:
    """Nano, of what a document says of an answer's cost."""
    paid = cost.get("paid_nano") if isinstance(cost, Mapping) else 0
    return paid if isinstance(paid, int) else 0


# --- what is typed ---


def _is_person() -> bool:
    return sys.stdin.isatty()


def _questions() -> Iterator[str]:
    """What is asked, one after another, to the end of input; blank lines are nothing."""
    while (line := _line(PROMPT)) is not None:
        text = "\n".join(_lines(line)).strip()
        if text:
            yield text


def _lines(first: str) -> Iterator[str]:
    """The lines of one question, the first of which is there."""
    line: str | None = first
    if first.strip() == FENCE:
        while (line := _line(MORE)) is not None and line.strip() != FENCE:
            yield line
        return
    while line is not None and line.endswith("\\"):
        yield line[:-1]
        line = _line(MORE)
    yield line or ""


def _line(prompt: str) -> str | None:
    """A line, None at the end of input. From a person, Ctrl-C takes back what was typed of it."""
    if not _is_person():
        return _read()
    while True:
        try:
            return _typed(prompt)
        except KeyboardInterrupt:
            say("\nCtrl-D leaves.")


def _typed(prompt: str) -> str | None:
    """With the arrow keys, and what was typed before, if answers go to the terminal as well."""
    if not sys.stdout.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return _read()
    with suppress(ImportError):
        import readline as readline
    try:
        return input(prompt)
    except EOFError:
        out("\n")
        return None


def _read() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None
