"""Nobody but the owner's own programs uses the API, though every web page can reach loopback."""

import pytest

from scripts.api.openai.access import NAMES

ASK = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}


def error(response):
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1:1", ""])
async def test_a_rebound_name_is_refused(api, host):
    async with api.http(host=host) as client:
        assert error(await client.get("/v1/models")) == (403, "forbidden_origin")


@pytest.mark.parametrize("name", NAMES)
async def test_our_own_names_are_heard(api, name):
    async with api.http(host=f"{name}:{api.port}") as client:
        assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/nothing"])
async def test_a_page_elsewhere_is_refused_and_told_nothing(api, path):
    async with api.http(origin="http://evil.example") as client:
        response = await client.get(path)
        asked = await client.post("/v1/chat/completions", json=ASK)
    assert error(response) == error(asked) == (403, "forbidden_origin")
    assert "access-control-allow-origin" not in response.headers
    assert api.operator.asked == []


async def test_our_own_page_and_those_that_are_named_are_let_in(api):
    for origin in (f"http://localhost:{api.port}", "http://localhost:3000"):
        async with api.http(origin=origin) as client:
            response = await client.get("/v1/models")
            assert response.headers["access-control-allow-origin"] == origin
            asked = await client.options("/v1/models", headers={"authorization": ""})
            assert asked.status_code == 204
            assert "authorization" in asked.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer other", "tussah-key", "bearer tussah-key"])
async def test_without_the_key_nothing_is_said_or_spent(api, key):
    async with api.http(authorization=key) as client:
        assert error(await client.get("/v1/models")) == (401, "invalid_api_key")
        posted = await client.post("/v1/chat/completions", json=ASK)
        assert error(posted) == (401, "invalid_api_key")
        assert (await client.get("/health")).json() == {"status": "ok"}
    assert api.operator.asked == []


async def test_nothing_is_spent_by_a_get(api):
    async with api.http() as client:
        response = await client.get("/v1/chat/completions")
    assert error(response) == (404, "unsupported_endpoint")
    assert api.operator.asked == []


async def test_what_is_not_there_is_said_with_what_is(api):
    async with api.http() as client:
        for path in ("/v1/responses", "/v1/embeddings"):
            response = await client.post(path, json={})
            assert error(response) == (404, "unsupported_endpoint")
            assert "/v1/chat/completions" in response.json()["error"]["message"]
        broken = await client.get("/tussah/v1/status")
    assert error(broken) == (500, "internal")
    assert "planted" not in broken.text


async def test_more_at_once_than_are_allowed_wait(api):
    api.operator.running = 2
    async with api.http() as client:
        response = await client.post("/v1/chat/completions", json=ASK)
    assert error(response) == (429, "busy")
    assert (response.headers["x-should-retry"], response.headers["retry-after"]) == ("true", "2")
