"""What people do through the public API while faults happen: requests, directives and their receipt, held transfers.

Each keeps its request id until it is answered, as a careful client does: so everything is done once.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx

from deploy.tests.filing import MAY_PASS
from e2e.faults.federation import CITY, DISTRICT_HINT, DISTRICT_ZONE, PARTNER, Federation
from e2e.faults.ledger import (
    DIRECTIVE_FACTS,
    DIRECTIVES,
    REQUESTS,
    TRANSFERS,
    Ledger,
    TransferStep,
)
from e2e.faults.nodes import FaultNode, read
from libs.clock import SystemClock
from libs.db import Pool
from libs.errors import Away
from quintet.federation.v1 import directive_pb2

RETRY_S = 0.1
CLERK_POLL_S = 0.2
# No directive of a run expires, also where a clock is an hour wrong.
DIRECTIVE_VALID = timedelta(days=2)
START = "TransferStartMessage"
STARTED = "TRANSFER_STATE_STARTED"
STARTED_WITHIN_S = 240.0


class People:
    """The people of all nodes, signed in as their administrators."""

    def __init__(self, federation: Federation, chance: random.Random) -> None:
        self._federation = federation
        self._chance = chance
        self._tokens: dict[str, str] = {}
        # By URL, which changes when a node starts again: to make a client costs more than a call.
        self._http: dict[str, httpx.AsyncClient] = {}
        self._steps: Counter[tuple[str, str, str]] = Counter()

    async def close(self) -> None:
        """Close all connections."""
        for client in self._http.values():
            await client.aclose()

    async def file(self, ledger: Ledger, requests: int) -> None:
        """File requests at the city for the district's zone, one after another."""
        for _ in range(requests):
            body = {
                "type": self._federation.event_type,
                "description": "A lamp is out",
                "place": {"zoneHint": DISTRICT_HINT, "address": f"{uuid4().hex[:12]} Street"},
            }
            answer = await self._post(self._federation.city, "/v1/requests", body)
            ledger.requests.append(answer["request"]["name"])
            ledger.sent[REQUESTS] += 1

    async def direct(self, ledger: Ledger, directives: int) -> None:
        """Give directives to the district's zone at the city. Acknowledging them is the clerk's work."""
        for _ in range(directives):
            title = f"Inspect {uuid4().hex}"
            expires_at = (SystemClock().now() + DIRECTIVE_VALID).isoformat()
            body = {"directive": {"zone": DISTRICT_ZONE, "title": title, "expiresAt": expires_at}}
            answer = await self._post(self._federation.city, "/v1/directives", body)
            ledger.directives[answer["directive"]["name"]] = title
            ledger.sent[DIRECTIVES] += DIRECTIVE_FACTS

    async def acknowledge(self, district: Pool) -> None:
        """The clerk of the district: acknowledges what has been delivered there, until cancelled."""
        query = "SELECT id FROM federation.directives WHERE state = $1 AND lower = ''"
        while True:
            with suppress(Away):
                for row in await read(district, query, directive_pb2.DIRECTIVE_STATE_DELIVERED):
                    path = f"/v1/directives/{row['id']}:acknowledge"
                    await self._post(self._federation.district, path, {}, request_id=f"acknowledge-{row['id']}"[:64])
            await asyncio.sleep(CLERK_POLL_S)

    async def hold_transfer(self, ledger: Ledger, pause_s: float) -> None:
        """Suspend the contract's transfer and start it again, at either end; or end it and ask for the rows anew."""
        anew = self._chance.random() < 0.5
        node = self._federation.node(CITY if anew else self._chance.choice([CITY, PARTNER]))
        name = await self._started()
        if anew:
            await self._step(ledger, node, name, "complete", "TransferCompletionMessage")
            await asyncio.sleep(pause_s)
            answer = await self._post(node, f"/v1/{self._federation.contract}/transfers", {})
            self._note(ledger, node, answer["transfer"]["name"], "TransferRequestMessage")
        else:
            await self._step(ledger, node, name, "suspend", "TransferSuspensionMessage", reason="a count of the rows")
            await asyncio.sleep(pause_s)
            await self._step(ledger, node, name, "start", START)

    async def _step(self, ledger: Ledger, node: FaultNode, name: str, verb: str, message: str, **body: str) -> None:
        await self._post(node, f"/v1/{name}:{verb}", body)
        self._note(ledger, node, name, message)

    def _note(self, ledger: Ledger, node: FaultNode, name: str, message: str) -> None:
        step = (name, message, node.id)
        self._steps[step] += 1
        # The provider's node itself has started each transfer once.
        before = int((message, node.id) == (START, PARTNER))
        ledger.steps.append(TransferStep(*step, nth=self._steps[step] + before))
        ledger.sent[TRANSFERS] += 1

    async def _started(self) -> str:
        """The name of the contract's transfer, once it flows and both ends have seen the same steps of it.

        Before, a step taken at one end may meet one of the other on its way, and be rightly refused.
        """
        query = {"contract": self._federation.contract, "state": STARTED}
        async with asyncio.timeout(STARTED_WITHIN_S):
            while True:
                here, there = [
                    (await self._ask(node, "GET", "/v1/transfers", params=query))["transfers"]
                    for node in (self._federation.city, self._federation.partner)
                ]
                if here and there and (here[0]["name"], here[0]["step"]) == (there[0]["name"], there[0]["step"]):
                    return str(here[0]["name"])
                await asyncio.sleep(RETRY_S)

    async def _post(self, node: FaultNode, path: str, body: dict[str, Any], request_id: str = "") -> dict[str, Any]:
        return await self._ask(node, "POST", path, json=body | {"requestId": request_id or str(uuid4())})

    async def _ask(self, node: FaultNode, method: str, path: str, **content: Any) -> dict[str, Any]:
        """The answer, however often it takes: nodes are away, and sign-ins end with what was lost."""
        while True:
            with suppress(httpx.TransportError):
                if node.id not in self._tokens:
                    self._tokens[node.id] = await _sign_in(node)
                headers = {"authorization": f"Bearer {self._tokens[node.id]}"}
                answer = await self._client(node).request(method, path, headers=headers, **content)
                if answer.status_code == httpx.codes.OK:
                    return dict(answer.json())
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    self._tokens.pop(node.id, None)
                else:
                    assert answer.status_code in MAY_PASS, answer.text
            await asyncio.sleep(RETRY_S)

    def _client(self, node: FaultNode) -> httpx.AsyncClient:
        url = node.process.url
        if url not in self._http:
            self._http[url] = node.process.client()
        return self._http[url]


async def _sign_in(node: FaultNode) -> str:
    while True:
        with suppress(httpx.HTTPStatusError, httpx.TransportError):
            async with node.process.signed_in() as client:
                return client.headers["authorization"].removeprefix("Bearer ")
        await asyncio.sleep(RETRY_S)
