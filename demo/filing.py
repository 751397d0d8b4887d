"""Residents file the recorded requests through the city's public REST API, in the order in which they were created."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo.calls import PATIENCE_S, RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S, GaveUp, first_failure
from demo.people import Accounts
from demo.records import Record
from demo.timeline import FilingPosition

CONCURRENCY = 16
REQUESTS = "/v1/requests"
TIMEOUT_S = 30.0
# UNAVAILABLE, and a deadline. ABORTED also invites another attempt; it shares 409 with ALREADY_EXISTS, which does not.
RETRIED = frozenset({httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})
ABORTED = 10
RESIDENTS = tuple(f"resident.{number:02}" for number in range(1, 21))
CHANNELS = {
    "Phone": "REQUEST_CHANNEL_PHONE",
    "Web": "REQUEST_CHANNEL_WEB",
    "Mobile/Open311": "REQUEST_CHANNEL_MOBILE",
    "Twitter": "REQUEST_CHANNEL_SOCIAL",
    "Integrated Agency": "REQUEST_CHANNEL_AGENCY",
    "Other Department": "REQUEST_CHANNEL_AGENCY",
    "Email": "REQUEST_CHANNEL_EMAIL",
}
# The ids of requests are made from the keys of the records, so that filing again changes nothing.
NAMESPACE = uuid.UUID("5b7e2a35-5d1c-4a5b-9a6b-2f1b0f6a3e11")


class FilingRefused(RuntimeError):
    """The city refused a request for good."""


@dataclass(slots=True)
class Filed:
    """What the city answered: the record and the doubts (code to reason) by the name of the request."""

    records: dict[str, Record] = field(default_factory=dict)
    flags: dict[str, Mapping[str, str]] = field(default_factory=dict)


def body(record: Record) -> dict[str, Any]:
    """The request as the API takes it: what the record says, whether it makes sense or not."""
    said = ", ".join(text for text in (record.category, record.kind.strip(), record.descriptor) if text)
    return {
        "type": f"eventTypes/{record.event_type}",
        "description": said,
        "place": {
            "address": record.address,
            "point": {"latitude": record.latitude, "longitude": record.longitude},
            "zoneHint": record.district,
            "neighbourhood": record.neighbourhood,
        },
        "channel": CHANNELS.get(record.source, "REQUEST_CHANNEL_UNSPECIFIED"),
        "reportedAt": record.created.isoformat().replace("+00:00", "Z"),
        "externalId": record.external_id,
        "requestId": str(uuid.uuid5(NAMESPACE, record.key)),
    }


def resident_of(record: Record) -> str:
    """Who files the record: always the same one, as only the same person's request is recognised when filed again."""
    return RESIDENTS[uuid.uuid5(NAMESPACE, record.key).int % len(RESIDENTS)]


class Filing:
    """Files all records. `admit` is waited for before each, so that the offices keep up; `told` hears of each one."""

    def __init__(
        self,
        url: str,
        accounts: Accounts,
        records: Sequence[Record],
        position: FilingPosition,
        *,
        admit: Callable[[], Awaitable[None]],
        told: Callable[[], None],
    ) -> None:
        self.filed = Filed()
        self._http = httpx.AsyncClient(
            base_url=url, timeout=TIMEOUT_S, limits=httpx.Limits(max_connections=CONCURRENCY)
        )
        self._accounts = accounts
        self._records = records
        self._position = position
        self._admit = admit
        self._told = told
        self._tokens: dict[str, str] = {}
        self._next = 0

    async def run(self) -> Filed:
        """File everything; FilingRefused or GaveUp for the first record that cannot be."""
        async with self._http:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(CONCURRENCY):
                        group.create_task(self._clerk())
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from None
        return self.filed

    async def _clerk(self) -> None:
        while self._next < len(self._records):
            index = self._next
            self._next += 1
            await self._admit()
            await self._file(self._records[index])
            self._position.filed_at(index)
            self._told()

    async def _file(self, record: Record) -> None:
        resident = resident_of(record)
        content = body(record)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        delay_s = RETRY_DELAY_FIRST_S
        while True:
            try:
                answer = await self._post(resident, content)
            except httpx.TransportError as error:
                reason = repr(error)
            else:
                if answer.is_success:
                    self._keep(record, answer.json()["request"])
                    return
                reason = f"{answer.request.url.path}: {answer.status_code} {answer.text}"
                if answer.status_code == httpx.codes.UNAUTHORIZED and answer.request.url.path == REQUESTS:
                    self._tokens.pop(resident, None)  # it has expired
                elif not _may_help(answer):
                    raise FilingRefused(f"{record.external_id}: {reason}")
            if loop.time() > deadline:
                raise GaveUp(f"{record.external_id} was not filed within {PATIENCE_S:.0f} s: {reason}")
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - only to spread the attempts
            delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)

    def _keep(self, record: Record, request: Mapping[str, Any]) -> None:
        name = str(request["name"])
        self.filed.records[name] = record
        self.filed.flags[name] = {flag["code"]: flag["reason"] for flag in request.get("flags", ())}

    async def _post(self, resident: str, content: Mapping[str, Any]) -> httpx.Response:
        """File as a resident, signed in before if need be; returns the answer to the first call that fails."""
        if resident not in self._tokens:
            credentials = {"login": resident, "password": self._accounts.password("sf", resident)}
            answer = await self._http.post("/v1/sessions:signIn", json=credentials)
            if not answer.is_success:
                return answer
            self._tokens[resident] = str(answer.json()["tokens"]["accessToken"])
        authorization = {"authorization": f"Bearer {self._tokens[resident]}"}
        return await self._http.post(REQUESTS, json=content, headers=authorization)


def _may_help(answer: httpx.Response) -> bool:
    """Whether the same call may be answered otherwise a little later."""
    if answer.status_code == httpx.codes.CONFLICT:
        try:
            return bool(answer.json().get("code") == ABORTED)
        except ValueError:
            return False
    return answer.status_code in RETRIED
