"""What several of the tests of the libraries begin with."""

from collections.abc import AsyncIterator

import pytest

from libs.rpc import Server, TokenAuthenticator
from libs.tests import callers, sample
from libs.tests.serving import GRANTS, Running, Servicer


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    servicer = Servicer()
    server = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS))
    server.add(sample.registrar(sample.SAMPLE), servicer, sample.SAMPLE)
    port = await server.start()
    made = Running(server, servicer, f"127.0.0.1:{port}")
    yield made
    for opened in made.channels:
        await opened.close()
    await server.stop(0)
