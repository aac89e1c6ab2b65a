"""OpenAI's own client, unmodified, before a node that a test scripts."""

import asyncio

import pytest
import trio

from inference.client import AskFailed
from ledger.money import Nano
from tests.scripts.api.openai.conftest import KEY
from tests.scripts.api.openai.test_examples import example

QUESTION = [{"role": "user", "content": "Name two moths."}]

ANSWER = "Luna, atlas."


@pytest.fixture
def client(openai, api):
    with openai.OpenAI(base_url=api.url, api_key=KEY) as client:
        yield client


async def test_a_whole_answer(client, beside, api):
    create = client.chat.completions.create
    answer = await beside(create, model="auto", messages=QUESTION, seed=5, temperature=0.5)
    choice = answer.choices[0]
    assert (choice.message.content, choice.message.role) == (ANSWER, "assistant")
    assert choice.finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 4)
    assert answer.model == "moth@q4"
    assert answer.model_extra["tussah"]["schema"] == "tussah/ask/1"
    assert "answer" not in answer.model_extra["tussah"]
    request, _ = api.operator.asked[0]
    assert (request.seed, request.temperature) == (5, 500)
    assert len(api.operator.kept) == 1


async def test_the_sdk_example_streams_and_says_what_it_cost(
    api, beside, openai, monkeypatch, capsys
):
    monkeypatch.setenv("OPENAI_BASE_URL", api.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    await beside(example("ask_with_openai_sdk").main, "Name two moths.")
    out, err = capsys.readouterr()
    assert out == "Luna, atlas.\n"
    assert "0 nano paid; 3 relays, one of 2 workers" in err


def read(create, **body):
    """All chunks of a stream."""
    with create(messages=QUESTION, model="auto", stream=True, **body) as stream:
        return list(stream)


async def test_a_stream_is_the_same_answer(client, beside):
    chunks = await beside(read, client.chat.completions.create)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 5 + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].model_extra["tussah"]["usage"]["total_tokens"] == 13
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_comes_last_for_who_asks(client, beside):
    options = {"include_usage": True}
    chunks = await beside(read, client.chat.completions.create, stream_options=options)
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 13)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert "tussah" not in (chunks[-2].model_extra or {})


async def test_a_text_is_continued(client, beside, api):
    whole = await beside(client.completions.create, model="auto", prompt="Two moths:")
    assert (whole.object, whole.choices[0].text) == ("text_completion", ANSWER)
    assert (api.operator.asked[0][0].text, api.operator.asked[0][0].messages) == ("Two moths:", ())


async def test_a_text_is_continued_piece_by_piece(client, beside):
    def pieces():
        with client.completions.create(model="auto", prompt="?", stream=True) as stream:
            return [chunk.choices[0].text for chunk in stream]

    assert "".join(await beside(pieces)) == ANSWER


async def test_models_are_listed_and_found(openai, client, beside):
    models = await beside(lambda: list(client.models.list()))
    assert [model.id for model in models] == ["auto", "luna@q4", "moth@q4"]
    assert (await beside(client.models.retrieve, "luna@q4")).owned_by == "tussah"
    with pytest.raises(openai.NotFoundError) as failed:
        await beside(client.models.retrieve, "wasp")
    assert failed.value.code == "model_not_found"


async def test_our_own_fields_go_through_the_sdk(client, beside, api):
    own = {"tussah": {"max_price_nano": 5, "relays": 2}}
    await beside(client.chat.completions.create, model="auto", messages=QUESTION, extra_body=own)
    _, wish = api.operator.asked[0]
    assert (wish.max_price, wish.relays) == (Nano(5), 2)


def failure(code):
    return AskFailed(
        code=code, message="So it is.", advice="Do.", paid=Nano(300), quoted=Nano(1_000)
    )


@pytest.mark.parametrize(
    ("code", "raised", "tries"),
    [
        ("price_above_cap", "APIStatusError", 1),
        ("no_worker", "InternalServerError", 1),
        ("worker_lost", "InternalServerError", 1),
        ("busy", "RateLimitError", 2),
        ("context_length_exceeded", "BadRequestError", 1),
    ],
)
async def test_what_may_have_cost_something_is_never_tried_again(
    openai, api, beside, monkeypatch, code, raised, tries
):
    monkeypatch.setattr("scripts.api.openai.errors.RETRY_AFTER", b"0")
    api.operator.script = [failure(code)]
    client = openai.OpenAI(base_url=api.url, api_key=KEY, max_retries=1)
    with client, pytest.raises(getattr(openai, raised)) as failed:
        await beside(client.chat.completions.create, model="auto", messages=QUESTION)
    assert len(api.operator.asked) == tries
    assert failed.value.code == code
    assert "So it is. Do." in failed.value.message


async def test_a_failure_in_mid_stream_is_raised_with_its_code(openai, client, beside, api):
    api.operator.script = [*api.operator.script[:5], failure("worker_lost")]
    got = []

    def pieces():
        create = client.chat.completions.create
        with create(model="auto", messages=QUESTION, stream=True) as stream:
            got.extend(chunk.choices[0].delta.content for chunk in stream)

    with pytest.raises(openai.APIError) as failed:
        await beside(pieces)
    assert "".join(got) == "Luna, "
    assert failed.value.code == "worker_lost"


async def test_a_wrong_key_is_said(openai, api, beside):
    client = openai.OpenAI(base_url=api.url, api_key="other")
    with client, pytest.raises(openai.AuthenticationError) as failed:
        await beside(client.models.list)
    assert failed.value.code == "invalid_api_key"
    assert "tussah key api" in failed.value.message


async def test_who_leaves_in_mid_stream_stops_the_ask(client, beside, api):
    api.operator.script = [*api.operator.script[:5], None]

    def leave():
        create = client.chat.completions.create
        with create(model="auto", messages=QUESTION, stream=True) as stream:
            next(iter(stream))

    await beside(leave)
    client.close()
    with trio.fail_after(30):
        await api.operator.ended.wait()


# --- without threads: on trio, and on asyncio in a thread of its own ---


async def asked(openai, url):
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
        create = client.chat.completions.create
        whole = await create(model="auto", messages=QUESTION)
        stream = await create(model="auto", messages=QUESTION, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    return whole.choices[0].message.content, "".join(pieces)


@pytest.fixture
def twice(api):
    """The stand-in tells its answer once for each who asks."""
    script = api.operator.script
    api.operator.answer = _again(api.operator, script)


def _again(operator, script):
    answer = operator.answer

    def again(request, wish):
        operator.script = list(script)
        return answer(request, wish)

    return again


# It leaves its generators at [DONE] to be collected, which trio warns of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_it_speaks_to_programs_on_trio(openai, api, twice):
    with trio.fail_after(30):
        assert await asked(openai, api.url) == (ANSWER, ANSWER)


async def test_it_speaks_to_programs_on_asyncio(openai, api, twice, beside):
    assert await beside(lambda: asyncio.run(asked(openai, api.url))) == (ANSWER, ANSWER)
