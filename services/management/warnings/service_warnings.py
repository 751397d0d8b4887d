"""Warnings to the public: written, approved, published, ended and reviewed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from libs import names
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason, Stale
from libs.ids import new_id
from quintet.management.v1 import warnings_pb2 as pb
from services.management.convert import zone_of
from services.management.warnings import model_warning, store_warnings
from services.management.warnings.convert_indicators import said_of
from services.management.warnings.convert_warnings import content_of, outcome_of, warning_pb
from services.management.warnings.model_warning import (
    PUBLIC_WARNING_NAME,
    Change,
    PublicWarning,
    Review,
    State,
    problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context
    from services.management.warnings.announcing import Announcer
    from services.management.warnings.model_warning import Content

    Request = TypeVar(
        "Request",
        pb.RevisePublicWarningRequest,
        pb.ApprovePublicWarningRequest,
        pb.PublishPublicWarningRequest,
        pb.EndPublicWarningRequest,
        pb.DiscardPublicWarningRequest,
        pb.ReviewPublicWarningRequest,
    )

RIGHT = "management.public_warnings"


class WarningMethods:
    """Methods that take a warning from one state to the next."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], announcer: Announcer) -> None:
        """`zones` gives the zones as they are at the moment of the question."""
        self._transactions = transactions
        self._zones = zones
        self._announcer = announcer

    async def DraftPublicWarning(
        self, request: pb.DraftPublicWarningRequest, _context: Context
    ) -> pb.DraftPublicWarningResponse:
        return await self._transactions.mutate(request, pb.DraftPublicWarningResponse, partial(self._draft, request))

    async def _draft(self, request: pb.DraftPublicWarningRequest, tx: Tx) -> pb.DraftPublicWarningResponse:
        zone = self._known(zone_of(request.parent))
        caller = current_caller()
        caller.require(f"{RIGHT}.draft", zone=zone)
        warning = PublicWarning(
            name=names.build(PUBLIC_WARNING_NAME, zone=zone, warning=new_id()),
            zone=zone,
            state=State.DRAFT,
            created_at=tx.now,
            draft=self._content(request.content, zone),
            drafted_by=caller.subject,
            source=request.source,
        )
        await store_warnings.put(tx.conn, warning)
        tx.audit(f"{RIGHT}.draft", warning.name, level=warning.latest.level)
        return pb.DraftPublicWarningResponse(warning=await self._shown(tx.conn, warning))

    async def RevisePublicWarning(
        self, request: pb.RevisePublicWarningRequest, _context: Context
    ) -> pb.RevisePublicWarningResponse:
        return await self._transactions.mutate(request, pb.RevisePublicWarningResponse, partial(self._revise, request))

    async def _revise(self, request: pb.RevisePublicWarningRequest, tx: Tx) -> pb.RevisePublicWarningResponse:
        warning = await self._lock(tx, request, "draft")
        content = self._content(request.content, warning.zone)
        after = model_warning.revise(warning, content, actor=current_caller().subject)
        await store_warnings.put(tx.conn, after)
        tx.audit(f"{RIGHT}.revise", after.name, level=content.level)
        return pb.RevisePublicWarningResponse(warning=await self._shown(tx.conn, after))

    async def ApprovePublicWarning(
        self, request: pb.ApprovePublicWarningRequest, _context: Context
    ) -> pb.ApprovePublicWarningResponse:
        return await self._transactions.mutate(
            request, pb.ApprovePublicWarningResponse, partial(self._approve, request)
        )

    async def _approve(self, request: pb.ApprovePublicWarningRequest, tx: Tx) -> pb.ApprovePublicWarningResponse:
        warning = await self._lock(tx, request, "approve")
        after = model_warning.approve(warning, actor=current_caller().subject)
        await store_warnings.put(tx.conn, after)
        tx.audit(f"{RIGHT}.approve", after.name, drafted_by=after.drafted_by)
        return pb.ApprovePublicWarningResponse(warning=await self._shown(tx.conn, after))

    async def PublishPublicWarning(
        self, request: pb.PublishPublicWarningRequest, _context: Context
    ) -> pb.PublishPublicWarningResponse:
        return await self._transactions.mutate(
            request, pb.PublishPublicWarningResponse, partial(self._publish, request)
        )

    async def _publish(self, request: pb.PublishPublicWarningRequest, tx: Tx) -> pb.PublishPublicWarningResponse:
        warning = await self._lock(tx, request, "publish")
        after, change = model_warning.publish(warning, tx.now)
        await self._announcer.tell(tx, after, change)
        tx.audit(f"{RIGHT}.publish", after.name, revision=after.revision, approved_by=after.approved_by)
        return pb.PublishPublicWarningResponse(warning=await self._shown(tx.conn, after))

    async def EndPublicWarning(
        self, request: pb.EndPublicWarningRequest, _context: Context
    ) -> pb.EndPublicWarningResponse:
        return await self._transactions.mutate(request, pb.EndPublicWarningResponse, partial(self._end, request))

    async def _end(self, request: pb.EndPublicWarningRequest, tx: Tx) -> pb.EndPublicWarningResponse:
        ending = said_of(request.ending)
        for language in ("zh", "en"):
            if not getattr(ending, language):
                raise Invalid(f"ending.{language}", "is required: people read both languages")
        warning = await self._lock(tx, request, "publish")
        after = model_warning.end(warning, ending, tx.now)
        await self._announcer.tell(tx, after, Change.ENDED)
        tx.audit(f"{RIGHT}.end", after.name)
        return pb.EndPublicWarningResponse(warning=await self._shown(tx.conn, after))

    async def DiscardPublicWarning(
        self, request: pb.DiscardPublicWarningRequest, _context: Context
    ) -> pb.DiscardPublicWarningResponse:
        return await self._transactions.mutate(
            request, pb.DiscardPublicWarningResponse, partial(self._discard, request)
        )

    async def _discard(self, request: pb.DiscardPublicWarningRequest, tx: Tx) -> pb.DiscardPublicWarningResponse:
        after = model_warning.discard(await self._lock(tx, request, "draft"))
        await store_warnings.put(tx.conn, after)
        tx.audit(f"{RIGHT}.discard", after.name, reason=request.reason)
        return pb.DiscardPublicWarningResponse(warning=await self._shown(tx.conn, after))

    async def ReviewPublicWarning(
        self, request: pb.ReviewPublicWarningRequest, _context: Context
    ) -> pb.ReviewPublicWarningResponse:
        return await self._transactions.mutate(request, pb.ReviewPublicWarningResponse, partial(self._review, request))

    async def _review(self, request: pb.ReviewPublicWarningRequest, tx: Tx) -> pb.ReviewPublicWarningResponse:
        warning = await self._lock(tx, request, "review")
        review = Review(outcome_of(request.outcome), request.notes, current_caller().subject)
        after = model_warning.reviewed(warning, review)
        await store_warnings.put(tx.conn, after)
        tx.audit(f"{RIGHT}.review", after.name, outcome=review.outcome)
        return pb.ReviewPublicWarningResponse(warning=await self._shown(tx.conn, after))

    # -------------------------------------------------------------------------------------------------------- shared

    async def _lock(self, tx: Tx, request: Request, verb: str) -> PublicWarning:
        """Return the warning of a request, locked. Raises NotFound, Forbidden, Stale."""
        warning = await store_warnings.lock(tx.conn, request.name)
        if warning is None:
            raise missing(request.name)
        current_caller().require(f"{RIGHT}.{verb}", zone=warning.zone)
        check_etag(warning, request.etag)
        return warning

    def _known(self, zone: str) -> str:
        tree = self._zones()
        code = tree.canonical(zone)
        if not tree.covers(tree.root, code):
            raise NotFound(Reason.ZONE_NOT_FOUND, f"zones/{zone} is not known here", zone=zone)
        return code

    def _content(self, given: pb.WarningContent, zone: str) -> Content:
        tree = self._zones()
        content = content_of(given, tree)
        if found := problems(content, frozenset(tree.descendants(zone))):
            raise Invalid.many(found)
        return content

    async def _shown(self, conn: Connection, warning: PublicWarning) -> pb.PublicWarning:
        counts = await store_warnings.counted(conn, [warning.name])
        return warning_pb(warning, counts.get(warning.name))


def missing(name: str) -> NotFound:
    """Return what is said of a warning that does not exist."""
    return NotFound(Reason.PUBLIC_WARNING_NOT_FOUND, f"{name} does not exist", name=name)


def check_etag(warning: PublicWarning, etag: int) -> None:
    """Raise Stale when the caller has seen another change than the last one; 0 asks for no check."""
    if etag and etag != warning.etag:
        text = f"{warning.name} is at change {warning.etag}, not {etag}"
        raise Stale(Reason.ETAG_STALE, text, name=warning.name, etag=str(warning.etag))
