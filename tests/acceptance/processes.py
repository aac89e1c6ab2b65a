"""Nodes as processes: questions under way, commands, deaths, and waiting for what others do."""

import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from scripts.api import client as control
from scripts.failure import CODES, Failed

PATIENCE = 40
"""seconds for what takes one or two on an idle machine."""

PROMPT = "Tell me of the moths, all of them, one by one."


# --- asking ---


class Asking:
    """A question under way in a thread of its own, and what has come of it."""

    def __init__(self, party, prompt=PROMPT, *, of=None, seed=None, **options):
        self.answered = self.worker = None
        self.failure = None
        self.text = ""
        self.took = 0.0
        self.longest = 0.0
        """seconds between two words of it, at the most"""
        self._news = threading.Condition()
        self._over = False
        body = control.question(prompt, **options)
        if of is not None:
            body["tussah"]["worker"] = of
        if seed is not None:
            body["seed"] = seed
        self._thread = threading.Thread(target=self._run, args=(party, body))
        self._thread.start()

    def _run(self, party, body):
        began = heard = time.monotonic()
        try:
            for name, document in control.stream(party.home.socket, "POST", "/ask", body):
                now = time.monotonic()
                self.longest, heard = max(self.longest, now - heard), now
                with self._news:
                    self._note(name, document)
                    self._news.notify_all()
        except Failed as failed:
            self.failure = failed.failure
        self.took = time.monotonic() - began
        with self._news:
            self._over = True
            self._news.notify_all()

    def _note(self, name, document):
        if name == "offered":
            self.worker = document["worker"]
        elif name == "piece":
            self.text += document["text"]
        elif name == "done":
            self.answered = document

    @property
    def tokens(self):
        """Tokens of the answer that have come, as the fake engine makes them: its € is two."""
        return len(self.text.split()) + self.text.count("€")

    def _wait(self, condition):
        with self._news:
            assert self._news.wait_for(lambda: self._over or condition(), PATIENCE)
            assert self.failure is None, self.failure
            assert condition()

    def offered(self):
        """Wait until a worker has agreed; it need not have begun. Gives its id."""
        self._wait(lambda: self.worker)
        return self.worker

    def begun(self, tokens=1):
        """Wait for the first piece, or for so many tokens."""
        self._wait(lambda: self.tokens >= tokens)
        return self

    def end(self):
        """Wait until it is over."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self

    def answer(self):
        """The document of a whole answer."""
        assert self.end().failure is None, self.failure
        return self.answered


def asked(party, **options):
    """An ask from begin to end; a few tokens are enough to see that it works."""
    return Asking(party, **{"max_tokens": 3, **options}).end()


# --- the command line ---

TUSSAH = [sys.executable, "-m", "scripts.cli.main"]


@contextmanager
def command(home, *words):
    """A command under way."""
    process = subprocess.Popen(
        [*TUSSAH, *words, "--home", str(home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        yield process


def check_command(expected, process):
    """A command ends with code, exit status and words as expected. Gives its standard output."""
    out, talk = process.stdout.read(), process.stderr.read()
    code, exit_status, words = expected
    assert plain(talk.decode()) == f"{words}\n", plain(talk.decode())
    assert process.wait(PATIENCE) == exit_status == CODES[code].exit
    return out.decode()


def plain(text):
    """A message without what differs from run to run."""
    text = re.sub(r"mint [0-9a-f]{8}", "mint ID", text)
    text = re.sub(r"tussah --home \S+ ", "tussah ", text)
    text = re.sub(r"(127\.0\.0\.1:|port )\d+", r"\1PORT", text)
    return re.sub(r"\(\d+\)", "(N)", text)


# --- the parties ---


def until(condition):
    """Poll other processes, which signal nothing, until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def kill(party):
    """End a process as if its machine had lost power."""
    party.process.kill()
    party.process.wait(PATIENCE)


def stop(party):
    """End a process as its owner does: it takes its leave."""
    party.process.terminate()
    assert party.process.wait(PATIENCE) == 0


def count(party, what):
    """Nodes of a kind that a party knows of."""
    return party.status()["network"][what]


def no_errors(network):
    """No party's log tells of an error of its own, or of a crash."""
    logs = "".join(party.home.log.read_text() for party in network.parties)
    return "node.started" in logs and not re.search(r'"level": "(error|critical)"|Traceback', logs)
