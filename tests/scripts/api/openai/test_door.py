"""The local API finds a port, and a taken one is said."""

import pytest

from scripts.api.openai.door import opened, port_of
from scripts.failure import Failed


async def shut(listeners):
    for listener in listeners:
        await listener.aclose()


async def test_another_program_may_have_our_port():
    first = await opened("auto")
    second = await opened("auto")
    try:
        assert port_of(first) != port_of(second)
        hosts = [listener.socket.getsockname()[0] for listener in (*first, *second)]
        assert set(hosts) <= {"127.0.0.1", "::1"}
        with pytest.raises(Failed, match=f"Port {port_of(second)} .* taken") as failed:
            await opened(str(port_of(second)))
        assert failed.value.failure.code == "address_in_use"
    finally:
        await shut([*first, *second])


async def test_it_can_be_off():
    assert await opened("off") == []
