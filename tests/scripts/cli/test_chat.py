"""`tussah chat`: a talk keeps what was said, also of an answer that was stopped."""

import io
import os
import pty
import signal
import sys

import pytest

from inference.client import AskFailed
from scripts.cli import chat


@pytest.fixture
def typed(monkeypatch):
    """Have these lines on standard input, from a person or a pipe."""

    def begin(text, *, person=False):
        stdin = io.StringIO(text)
        stdin.isatty = lambda: person
        monkeypatch.setattr(sys, "stdin", stdin)

    return begin


@pytest.fixture
def scripts(node, monkeypatch):
    """What the node says to one ask after another."""
    node.scripts = []
    answer = node.answer

    def next_answer(request, wish):
        if node.scripts:
            node.script = node.scripts.pop(0)
        return answer(request, wish)

    monkeypatch.setattr(node, "answer", next_answer)
    return node.scripts


def said(node, at=-1):
    return [(message.role, message.content) for message in node.asked[at][0].messages]


def test_each_question_is_sent_with_all_before_it(shell, node, typed):
    typed("Name two moths.\n\nAnd one more.\n")
    status, out, err = shell("chat", "moth", "--system", "Be brief.", "--relays", "2")
    assert (status, out) == (0, "Luna, atlas.\nLuna, atlas.\n")
    assert said(node) == [
        ("system", "Be brief."),
        ("user", "Name two moths."),
        ("assistant", "Luna, atlas."),
        ("user", "And one more."),
    ]
    assert err.count("4 tokens  30 ms to first token  0 TON\n") == 2
    ((request, wish), _) = node.asked
    assert (request.model, wish.relays) == ("moth", 2)


def test_a_question_may_have_several_lines(shell, node, typed):
    typed('One \\\nquestion.\n"""\nTwo\n\nlines.\n"""\n//slash\n')
    shell("chat")
    questions = [text for role, text in said(node) if role == "user"]
    assert questions == ["One \nquestion.", "Two\n\nlines.", "/slash"]


def test_commands_are_no_part_of_the_talk(shell, node, typed, priced):
    node.script = priced
    typed("Hello.\n/cost\n/model silk\n/model\n/clear\n/clera\n/help\nAgain.\n/quit\nNever.\n")
    status, _, err = shell("chat", "--system", "Be brief.")
    assert status == 0
    assert said(node) == [("system", "Be brief."), ("user", "Again.")]
    assert node.asked[-1][0].model == "silk"
    assert len(node.asked) == 2
    for told in ("0.0072 TON for 1 answer", "\nsilk\n", "Forgotten.", "Did you mean /clear?"):
        assert told in err
    assert "Ctrl-C stops an answer" in err


def test_a_talk_is_a_document(shell, typed, node, priced, validate):
    node.script = priced
    typed("Hello.\nAgain.\n")
    status, document = shell.document("chat")
    validate(document, "chat")
    assert (status, document["paid_nano"]) == (0, 14_400_000)
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"] * 2
    assert [answer["schema"] for answer in document["answers"]] == ["tussah/ask/1"] * 2


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(shell, node, scripts, typed, priced):
    whole = list(node.script)
    scripts += [[*priced[:5], None], whole]
    node.at_rest = lambda: os.kill(os.getpid(), signal.SIGINT)
    typed("Name two moths.\nAnd?\n", person=True)
    status, out, err = shell("chat")
    assert (status, out) == (0, "Luna, \nLuna, atlas.\n")
    assert said(node)[1:] == [("assistant", "Luna, "), ("user", "And?")]
    assert "tussah: Stopped.\n" in err
    assert "was paid for it" in err


def test_a_question_that_could_not_be_answered_can_be_asked_again(shell, node, scripts, typed):
    refusal = AskFailed(code="no_worker", message="Nobody is there.", advice="Wait.")
    scripts += [[refusal], list(node.script)]
    typed("Hello?\nHello?\n", person=True)
    status, _, err = shell("chat")
    assert status == 0
    assert "tussah: Nobody is there. Wait.\n" in err
    assert said(node) == [("user", "Hello?")]


def test_from_a_pipe_the_first_failure_ends_it(shell, node, typed, validate):
    node.script = [AskFailed(code="no_worker", message="Nobody is there.", advice="Wait.")]
    typed("Hello?\nHello?\n")
    assert shell("chat")[0] == 4
    assert len(node.asked) == 1
    typed("Hello?\n")
    status, document = shell.document("chat")
    validate(document, "error")
    assert status == 4


def test_ctrl_c_while_typing_takes_back_the_line_and_no_more(shell, node, typed, monkeypatch):
    typed("", person=True)
    lines = iter([KeyboardInterrupt, "Hello.", None])

    def type_next(_prompt):
        line = next(lines)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr(chat, "_typed", type_next)
    status, _, err = shell("chat")
    assert status == 0
    assert "Ctrl-D leaves." in err
    assert said(node) == [("user", "Hello.")]


def test_a_prompt_never_stands_among_answers_in_a_file(shell, node, typed):
    typed("Hello.\n", person=True)
    _, out, err = shell("chat")
    assert out == "Luna, atlas.\n"
    assert "> " in err


def test_at_a_terminal_the_end_of_input_leaves(monkeypatch):
    ours, theirs = pty.openpty()
    with open(theirs) as typed, open(os.dup(theirs), "w") as shown:
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stdout", shown)
        monkeypatch.setitem(sys.modules, "readline", None)
        os.write(ours, b"one\n\x04")
        assert list(chat._questions()) == ["one"]
    os.close(ours)
