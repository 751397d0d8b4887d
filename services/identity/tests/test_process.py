"""Identity as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

from libs.channel import channel
from libs.testing import eventually
from quintet.identity.v1 import identity_pb2 as i
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub

from .conftest import Node

ROOT = Path(__file__).parents[3]


async def test_it_starts_serves_and_stops_in_order(stopped_node: Node) -> None:
    config = stopped_node.config
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.identity", "--config", str(config.path),
        cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'sdk/python/src'}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:

        async def address() -> str:
            assert process.returncode is None
            return config.runtime().services.get("identity", "")

        await eventually(address)
        async with channel(await address()) as connection:
            password = config.secrets.read("node-admin.password")
            request = i.SignInRequest(login="node-admin", password=password)
            response = await IdentityServiceStub(connection).SignIn(request)
        assert response.subject == "people/node-admin"
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 0, output.decode()
        assert password not in output.decode()
        assert response.tokens.access_token not in output.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
