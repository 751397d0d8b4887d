"""ServiceItemService: the catalogue, applications for its items, and the certificates that come of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from libs import names, paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from libs.ids import new_id
from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.delivery.v1.delivery_pb2_grpc import ServiceItemServiceServicer
from services.delivery import applications_messages as messages
from services.delivery import applications_model as model
from services.delivery import applications_store as store
from services.delivery import items_store, search
from services.delivery.applications_model import Application, ApplicationState, Certificate, CertificateState
from services.delivery.credential import CredentialError, check_validity

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.clock import Clock
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.delivery.applications_model import ServiceItem
    from services.delivery.credential import Claims
    from services.delivery.issuer import Issuer

WRITE_ITEMS = "delivery.service_items.write"
SUBMIT = "delivery.applications.submit"
READ_APPLICATIONS = "delivery.applications.read"
DECIDE = "delivery.applications.decide"
READ_CERTIFICATES = "delivery.certificates.read"
REVOKE = "delivery.certificates.revoke"

SEARCH_PAGE_SIZE_DEFAULT = 20
SEARCH_PAGE_SIZE_MAX = 200
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500

Context = Any


class ServiceItemServicer(ServiceItemServiceServicer):
    """The window of one node: what it issues is valid by the node's own key."""

    def __init__(self, transactions: Transactions, issuer: Issuer, clock: Clock, *, zone: str) -> None:
        """`zone` is the code of the node's own zone, in which all of this lies."""
        self._transactions = transactions
        self._issuer = issuer
        self._clock = clock
        self._zone = zone

    # --------------------------------------------------------------------------------------------------- the catalogue

    async def PutServiceItems(self, request: pb.PutServiceItemsRequest, _: Context) -> pb.PutServiceItemsResponse:
        # The catalogue is the whole node's: a right to a part of its zones is not enough.
        current_caller().require(WRITE_ITEMS, zone=self._zone)
        items = [messages.item_of(item) for item in request.service_items]
        first: dict[str, int] = {}
        for index, item in enumerate(items):
            if first.setdefault(item.code, index) != index:
                raise Invalid(f"serviceItems[{index}].name", f"is that of serviceItems[{first[item.code]}] too")

        async def put(tx: Tx) -> pb.PutServiceItemsResponse:
            changed = await items_store.put(tx.conn, items, tx.now)
            tx.audit(WRITE_ITEMS, "serviceItems", items=len(items), changed=changed)
            return pb.PutServiceItemsResponse(changed=changed, unchanged=len(items) - changed)

        return await self._transactions.mutate(request, pb.PutServiceItemsResponse, put)

    async def GetServiceItem(self, request: pb.GetServiceItemRequest, _: Context) -> pb.GetServiceItemResponse:
        item = await self._transactions.read(lambda conn: _item(conn, request.name))
        return pb.GetServiceItemResponse(service_item=messages.item_message(item))

    async def SearchServiceItems(
        self, request: pb.SearchServiceItemsRequest, _: Context
    ) -> pb.SearchServiceItemsResponse:
        size = paging.size(request.page_size, default=SEARCH_PAGE_SIZE_DEFAULT, most=SEARCH_PAGE_SIZE_MAX)
        if not request.query.strip():
            return await self._list_items(request, size)
        query = search.query(request.query)
        if query is None:
            return pb.SearchServiceItemsResponse()
        of = f"search {query} {request.department}"
        after = paging.after(request.page_token, int, int, str, of=of)
        rows, total = await self._transactions.read(
            lambda conn: items_store.find(conn, query, request.department, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row[0], len(row[1].title), row[1].code), of=of)
        found = [messages.item_message(item) for _, item in page]
        return pb.SearchServiceItemsResponse(service_items=found, next_page_token=token, total=total)

    async def _list_items(self, request: pb.SearchServiceItemsRequest, size: int) -> pb.SearchServiceItemsResponse:
        of = f"items {request.department}"
        after = paging.after(request.page_token, str, of=of)
        rows, total = await self._transactions.read(
            lambda conn: items_store.list_by_code(conn, request.department, after[0] if after else "", size + 1)
        )
        page, token = paging.page(rows, size, lambda item: (item.code,), of=of)
        found = [messages.item_message(item) for item in page]
        return pb.SearchServiceItemsResponse(service_items=found, next_page_token=token, total=total)

    # ---------------------------------------------------------------------------------------------------- applications

    async def SubmitApplication(self, request: pb.SubmitApplicationRequest, _: Context) -> pb.SubmitApplicationResponse:
        applicant = current_caller().subject

        async def submit(tx: Tx) -> pb.SubmitApplicationResponse:
            item = await _item(tx.conn, request.service_item)
            application = Application(
                id=new_id(),
                zone=self._zone,
                service_item=item.name,
                service_item_title=item.title,
                applicant=applicant,
                subject_name=request.subject_name,
                form=messages.form_of(request.form),
                state=ApplicationState.SUBMITTED,
                submitted_at=tx.now,
            )
            await store.add(tx.conn, application)
            tx.audit(SUBMIT, application.name, service_item=item.name)
            return pb.SubmitApplicationResponse(application=messages.application_message(application))

        return await self._transactions.mutate(request, pb.SubmitApplicationResponse, submit)

    async def GetApplication(self, request: pb.GetApplicationRequest, _: Context) -> pb.GetApplicationResponse:
        application_id = names.parse(request.name, "applications/{application}")["application"]
        found = await self._transactions.read(lambda conn: store.get(conn, application_id))
        found = _visible_application(current_caller(), READ_APPLICATIONS, request.name, found)
        return pb.GetApplicationResponse(application=messages.application_message(found))

    async def ListApplications(self, request: pb.ListApplicationsRequest, _: Context) -> pb.ListApplicationsResponse:
        visibility = current_caller().visibility(READ_APPLICATIONS)
        state = messages.state_filter(request.state)
        of = f"applications {state}"
        after = paging.after(request.page_token, datetime, str, of=of)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        rows = await self._transactions.read(
            lambda conn: store.list_applications(conn, visibility, state, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.submitted_at, row.id), of=of)
        shown = [messages.application_message(row) for row in page]
        return pb.ListApplicationsResponse(applications=shown, next_page_token=token)

    async def DecideApplication(self, request: pb.DecideApplicationRequest, _: Context) -> pb.DecideApplicationResponse:
        application_id = names.parse(request.name, "applications/{application}")["application"]
        caller = current_caller()

        async def decide(tx: Tx) -> pb.DecideApplicationResponse:
            found = await store.get(tx.conn, application_id, lock=True)
            found = _visible_application(caller, DECIDE, request.name, found)
            model.check_decidable(found, caller.subject)
            state = messages.outcome(request.decision)
            certificate = None
            if state is ApplicationState.APPROVED:
                certificate = await self._issue(tx, found, request.valid_days)
            found = replace(
                found,
                state=state,
                decided_at=tx.now,
                decided_by=caller.subject,
                decision_reason=request.reason,
                certificate=certificate.name if certificate else "",
            )
            await store.decide(tx.conn, found)
            tx.publish(messages.decided(found), zone=found.zone, key=found.name)
            tx.audit(DECIDE, found.name, state=found.state, certificate=found.certificate)
            return pb.DecideApplicationResponse(
                application=messages.application_message(found),
                certificate=messages.certificate_message(certificate, tx.now) if certificate else None,
            )

        return await self._transactions.mutate(request, pb.DecideApplicationResponse, decide)

    async def _issue(self, tx: Tx, application: Application, valid_days: int) -> Certificate:
        start, end = model.validity(tx.now, valid_days)
        certificate = Certificate(
            id=new_id(),
            zone=application.zone,
            application=application.id,
            service_item=application.service_item,
            holder=application.applicant,
            subject_name=application.subject_name,
            issued_at=start,
            expires_at=end,
            credential="",
        )
        credential = self._issuer.issue(certificate.name, start, end, model.subject_of(application))
        certificate = replace(certificate, credential=credential)
        await store.add_certificate(tx.conn, certificate)
        tx.publish(messages.issued(certificate), zone=certificate.zone, key=certificate.name)
        return certificate

    # ---------------------------------------------------------------------------------------------------- certificates

    async def GetCertificate(self, request: pb.GetCertificateRequest, _: Context) -> pb.GetCertificateResponse:
        certificate_id = names.parse(request.name, "certificates/{certificate}")["certificate"]
        found = await self._transactions.read(lambda conn: store.get_certificate(conn, certificate_id))
        found = _visible_certificate(current_caller(), READ_CERTIFICATES, request.name, found)
        return pb.GetCertificateResponse(certificate=messages.certificate_message(found, self._clock.now()))

    async def RevokeCertificate(self, request: pb.RevokeCertificateRequest, _: Context) -> pb.RevokeCertificateResponse:
        certificate_id = names.parse(request.name, "certificates/{certificate}")["certificate"]
        caller = current_caller()

        async def revoke(tx: Tx) -> pb.RevokeCertificateResponse:
            found = await store.get_certificate(tx.conn, certificate_id, lock=True)
            found = _visible_certificate(caller, REVOKE, request.name, found)
            model.check_revocable(found)
            found = replace(found, revoked_at=tx.now, revoked_by=caller.subject, revoked_reason=request.reason)
            await store.revoke(tx.conn, found)
            tx.publish(messages.revoked(found), zone=found.zone, key=found.name)
            tx.audit(REVOKE, found.name)
            return pb.RevokeCertificateResponse(certificate=messages.certificate_message(found, tx.now))

        return await self._transactions.mutate(request, pb.RevokeCertificateResponse, revoke)

    async def VerifyCertificate(self, request: pb.VerifyCertificateRequest, _: Context) -> pb.VerifyCertificateResponse:
        try:
            claims = self._issuer.read(request.credential)
        except CredentialError as error:
            return pb.VerifyCertificateResponse(reason=f"{error.fault}: {error}")
        certificate_id = self._issuer.certificate_id(claims)
        found = await self._transactions.read(lambda conn: store.get_certificate(conn, certificate_id))
        now = self._clock.now()
        reason = _objection(found, claims, now)
        response = pb.VerifyCertificateResponse(verified=not reason, reason=reason, claims=messages.struct(claims))
        if found is not None:
            response.state = messages.CERTIFICATE_STATE[found.state(now)]
        return response

    async def GetIssuerKeys(self, _request: pb.GetIssuerKeysRequest, _: Context) -> pb.GetIssuerKeysResponse:
        keys = [pb.IssuerKey(**jwk) for jwk in self._issuer.jwks]
        return pb.GetIssuerKeysResponse(keys=keys, issuer=self._issuer.name)


async def _item(conn: Connection, name: str) -> ServiceItem:
    """Return a service item. Raises NotFound."""
    item = await items_store.get(conn, names.parse(name, "serviceItems/{service_item}")["service_item"])
    if item is None:
        raise NotFound(Reason.SERVICE_ITEM_NOT_FOUND, f"{name} does not exist", name=name)
    return item


def _visible_application(caller: Caller, permission: str, name: str, found: Application | None) -> Application:
    """Return the application. Raises the same NotFound when it is not there and when it is not for the caller."""
    missing = NotFound(Reason.APPLICATION_NOT_FOUND, f"{name} does not exist", name=name)
    if found is None:
        raise missing
    caller.require(permission, zone=found.zone, owner=found.applicant, hide=missing)
    return found


def _visible_certificate(caller: Caller, permission: str, name: str, found: Certificate | None) -> Certificate:
    """Return the certificate. Raises like `_visible_application`."""
    missing = NotFound(Reason.CERTIFICATE_NOT_FOUND, f"{name} does not exist", name=name)
    if found is None:
        raise missing
    caller.require(permission, zone=found.zone, owner=found.holder, hide=missing)
    return found


def _objection(certificate: Certificate | None, claims: Claims, now: datetime) -> str:
    """Return why a credential that the node signed does not hold now, "" when it does."""
    if certificate is None:
        return "UNKNOWN: signed by this node, but not among its certificates"
    if certificate.state(now) is CertificateState.REVOKED:
        return f"REVOKED: the certificate was revoked at {certificate.revoked_at:%Y-%m-%dT%H:%M:%SZ}"
    try:
        check_validity(claims, now)
    except CredentialError as error:
        return f"{error.fault}: {error}"
    return ""
