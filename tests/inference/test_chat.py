"""Templates render as their authors mean, and reach nothing else."""

import pytest

from inference.catalogue import builtin_path
from inference.chat import MAX_OUTPUT, Template
from inference.gguf import describe, parse
from p2p.errors import BadModel

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def render(text, *said, date=None):
    messages = [{"role": role, "content": content} for role, content in said]
    return Template(text).render(messages, special=SPECIAL, date=date)


@pytest.fixture(scope="module")
def smollm():
    with builtin_path().open("rb") as file:
        return describe(parse_start(file)).template


def parse_start(file):
    return parse(memoryview(file.read()))


def test_the_built_in_template_renders_a_conversation(smollm):
    asked = [("system", "Be brief."), ("user", "Hi\n"), ("assistant", "Yes?"), ("user", "<b>")]
    assert render(smollm, *asked) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi\n<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n"
        "<|im_start|>user\n<b><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_built_in_template_has_a_system_message_of_its_own(smollm):
    assert render(smollm, ("user", "Hi")).startswith("<|im_start|>system\nYou are a helpful AI")


LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant') }}{% endif %}{% endfor %}"
)


def test_special_tokens_have_their_texts():
    said = [("user", " a "), ("assistant", "b"), ("user", "c")]
    assert render(LLAMA_2, *said) == "<s>[INST] a [/INST] b</s><s>[INST] c [/INST]"


def test_a_template_may_refuse():
    assert render(LLAMA_2, ("tool", "a")) is None


def test_blocks_are_trimmed_as_transformers_does():
    text = "  {% for message in messages %}\n{{ message.content }}\n  {% endfor %}\n"
    assert render(text, ("user", "a"), ("user", "b")) == "a\nb\n"


def test_loops_can_be_left():
    text = "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}"
    assert render(text, ("user", "a"), ("user", "b")) == "a"


def test_json_is_written_as_it_is():
    said = ("user", "\u00e9<'\"")
    assert render("{{ messages[0].content | tojson }}", said) == '"\u00e9<\'\\""'
    assert render("{{ [1] | tojson(indent=1) }}") == "[\n 1\n]"


def test_the_day_is_the_askers_or_none():
    text = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}"
    assert render(text, date=20_780) == "23 Nov 2026"
    assert render(text) == ""
    assert render(text, date=10**9) is None


def test_the_messages_are_not_the_callers():
    messages = [{"role": "user", "content": "a"}]
    Template("{% set _ = messages[0].update(role='x') %}").render(messages, special=SPECIAL)
    assert messages == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ strftime_now.__self__.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{% set _ = messages.append(1) %}",
        "{{ messages[0].nothing.more }}",
        "{{ 'a' * 10**9 }}",
        "{{ messages * 100000 }}",
        "{{ 100000 * 'a' }}",
        "{{ 10 ** 10000000 }}",
        "{{ 2 ** 65 }}",
        "{{ 1 / 0 }}",
        "{{ range(10**9) | list }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_what_a_template_must_not_do_gives_nothing(text):
    assert render(text, ("user", "a"), date=1) is None


def test_small_products_and_powers_are_allowed():
    assert render("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 3 * 4 }}{{ 2 ** 0.5 < 2 }}") == "---102412True"


def test_output_is_bounded():
    text = "{% for i in range(1000) %}{{ messages[0].content }}{% endfor %}"
    assert render(text, ("user", "x" * (MAX_OUTPUT // 1000 + 1))) is None
    assert len(render(text, ("user", "x" * 10))) == 10_000


@pytest.mark.parametrize("text", ["{% if %}", "{{", "{% for %}", "{{ a | nothing }}"])
def test_what_is_no_template_is_a_bad_model(text):
    with pytest.raises(BadModel):
        Template(text)
