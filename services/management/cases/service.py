"""The servicer of CaseService."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Exhausted, NotFound, Reason, Stale, WrongState
from libs.ids import new_id
from quintet.management.v1 import cases_pb2 as pb
from quintet.management.v1.cases_pb2_grpc import CaseServiceServicer
from services.management import store_events, store_types
from services.management.cases import store
from services.management.cases.convert import case_pb, content_of, version_pb
from services.management.cases.model import CASE_NAME, Case, retired, reviewed, written
from services.management.cases.model_place import PlaceClass, told_from
from services.management.cases.model_similar import Subject, ranked
from services.management.cases.store import Query
from services.management.convert import explanation_pb
from services.management.model_words import spoken, tokens
from services.management.service_base import READ as READ_EVENTS
from services.management.service_base import missing

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.management.cases.model_similar import Suggestion
    from services.management.model import Event
    from services.management.service_base import Context

WRITE = "management.cases.write"
REVIEW = "management.cases.review"
READ = "management.cases.read"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 500
SUGGESTIONS = 5


class CaseServicer(CaseServiceServicer):
    """The case library of one node."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    # ----------------------------------------------------------------------------------------------------- writing

    async def KeepCase(self, request: pb.KeepCaseRequest, _context: Context) -> pb.KeepCaseResponse:
        return await self._transactions.mutate(request, pb.KeepCaseResponse, partial(self._keep, request))

    async def _keep(self, request: pb.KeepCaseRequest, tx: Tx) -> pb.KeepCaseResponse:
        event, caller = await _event(tx.conn, request.event)
        caller.require(WRITE, zone=event.zone, organisation=event.handlers)
        if await store.count(tx.conn) >= store.CASES_MAX:
            raise Exhausted(Reason.QUOTA, f"a node keeps at most {store.CASES_MAX} cases")
        case = Case(
            name=names.build(CASE_NAME, zone=event.zone, case=new_id()),
            zone=event.zone,
            event=event.name,
            type=event.type,
            organisation=event.organisation,
            created_at=tx.now,
            revision=0,
        )
        content = content_of(request.content)
        if content.place is PlaceClass.UNKNOWN:
            content = replace(content, place=told_from(event.place.address, event.description)[0])
        after, version = written(case, content, actor=caller.subject, now=tx.now)
        await store.insert(tx.conn, after)
        await store.add_version(tx.conn, after.name, version)
        tx.audit("management.cases.keep", after.name, event=event.name, masked=list(version.masked))
        return pb.KeepCaseResponse(case=await _shown(tx.conn, after, drafts=True))

    async def ReviseCase(self, request: pb.ReviseCaseRequest, _context: Context) -> pb.ReviseCaseResponse:
        return await self._transactions.mutate(request, pb.ReviseCaseResponse, partial(self._revise, request))

    async def _revise(self, request: pb.ReviseCaseRequest, tx: Tx) -> pb.ReviseCaseResponse:
        case, caller = await _case(tx.conn, request.name, WRITE)
        if request.etag and request.etag != case.revision:
            text = f"{case.name} is at revision {case.revision}, not {request.etag}"
            raise Stale(Reason.ETAG_STALE, text, name=case.name, etag=str(case.revision))
        after, version = written(case, content_of(request.content), actor=caller.subject, now=tx.now)
        await store.update(tx.conn, after)
        await store.add_version(tx.conn, after.name, version)
        tx.audit("management.cases.revise", after.name, version=version.version, masked=list(version.masked))
        return pb.ReviseCaseResponse(case=await _shown(tx.conn, after, drafts=True))

    async def ReviewCase(self, request: pb.ReviewCaseRequest, _context: Context) -> pb.ReviewCaseResponse:
        return await self._transactions.mutate(request, pb.ReviewCaseResponse, partial(self._review, request))

    async def _review(self, request: pb.ReviewCaseRequest, tx: Tx) -> pb.ReviewCaseResponse:
        case, caller = await _case(tx.conn, request.name, REVIEW)
        waiting = (await store.versions(tx.conn, [case])).get((case.name, request.version))
        if waiting is None:
            text = f"version {request.version} of {case.name} does not wait for a review"
            raise WrongState(Reason.WRONG_STATE, text, name=case.name, awaiting=str(case.awaiting))
        after, version = reviewed(
            case, waiting, publish=request.publish, note=request.note, actor=caller.subject, now=tx.now
        )  # fmt: skip
        await store.update(tx.conn, after)
        await store.review(tx.conn, after.name, version)
        if request.publish:
            await store.publish(tx.conn, after.name, version.content)
        tx.audit("management.cases.review", after.name, version=version.version, publish=request.publish)
        return pb.ReviewCaseResponse(case=await _shown(tx.conn, after, drafts=True))

    async def RetireCase(self, request: pb.RetireCaseRequest, _context: Context) -> pb.RetireCaseResponse:
        return await self._transactions.mutate(request, pb.RetireCaseResponse, partial(self._retire, request))

    async def _retire(self, request: pb.RetireCaseRequest, tx: Tx) -> pb.RetireCaseResponse:
        case, _ = await _case(tx.conn, request.name, REVIEW)
        after = retired(case, request.reason, tx.now)
        await store.update(tx.conn, after)
        tx.audit("management.cases.retire", after.name, reason=request.reason)
        return pb.RetireCaseResponse(case=await _shown(tx.conn, after, drafts=True))

    # ----------------------------------------------------------------------------------------------------- reading

    async def GetCase(self, request: pb.GetCaseRequest, _context: Context) -> pb.GetCaseResponse:
        caller = current_caller()

        async def read(conn: Connection) -> pb.Case:
            case = await store.get(conn, request.name)
            drafts = case is not None and _sees_drafts(caller, case)
            if case is None or not (case.version or drafts):
                raise _missing(request.name)
            return await _shown(conn, case, drafts=drafts)

        return pb.GetCaseResponse(case=await self._transactions.read(read))

    async def ListCaseVersions(
        self, request: pb.ListCaseVersionsRequest, _context: Context
    ) -> pb.ListCaseVersionsResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        of = f"case versions {request.name}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> pb.ListCaseVersionsResponse:
            case = await store.get(conn, request.name)
            if case is None or not _sees_drafts(current_caller(), case):
                raise _missing(request.name)
            rows = await store.list_versions(conn, case.name, before=after[0] if after else None, limit=size + 1)
            page, token = paging.page(rows, size, lambda version: (version.version,), of=of)
            return pb.ListCaseVersionsResponse(versions=[version_pb(each) for each in page], next_page_token=token)

        return await self._transactions.read(read)

    async def ListCases(self, request: pb.ListCasesRequest, _context: Context) -> pb.ListCasesResponse:
        caller = current_caller()
        query = Query(request.type, request.tag.strip(), tokens(request.words))
        size = paging.size(request.page_size, default=PAGE_SIZE, most=PAGE_SIZE_MAX)
        of = f"cases {request.type} {request.tag} {request.words} {request.awaiting}"
        after = paging.after(request.page_token, datetime, str, of=of)

        async def read(conn: Connection) -> pb.ListCasesResponse:
            if request.awaiting:
                visible = [caller.visibility(permission) for permission in (WRITE, REVIEW)]
                rows = await store.list_awaiting(conn, visible, after=after, limit=size + 1)
            else:
                rows = await store.list_cases(conn, query, after=after, limit=size + 1)
            page, token = paging.page(rows, size, lambda case: (case.created_at, case.name), of=of)
            versions = await store.versions(conn, page)
            shown = [case_pb(case, versions, drafts=request.awaiting) for case in page]
            return pb.ListCasesResponse(cases=shown, next_page_token=token)

        return await self._transactions.read(read)

    async def SuggestCases(self, request: pb.SuggestCasesRequest, _context: Context) -> pb.SuggestCasesResponse:
        async def read(conn: Connection) -> pb.SuggestCasesResponse:
            event, _ = await _event(conn, request.event)
            found = await _similar(conn, event, request.limit or SUGGESTIONS)
            cases = {case.name: case for case in await store.named(conn, [each.name for each in found])}
            versions = await store.versions(conn, list(cases.values()))
            return pb.SuggestCasesResponse(
                suggestions=[
                    pb.CaseSuggestion(
                        case=case_pb(cases[each.name], versions, drafts=False),
                        score=each.score,
                        explanation=explanation_pb(each.explanation),
                    )
                    for each in found
                ]
            )

        return await self._transactions.read(read)

    async def RateCase(self, request: pb.RateCaseRequest, _context: Context) -> pb.RateCaseResponse:
        return await self._transactions.mutate(request, pb.RateCaseResponse, partial(self._rate, request))

    async def _rate(self, request: pb.RateCaseRequest, tx: Tx) -> pb.RateCaseResponse:
        event, caller = await _event(tx.conn, request.event)
        case = await store.get(tx.conn, request.name, lock=True)
        if case is None or not case.version:
            raise _missing(request.name)
        rated = await store.rate(
            tx.conn, case.name, event.name, helped=request.helped, actor=caller.subject, now=tx.now
        )  # fmt: skip
        tx.audit("management.cases.rate", case.name, event=event.name, helped=request.helped)
        return pb.RateCaseResponse(case=await _shown(tx.conn, rated, drafts=False))


async def _similar(conn: Connection, event: Event, limit: int) -> list[Suggestion]:
    words = spoken(event.description or event.title)  # a title says little more than the type
    event_type = await store_types.get_type(conn, event.type)
    place, _ = told_from(event.place.address, event.description)
    subject = Subject(event.type, event_type.code if event_type else "", words, place)
    candidates = await store.candidates(conn, event.type, list(words), but_of=event.name)
    return ranked(subject, candidates, await store.library(conn, list(words)), limit=limit)


async def _event(conn: Connection, name: str) -> tuple[Event, Caller]:
    """Return an event that the caller may see, and the caller. Raises NotFound and Forbidden."""
    found = await store_events.get(conn, name)
    if found is None:
        raise missing(name)
    caller = current_caller()
    caller.require(READ_EVENTS, zone=found[0].zone, organisation=found[0].handlers)
    return found[0], caller


async def _case(conn: Connection, name: str, permission: str) -> tuple[Case, Caller]:
    """Return a case, locked, and the caller who may touch it. Raises NotFound and Forbidden."""
    case = await store.get(conn, name, lock=True)
    if case is None:
        raise _missing(name)
    caller = current_caller()
    caller.require(permission, zone=case.zone, organisation=case.organisation)
    return case, caller


def _sees_drafts(caller: Caller, case: Case) -> bool:
    return any(caller.allows(permission, case.zone, case.organisation) for permission in (WRITE, REVIEW))


async def _shown(conn: Connection, case: Case, *, drafts: bool) -> pb.Case:
    return case_pb(case, await store.versions(conn, [case]), drafts=drafts)


def _missing(name: str) -> NotFound:
    return NotFound(Reason.CASE_NOT_FOUND, f"{name} does not exist", name=name)
