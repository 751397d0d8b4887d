"""ServiceItemService over a real channel: the catalogue, applications and certificates."""

import asyncio
import json
import socket
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from quintet.delivery.v1 import delivery_pb2 as pb
from services.delivery.credential import CredentialError, Fault, verify_credential
from services.delivery.tests.conftest import (
    CITY,
    CLERK,
    NODE_ADMIN,
    OTHER,
    RESIDENT,
    SERVICE_OFFICER,
    Delivery,
)
from services.delivery.tests.samples import START, stamp

ITEM = "serviceItems/a-1"
ITEMS = [
    pb.ServiceItem(name=ITEM, title="残疾人证新办", department="区残联", main_item="残疾人证办理", task_type="1"),
    pb.ServiceItem(name="serviceItems/a-2", title="残疾人证换领", department="区残联", main_item="残疾人证办理"),
    pb.ServiceItem(name="serviceItems/b-1", title="Food stall permit", department="Health"),
]


async def put(delivery: Delivery, items: list[pb.ServiceItem], subject: str = NODE_ADMIN) -> tuple[int, int]:
    response = await delivery.items(subject).PutServiceItems(pb.PutServiceItemsRequest(service_items=items))
    return response.changed, response.unchanged


async def submit(delivery: Delivery, subject: str = RESIDENT, **fields: Any) -> pb.Application:
    await put(delivery, ITEMS)
    form = Struct()
    form.update({"address": "100 Connecticut St", "rooms": 2})
    given: dict[str, Any] = {"service_item": ITEM, "subject_name": "张三", "form": form}
    request = pb.SubmitApplicationRequest(**(given | fields))
    return (await delivery.items(subject).SubmitApplication(request)).application


async def decide(
    delivery: Delivery, name: str, subject: str = SERVICE_OFFICER, **fields: Any
) -> pb.DecideApplicationResponse:
    given: dict[str, Any] = {"decision": pb.DECISION_APPROVE, "reason": "complete"}
    return await delivery.items(subject).DecideApplication(pb.DecideApplicationRequest(name=name, **(given | fields)))


async def certificate(delivery: Delivery, **fields: Any) -> pb.Certificate:
    application = await submit(delivery)
    return (await decide(delivery, application.name, **fields)).certificate


async def verify(delivery: Delivery, credential: str) -> pb.VerifyCertificateResponse:
    return await delivery.items().VerifyCertificate(pb.VerifyCertificateRequest(credential=credential))


async def jwks(delivery: Delivery) -> list[dict[str, str]]:
    response = await delivery.items().GetIssuerKeys(pb.GetIssuerKeysRequest())
    assert response.issuer == "urn:quintet:node:sf"
    return [MessageToDict(key) for key in response.keys]


# -------------------------------------------------------------------------------------------------------- the catalogue


async def test_items_are_loaded_again_and_again(delivery: Delivery) -> None:
    assert await put(delivery, ITEMS) == (3, 0)
    assert await put(delivery, ITEMS) == (0, 3)
    found = await delivery.items().GetServiceItem(pb.GetServiceItemRequest(name=ITEM))
    assert found.service_item == ITEMS[0]
    with pytest.raises(NotFound):
        await delivery.items().GetServiceItem(pb.GetServiceItemRequest(name="serviceItems/none"))


async def test_only_who_may_for_the_whole_node_writes_the_catalogue(delivery: Delivery) -> None:
    for subject in (RESIDENT, SERVICE_OFFICER, CLERK + ".items"):
        with pytest.raises(Forbidden):
            await put(delivery, ITEMS, subject)
    with pytest.raises(Unauthenticated):
        await put(delivery, ITEMS, "")


async def test_an_item_stands_in_a_batch_once(delivery: Delivery) -> None:
    with pytest.raises(Invalid) as caught:
        await put(delivery, [*ITEMS, ITEMS[0]])
    assert caught.value.violations[0][0] == "serviceItems[3].name"


async def test_everybody_searches(delivery: Delivery) -> None:
    await put(delivery, ITEMS)

    async def found(**query: Any) -> tuple[list[str], int]:
        response = await delivery.items().SearchServiceItems(pb.SearchServiceItemsRequest(**query))
        return [item.title for item in response.service_items], response.total

    assert await found(query="残疾人证换领") == (["残疾人证换领", "残疾人证新办"], 2)
    assert await found(query="stalls") == (["Food stall permit"], 1)
    assert await found() == (["残疾人证新办", "残疾人证换领", "Food stall permit"], 3)
    assert await found(department="Health") == (["Food stall permit"], 1)
    assert await found(query="???") == ([], 0)


async def test_a_search_comes_in_pages(delivery: Delivery) -> None:
    await put(delivery, [pb.ServiceItem(name=f"serviceItems/c-{n}", title="许可证", department="x") for n in range(7)])
    for query in ("许可", ""):
        seen: list[str] = []
        token = ""
        while True:
            request = pb.SearchServiceItemsRequest(query=query, page_size=3, page_token=token)
            response = await delivery.items().SearchServiceItems(request)
            assert response.total == 7
            seen += [item.name for item in response.service_items]
            token = response.next_page_token
            if not token:
                break
        assert seen == [f"serviceItems/c-{n}" for n in range(7)]


# --------------------------------------------------------------------------------------------------------- applications


async def test_an_application_is_submitted_and_approved(delivery: Delivery) -> None:
    application = await submit(delivery)
    assert application.state == pb.APPLICATION_STATE_SUBMITTED
    assert (application.applicant, application.service_item_title) == (RESIDENT, "残疾人证新办")
    assert MessageToDict(application.form) == {"address": "100 Connecticut St", "rooms": 2.0}
    response = await decide(delivery, application.name, valid_days=30)
    assert response.application.state == pb.APPLICATION_STATE_APPROVED
    assert response.application.certificate == response.certificate.name
    assert response.certificate.state == pb.CERTIFICATE_STATE_VALID
    assert response.certificate.expires_at == stamp(START + timedelta(days=30))
    stub = delivery.items(RESIDENT)
    kept = (await stub.GetApplication(pb.GetApplicationRequest(name=application.name))).application
    assert kept == response.application
    assert (kept.decided_by, kept.decision_reason) == (SERVICE_OFFICER, "complete")
    held = await stub.GetCertificate(pb.GetCertificateRequest(name=response.certificate.name))
    assert held.certificate == response.certificate


async def test_what_became_of_it_is_stated_without_personal_data(delivery: Delivery) -> None:
    await certificate(delivery)
    facts = await delivery.facts()
    assert [message.DESCRIPTOR.name for _, message in facts] == ["CertificateIssued", "ApplicationDecided"]
    assert {envelope.zone for envelope, _ in facts} == {CITY}
    assert all("张三" not in str(message) and RESIDENT not in str(message) for _, message in facts)
    actions = [action for _, action, _ in await delivery.audited()]
    assert actions == [
        "delivery.service_items.write",
        "delivery.applications.submit",
        "delivery.applications.decide",
    ]


async def test_a_refusal_has_a_reason_and_no_certificate(delivery: Delivery) -> None:
    application = await submit(delivery)
    with pytest.raises(Invalid):
        await decide(delivery, application.name, decision=pb.DECISION_REFUSE, reason="")
    response = await decide(delivery, application.name, decision=pb.DECISION_REFUSE, reason="not a resident")
    assert response.application.state == pb.APPLICATION_STATE_REFUSED
    assert not response.HasField("certificate")
    with pytest.raises(WrongState):
        await decide(delivery, application.name)


async def test_one_decision_is_made_when_two_decide_at_once(delivery: Delivery) -> None:
    application = await submit(delivery)
    results = await asyncio.gather(*(decide(delivery, application.name) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["DecideApplicationResponse"] + ["WrongState"] * 3
    assert len(await delivery.rows("SELECT id FROM certificates")) == 1


async def test_a_decision_asked_for_twice_is_answered_the_same(delivery: Delivery) -> None:
    application = await submit(delivery)
    first = await decide(delivery, application.name, request_id="d-1")
    assert await decide(delivery, application.name, request_id="d-1") == first
    with pytest.raises(AlreadyExists):
        await decide(delivery, application.name, request_id="d-1", reason="another")


async def test_applications_are_the_applicants_and_the_officers(delivery: Delivery) -> None:
    application = await submit(delivery)
    for name in (application.name, "applications/none"):
        with pytest.raises(NotFound) as caught:
            await delivery.items(OTHER).GetApplication(pb.GetApplicationRequest(name=name))
        assert caught.value.reason == Reason.APPLICATION_NOT_FOUND

    async def listed(subject: str, state: int = 0) -> list[str]:
        response = await delivery.items(subject).ListApplications(pb.ListApplicationsRequest(state=state))  # type: ignore[arg-type]
        return [found.name for found in response.applications]

    assert await listed(RESIDENT) == await listed(SERVICE_OFFICER) == [application.name]
    assert await listed(OTHER) == []
    assert await listed(SERVICE_OFFICER, pb.APPLICATION_STATE_APPROVED) == []


async def test_residents_do_not_decide_and_officers_not_their_own(delivery: Delivery) -> None:
    application = await submit(delivery)
    with pytest.raises(Forbidden):
        await decide(delivery, application.name, RESIDENT)
    own = await submit(delivery, SERVICE_OFFICER)
    with pytest.raises(Forbidden):
        await decide(delivery, own.name)


async def test_only_items_of_the_catalogue_are_applied_for(delivery: Delivery) -> None:
    with pytest.raises(NotFound) as caught:
        await submit(delivery, service_item="serviceItems/none")
    assert caught.value.reason == Reason.SERVICE_ITEM_NOT_FOUND


# --------------------------------------------------------------------------------------------------------- certificates


async def test_a_certificate_verifies_offline(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = await certificate(delivery)
    keys = await jwks(delivery)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("offline means without a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    claims = verify_credential(issued.credential, keys, START)
    assert claims["credentialSubject"] == {
        "name": "张三",
        "serviceItem": ITEM,
        "serviceItemTitle": "残疾人证新办",
    }
    assert claims["id"] == f"urn:quintet:node:sf:{issued.name.replace('/', ':')}"
    assert RESIDENT not in json.dumps(claims)
    with pytest.raises(CredentialError) as caught:
        verify_credential(issued.credential, keys, START + timedelta(days=365))
    assert caught.value.fault is Fault.EXPIRED


async def test_anybody_may_verify(delivery: Delivery) -> None:
    issued = await certificate(delivery)
    answer = await verify(delivery, issued.credential)
    assert (answer.verified, answer.state, answer.reason) == (True, pb.CERTIFICATE_STATE_VALID, "")
    assert answer.claims["issuer"] == "urn:quintet:node:sf"
    forged = await verify(delivery, issued.credential[:-8] + "AAAAAAAA")
    assert (forged.verified, forged.state) == (False, pb.CERTIFICATE_STATE_UNSPECIFIED)
    assert forged.reason.startswith("SIGNATURE_WRONG")
    assert not forged.HasField("claims")
    assert (await verify(delivery, "nonsense")).reason.startswith("MALFORMED")


async def test_an_expired_certificate_does_not_hold(delivery: Delivery) -> None:
    issued = await certificate(delivery, valid_days=1)
    delivery.clock.advance(timedelta(days=1))
    answer = await verify(delivery, issued.credential)
    assert (answer.verified, answer.state) == (False, pb.CERTIFICATE_STATE_EXPIRED)
    assert answer.reason.startswith("EXPIRED")
    held = await delivery.items(RESIDENT).GetCertificate(pb.GetCertificateRequest(name=issued.name))
    assert held.certificate.state == pb.CERTIFICATE_STATE_EXPIRED


async def test_a_revoked_certificate_does_not_hold(delivery: Delivery) -> None:
    issued = await certificate(delivery)
    request = pb.RevokeCertificateRequest(name=issued.name, reason="issued to the wrong person")
    for subject, error in ((RESIDENT, Forbidden), (OTHER, Forbidden)):
        with pytest.raises(error):
            await delivery.items(subject).RevokeCertificate(request)
    revoked = (await delivery.items(SERVICE_OFFICER).RevokeCertificate(request)).certificate
    assert (revoked.state, revoked.revoked_reason) == (pb.CERTIFICATE_STATE_REVOKED, "issued to the wrong person")
    answer = await verify(delivery, issued.credential)
    assert (answer.verified, answer.state) == (False, pb.CERTIFICATE_STATE_REVOKED)
    assert "wrong person" not in answer.reason, "why is between the office and the holder"
    assert (await delivery.facts())[-1][1].certificate == issued.name
    with pytest.raises(WrongState) as caught:
        await delivery.items(SERVICE_OFFICER).RevokeCertificate(request)
    assert caught.value.reason == Reason.CERTIFICATE_REVOKED


async def test_certificates_are_the_holders_and_the_officers(delivery: Delivery) -> None:
    issued = await certificate(delivery)
    for name in (issued.name, "certificates/none"):
        with pytest.raises(NotFound) as caught:
            await delivery.items(OTHER).GetCertificate(pb.GetCertificateRequest(name=name))
        assert caught.value.reason == Reason.CERTIFICATE_NOT_FOUND
    officer = await delivery.items(SERVICE_OFFICER).GetCertificate(pb.GetCertificateRequest(name=issued.name))
    assert officer.certificate == issued


async def test_a_credential_that_the_node_does_not_remember_does_not_hold(delivery: Delivery) -> None:
    issued = await certificate(delivery)
    await delivery.transactions.run(lambda tx: tx.conn.execute("DELETE FROM certificates"))
    answer = await verify(delivery, issued.credential)
    assert (answer.verified, answer.reason.partition(":")[0]) == (False, "UNKNOWN")


async def test_the_private_key_is_told_to_nobody(delivery: Delivery) -> None:
    [key] = await jwks(delivery)
    assert set(key) == {"kty", "crv", "x", "kid", "alg"}
    secret = delivery.host.config.node.secrets / "delivery-issuer"
    assert secret.stat().st_mode & 0o777 == 0o600
