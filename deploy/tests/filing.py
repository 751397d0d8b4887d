"""Requests that go on being filed while parts of the node are killed, and the questions asked afterwards."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import httpx

from deploy.testing import NodeProcess
from libs.testing import eventually

EVENT_TYPE = "eventTypes/street-light"
# What the API says when the same call may succeed later.
MAY_PASS = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT, httpx.codes.CONFLICT}
RETRY_S = 0.1
SETTLE_S = 60.0


@dataclass
class Filer:
    """Files one request after another. Each keeps its request id until it is answered, as a careful client does."""

    client: httpx.AsyncClient
    answered: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Files until it is told to stop; the last request is answered too."""
        while not stop.is_set():
            await self.file()

    async def file(self, **headers: str) -> str:
        """Returns the name of the request, once the node has answered."""
        body = {"type": EVENT_TYPE, "description": "A lamp is out", "requestId": str(uuid4())}
        while True:
            try:
                answer = await self.client.post("/v1/requests", json=body, headers=headers)
            except httpx.TransportError:
                pass  # the edge is away
            else:
                if answer.status_code == httpx.codes.OK:
                    name: str = answer.json()["request"]["name"]
                    self.answered.append(name)
                    return name
                assert answer.status_code in MAY_PASS, answer.text
            await asyncio.sleep(RETRY_S)

    async def until(self, more: int) -> None:
        """Returns when so many further requests have been answered."""
        wanted = len(self.answered) + more

        async def filed() -> bool:
            return len(self.answered) >= wanted

        await eventually(filed, within_s=SETTLE_S)


async def declare_event_type(client: httpx.AsyncClient) -> None:
    """Lets requests of EVENT_TYPE be filed."""
    body = {"title": {"zh": "路灯", "en": "Street light"}, "deadline": {"minutes": 4320}}
    (await client.put(f"/v1/{EVENT_TYPE}", json=body)).raise_for_status()


async def ready(node: NodeProcess, *, within_s: float = SETTLE_S) -> None:
    """Returns when the node says that all of it is ready, of a moment from now on."""
    now = datetime.now(UTC)

    async def asked() -> bool:
        try:
            async with node.client() as client:
                answer = await client.get("/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK and datetime.fromisoformat(answer.json()["time"]) >= now

    await eventually(asked, within_s=within_s)


async def assert_consistent(client: httpx.AsyncClient, answered: list[str]) -> None:
    """What was answered is there, once, and has become an event; the audit logs of all services hold."""
    assert len(set(answered)) == len(answered)

    async def all_have_events() -> bool:
        found = await _requests(client)
        return set(answered) <= found.keys() and all(found[name] for name in answered)

    await eventually(all_have_events, within_s=SETTLE_S)
    found = await _requests(client)
    assert set(found) == set(answered), "a request was filed that nobody was told of, or twice"
    verdict = (await client.post("/v1/audit:verify", json={}, timeout=60)).json()
    assert verdict["verified"] is True, verdict
    assert len(verdict["logs"]) == 7


async def _requests(client: httpx.AsyncClient) -> dict[str, str]:
    """All requests of the node with their events."""
    found = {}
    token = ""
    while True:
        answer = await client.get("/v1/requests", params={"pageSize": 500, "pageToken": token})
        answer.raise_for_status()
        found.update({request["name"]: request["event"] for request in answer.json()["requests"]})
        token = answer.json()["nextPageToken"]
        if not token:
            return found
