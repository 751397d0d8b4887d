"""Saved filters: one's own, and those that an organisation shares."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToJson, Parse

from libs import paging
from libs.access import Caller, current_caller
from libs.errors import Exhausted, Forbidden, Invalid, NotFound, Reason, Stale
from quintet.management.v1 import worklists_pb2 as pb
from services.management.convert import component_sought, time_pb
from services.management.worklists import store_filters
from services.management.worklists.service_base import WorkMethods
from services.management.worklists.store_filters import Kept

if TYPE_CHECKING:
    from libs.tx import Tx
    from services.management.service_base import Context

SAVED_FILTERS_MAX = 200  # of one person
_LIST = "saved filters"
# What the row itself says.
_NOT_DEFINED = ("name", "organisation", "revision", "changed_at")


class FilterMethods(WorkMethods):
    """Methods about saved filters. A filter grants nothing: whoever uses it sees what they may see anyway."""

    async def PutSavedFilter(self, request: pb.PutSavedFilterRequest, _context: Context) -> pb.PutSavedFilterResponse:
        return await self._transactions.mutate(request, pb.PutSavedFilterResponse, partial(self._put, request))

    async def _put(self, request: pb.PutSavedFilterRequest, tx: Tx) -> pb.PutSavedFilterResponse:
        wanted = request.saved_filter
        caller = _owner(wanted.name)
        if not (wanted.title.zh or wanted.title.en):
            raise Invalid("savedFilter.title", "is required in at least one language")
        if wanted.organisation and wanted.organisation not in caller.grants.organisations:
            raise Forbidden(Reason.NOT_PERMITTED, f"{caller.subject} is not of {wanted.organisation}")
        component_sought(wanted.filter.component, "savedFilter.filter.component")
        before = await store_filters.lock(tx.conn, wanted.name)
        if before is None and await store_filters.count(tx.conn, caller.subject) >= SAVED_FILTERS_MAX:
            raise Exhausted(Reason.QUOTA, f"a person keeps at most {SAVED_FILTERS_MAX} filters")
        revision = before.revision if before else 0
        if request.etag and request.etag != revision:
            text = f"{wanted.name} is at revision {revision}, not {request.etag}"
            raise Stale(Reason.ETAG_STALE, text, name=wanted.name, etag=str(revision))
        kept = Kept(wanted.name, caller.subject, wanted.organisation, _definition(wanted), revision + 1, tx.now)
        await store_filters.put(tx.conn, kept)
        tx.audit("management.saved_filters.put", kept.name, revision=kept.revision, organisation=kept.organisation)
        return pb.PutSavedFilterResponse(saved_filter=_filter_pb(kept))

    async def ListSavedFilters(
        self, request: pb.ListSavedFiltersRequest, _context: Context
    ) -> pb.ListSavedFiltersResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_LIST)
        caller = current_caller()
        rows = await self._transactions.look(
            lambda conn: store_filters.list_filters(
                conn, caller.subject, caller.grants.organisations, after=after[0] if after else "", limit=size + 1
            )
        )
        page, token = paging.page(rows, size, lambda kept: (kept.name,), of=_LIST)
        return pb.ListSavedFiltersResponse(saved_filters=[_filter_pb(kept) for kept in page], next_page_token=token)

    async def DeleteSavedFilter(
        self, request: pb.DeleteSavedFilterRequest, _context: Context
    ) -> pb.DeleteSavedFilterResponse:
        async def work(tx: Tx) -> pb.DeleteSavedFilterResponse:
            _owner(request.name)
            if not await store_filters.delete(tx.conn, request.name):
                raise _missing(request.name)
            tx.audit("management.saved_filters.delete", request.name)
            return pb.DeleteSavedFilterResponse()

        return await self._transactions.mutate(request, pb.DeleteSavedFilterResponse, work)


def _owner(name: str) -> Caller:
    """Return the caller, whose filter it must be; that another person keeps one is nobody else's to know."""
    caller = current_caller()
    if not name.startswith(f"{caller.subject}/"):
        raise _missing(name)
    return caller


def _missing(name: str) -> NotFound:
    return NotFound(Reason.SAVED_FILTER_NOT_FOUND, f"{name} does not exist", name=name)


def _definition(wanted: pb.SavedFilter) -> str:
    defined = pb.SavedFilter()
    defined.CopyFrom(wanted)
    for field in _NOT_DEFINED:
        defined.ClearField(field)  # type: ignore[arg-type]  # a literal of the names in the stub
    return MessageToJson(defined, indent=None)


def _filter_pb(kept: Kept) -> pb.SavedFilter:
    # What a later release wrote and this one does not know is left out.
    found = Parse(kept.definition, pb.SavedFilter(), ignore_unknown_fields=True)
    found.name = kept.name
    found.organisation = kept.organisation
    found.revision = kept.revision
    found.MergeFrom(pb.SavedFilter(changed_at=time_pb(kept.changed_at)))
    return found
