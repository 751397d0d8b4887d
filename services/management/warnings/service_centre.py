"""The servicer of the warning centre: the lists, and who acknowledges what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from libs import paging
from libs.access import current_caller
from libs.errors import Forbidden, NotFound, Reason, WrongState
from quintet.management.v1 import warnings_pb2 as pb
from quintet.management.v1.warnings_pb2_grpc import WarningCentreServiceServicer
from services.management.convert import zone_of
from services.management.warnings import store_receipts, store_warnings
from services.management.warnings.convert_warnings import entry_pb, in_force_pb, receipt_pb, state_of, warning_pb
from services.management.warnings.model_warning import State
from services.management.warnings.service_warnings import RIGHT, WarningMethods, missing

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context
    from services.management.warnings.announcing import Announcer
    from services.management.warnings.model_warning import PublicWarning

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
# The posts of a person: (role, zone).
Posts: TypeAlias = Callable[[str], Awaitable[Collection[tuple[str, str]]]]


class WarningCentreServicer(WarningMethods, WarningCentreServiceServicer):
    """From the first draft to the review."""

    def __init__(
        self, transactions: Transactions, zones: Callable[[], ZoneTree], announcer: Announcer, posts: Posts
    ) -> None:
        """`posts` says which posts a person has; it may raise Away."""
        super().__init__(transactions, zones, announcer)
        self._posts = posts

    async def GetPublicWarning(
        self, request: pb.GetPublicWarningRequest, _context: Context
    ) -> pb.GetPublicWarningResponse:
        async def read(conn: Connection) -> pb.GetPublicWarningResponse:
            warning = await self._readable(conn, request.name)
            return pb.GetPublicWarningResponse(warning=await self._shown(conn, warning))

        return await self._transactions.read(read)

    async def ListPublicWarnings(
        self, request: pb.ListPublicWarningsRequest, _context: Context
    ) -> pb.ListPublicWarningsResponse:
        zones = self._read_zones(request.parent)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"public warnings {request.parent} {request.state}"
        after = paging.after(request.page_token, datetime, str, of=of)

        async def read(conn: Connection) -> pb.ListPublicWarningsResponse:
            state = state_of(request.state)
            rows = await store_warnings.page(conn, zones, state=state, after=after, limit=size + 1)
            page, token = paging.page(rows, size, lambda row: (row.created_at, row.name), of=of)
            counts = await store_warnings.counted(conn, [row.name for row in page])
            shown = [warning_pb(row, counts.get(row.name)) for row in page]
            return pb.ListPublicWarningsResponse(warnings=shown, next_page_token=token)

        return await self._transactions.read(read)

    async def ListWarningsInForce(
        self, request: pb.ListWarningsInForceRequest, _context: Context
    ) -> pb.ListWarningsInForceResponse:
        zones = concerning(self._zones(), zone_of(request.parent))
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"warnings in force {request.parent}"
        after = paging.after(request.page_token, datetime, str, of=of)
        now = self._transactions.clock.now()
        rows = await self._transactions.read(
            lambda conn: store_warnings.in_force(conn, zones, now, after=after, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.updated_at or now, row.name), of=of)
        return pb.ListWarningsInForceResponse(warnings=[in_force_pb(row) for row in page], next_page_token=token)

    async def ListCentreEntries(
        self, request: pb.ListCentreEntriesRequest, _context: Context
    ) -> pb.ListCentreEntriesResponse:
        zones = self._read_zones(request.parent)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"centre entries {request.parent} {request.active_only}"
        after = paging.after(request.page_token, datetime, str, of=of)
        now = self._transactions.clock.now()
        rows = await self._transactions.read(
            lambda conn: store_warnings.entries(
                conn, zones, now, active_only=request.active_only, after=after, limit=size + 1
            )
        )
        page, token = paging.page(rows, size, lambda row: (row.time, row.name), of=of)
        return pb.ListCentreEntriesResponse(entries=[entry_pb(row) for row in page], next_page_token=token)

    async def AcknowledgePublicWarning(
        self, request: pb.AcknowledgePublicWarningRequest, _context: Context
    ) -> pb.AcknowledgePublicWarningResponse:
        caller = current_caller()
        # Asked before the transaction, inside which nothing remote happens.
        posts = await self._posts(caller.subject) if request.recipient.startswith("roles/") else ()
        return await self._transactions.mutate(
            request, pb.AcknowledgePublicWarningResponse, partial(self._acknowledge, request, posts)
        )

    async def _acknowledge(
        self, request: pb.AcknowledgePublicWarningRequest, posts: Collection[tuple[str, str]], tx: Tx
    ) -> pb.AcknowledgePublicWarningResponse:
        warning = await store_warnings.lock(tx.conn, request.name)
        if warning is None:
            raise missing(request.name)
        self._require_recipient(warning, request.recipient, posts)
        if warning.state is not State.PUBLISHED:
            raise WrongState(Reason.WRONG_STATE, f"{warning.name} is {warning.state}", name=warning.name)
        by = current_caller().subject
        found = await store_receipts.acknowledge(tx.conn, warning.name, request.recipient, by=by, now=tx.now)
        if found is None:
            text = f"{request.recipient} is not asked to acknowledge {warning.name}"
            raise NotFound(Reason.RECEIPT_NOT_FOUND, text, name=warning.name)
        tx.audit(f"{RIGHT}.acknowledge", warning.name, recipient=request.recipient, revision=found.revision)
        return pb.AcknowledgePublicWarningResponse(receipt=receipt_pb(found))

    def _require_recipient(
        self, warning: PublicWarning, recipient: str, posts: Collection[tuple[str, str]]
    ) -> None:  # fmt: skip
        """Raise Forbidden unless the caller speaks for the recipient somewhere that the warning is for."""
        tree = self._zones()
        content = warning.latest
        touched = dict.fromkeys(code for zone in content.zones for code in tree.descendants(zone))
        caller, right = current_caller(), f"{RIGHT}.acknowledge"
        if recipient.startswith("roles/"):
            held = any(
                role == recipient and any(tree.covers(zone, code) for code in touched) for role, zone in posts
            )  # fmt: skip
        else:
            held = any(caller.allows(right, zone=code, organisation=recipient) for code in touched)
        if not held:
            raise Forbidden(Reason.NOT_PERMITTED, f"{right} is not granted for {recipient}", permission=right)

    async def ListWarningReceipts(
        self, request: pb.ListWarningReceiptsRequest, _context: Context
    ) -> pb.ListWarningReceiptsResponse:
        async def read(conn: Connection) -> pb.ListWarningReceiptsResponse:
            warning = await self._readable(conn, request.name)
            found = await store_receipts.page(conn, warning.name)
            return pb.ListWarningReceiptsResponse(receipts=[receipt_pb(each) for each in found])

        return await self._transactions.read(read)

    async def _readable(self, conn: Connection, name: str) -> PublicWarning:
        warning = await store_warnings.get(conn, name)
        if warning is None:
            raise missing(name)
        current_caller().require(f"{RIGHT}.read", zone=warning.zone)
        return warning

    def _read_zones(self, parent: str) -> tuple[str, ...]:
        tree = self._zones()
        zone = tree.canonical(zone_of(parent))
        current_caller().require(f"{RIGHT}.read", zone=zone)
        return tree.codes(zone)


def concerning(tree: ZoneTree, zone: str) -> list[str]:
    """Return the zones whose warnings people in `zone` should know: it, what lies above, what lies below."""
    return list(dict.fromkeys((*tree.path(zone), *tree.codes(zone))))
