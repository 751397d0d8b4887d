"""A request that comes again is answered again, not done again."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from libs import context
from libs.db import Connection
from libs.errors import AlreadyExists, NotFound, Reason
from libs.testing import MakeTransactions
from libs.tx import Transactions, Tx
from quintet.identity.v1.directory_pb2 import (
    PutServiceAccountRequest,
    PutServiceAccountResponse,
    PutZoneRequest,
    PutZoneResponse,
    ServiceAccount,
    Zone,
)
from quintet.identity.v1.facts_pb2 import AccessChanged

METHOD = "quintet.identity.v1.DirectoryService/PutZone"


@pytest.fixture
async def identity(transactions: MakeTransactions) -> Transactions:
    return await transactions("identity")


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    subject = context.caller_subject.set("people/duty-officer.d10")
    method = context.rpc_method.set(METHOD)
    yield
    context.caller_subject.reset(subject)
    context.rpc_method.reset(method)


async def rows(of: Transactions, table: str) -> list[asyncpg.Record]:
    async def read(conn: Connection) -> list[asyncpg.Record]:
        return await conn.fetch(f"SELECT * FROM {table}")

    return await of.read(read)


def put(name: str = "zones/us-ca-sf-d10", request_id: str = "r-1") -> PutZoneRequest:
    return PutZoneRequest(zone=Zone(name=name), request_id=request_id)


async def test_a_repeated_request_gets_the_first_answer(identity: Transactions) -> None:
    async def work(tx: Tx) -> PutZoneResponse:
        tx.publish(AccessChanged(), zone="us-ca-sf", key="k")
        return PutZoneResponse(zone=Zone(name="zones/us-ca-sf-d10", parent="zones/us-ca-sf"))

    answers = await asyncio.gather(*(identity.mutate(put(), PutZoneResponse, work) for _ in range(5)))
    assert {answer.SerializeToString() for answer in answers} == {answers[0].SerializeToString()}
    assert answers[0].zone.parent == "zones/us-ca-sf"
    assert len(await rows(identity, "outbox")) == 1
    entries = await rows(identity, "audit_entries")
    assert [(entry["action"], entry["resource"]) for entry in entries] == [(METHOD, "zones/us-ca-sf-d10")]


async def test_a_request_id_means_one_request_of_one_caller_and_method(identity: Transactions) -> None:
    async def work(_tx: Tx) -> PutZoneResponse:
        return PutZoneResponse()

    await identity.mutate(put(), PutZoneResponse, work)
    with pytest.raises(AlreadyExists) as raised:
        await identity.mutate(put("zones/us-ca-sf-d6"), PutZoneResponse, work)
    assert raised.value.reason == Reason.REQUEST_ID_REUSED
    context.caller_subject.set("people/duty-officer.d6")
    await identity.mutate(put("zones/us-ca-sf-d6"), PutZoneResponse, work)
    context.rpc_method.set("quintet.identity.v1.DirectoryService/PutRole")
    await identity.mutate(put("zones/us-ca-sf-d5"), PutZoneResponse, work)


async def test_failures_are_not_remembered(identity: Transactions) -> None:
    attempts = 0

    async def work(_tx: Tx) -> PutZoneResponse:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise NotFound(Reason.ZONE_NOT_FOUND, "no such zone")
        return PutZoneResponse()

    with pytest.raises(NotFound):
        await identity.mutate(put(), PutZoneResponse, work)
    await identity.mutate(put(), PutZoneResponse, work)
    assert attempts == 2


async def test_without_a_request_id_every_call_counts(identity: Transactions) -> None:
    async def work(tx: Tx) -> PutZoneResponse:
        tx.publish(AccessChanged(), zone="us-ca-sf", key="k")
        return PutZoneResponse()

    for _ in range(2):
        await identity.mutate(put(request_id=""), PutZoneResponse, work)
    assert len(await rows(identity, "outbox")) == 2


async def test_secrets_are_answered_once_and_stored_nowhere(identity: Transactions) -> None:
    async def work(_tx: Tx) -> PutServiceAccountResponse:
        account = ServiceAccount(name="serviceAccounts/adapter")
        return PutServiceAccountResponse(service_account=account, secret="open sesame")

    request = PutServiceAccountRequest(request_id="r-1")
    first = await identity.mutate(request, PutServiceAccountResponse, work)
    again = await identity.mutate(request, PutServiceAccountResponse, work)
    assert (first.secret, again.secret) == ("open sesame", "")
    assert again.service_account.name == "serviceAccounts/adapter"
