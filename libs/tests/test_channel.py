"""Channels: a service that is away, late or elsewhere, and whose token goes along."""

import asyncio

import pytest

from libs.access import Caller, Kind, acting_as
from libs.channel import RECONNECT_DELAY_FIRST_S
from libs.errors import Away, Forbidden, Unauthenticated
from libs.rpc import channel
from libs.tests import callers, sample
from libs.tests.sample import Request
from libs.tests.serving import RESIDENT, Running
from libs.tokens import ServiceSigner


async def test_an_absent_service_is_away(running: Running) -> None:
    await running.server.stop(0)
    with pytest.raises(Away) as caught:
        await running.service_stub().Open(Request())
    assert caught.value.metadata["dependency"] == "sample"


async def test_a_service_that_is_slow_to_greet_is_waited_for(running: Running) -> None:
    # As one on a busy machine: it takes the connection at once, and says something only later.
    async def relay(inward: asyncio.StreamReader, outward: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3 * RECONNECT_DELAY_FIRST_S)
        there = await asyncio.open_connection(*running.address.split(":"))
        async with asyncio.TaskGroup() as both:
            both.create_task(_pass_on(inward, there[1]))
            both.create_task(_pass_on(there[0], outward))

    slow = await asyncio.start_server(relay, "127.0.0.1", 0)
    address = f"127.0.0.1:{slow.sockets[0].getsockname()[1]}"
    async with channel(address, dependency="sample") as opened, slow:
        assert (await sample.Stub(opened, sample.SAMPLE).Open(Request())).subject == "anonymous"


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(4096):
        sink.write(data)
        await sink.drain()
    sink.close()


async def test_a_service_that_moved_is_found_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.channel.RESOLVE_AGAIN_S", 0)
    address = "127.0.0.1:1"
    running.channels.append(channel(lambda: address, dependency="sample"))
    stub = sample.Stub(running.channels[0], sample.SAMPLE)
    with pytest.raises(Away):
        await stub.Open(Request())
    address = running.address
    with pytest.raises(Away):
        await stub.Open(Request())
    assert (await stub.Open(Request())).subject == "anonymous"


async def test_as_caller_forwards_the_token_of_the_call_being_served(running: Running) -> None:
    made = channel(running.address, signer=ServiceSigner("management", callers.SERVICE_KEYS["management"]))
    running.channels.append(made)
    token = callers.token(RESIDENT)
    with acting_as(Caller(RESIDENT, Kind.PERSON, callers.grants(RESIDENT), token)):
        assert (await sample.Stub(made.as_caller(), sample.SAMPLE).Mine(Request())).subject == RESIDENT
        assert (await sample.Stub(made, sample.SAMPLE).Mine(Request())).subject == "services/management"
        with pytest.raises(Forbidden):
            await sample.Stub(made.as_caller(), sample.SAMPLE).Read(Request())
    with pytest.raises(Unauthenticated):
        await sample.Stub(made.as_caller(), sample.SAMPLE).Mine(Request())
    running.channels.append(channel(running.address, token=token))
    assert (await sample.Stub(running.channels[-1], sample.SAMPLE).Mine(Request())).subject == RESIDENT
