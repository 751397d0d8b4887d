"""Warnings and what people say of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import NotFound, Reason
from quintet.perception.v1 import perception_pb2 as pb
from services.perception import store, store_warnings, wire
from services.perception.model import Verdict, Warned, WarningState
from services.perception.service_parts import Context, Parts

if TYPE_CHECKING:
    from libs.tx import Tx

READ = "perception.warnings.read"
RATE = "perception.warnings.rate"
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500


class WarningMethods(Parts):
    """Warnings."""

    async def GetWarning(self, request: pb.GetWarningRequest, _: Context) -> pb.GetWarningResponse:
        found = await self._transactions.read(lambda conn: store_warnings.get_warning(conn, request.name))
        warning = _visible(found, request.name, READ)
        return pb.GetWarningResponse(warning=wire.warning_message(warning))

    async def ListWarnings(self, request: pb.ListWarningsRequest, _: Context) -> pb.ListWarningsResponse:
        zone = names.parse(request.parent, "zones/{zone}", field="parent")["zone"]
        state = WarningState(request.state) if request.state else None
        of = f"warnings {zone} {request.state}"
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        after = paging.after(request.page_token, datetime, str, of=of)
        visible, zones = current_caller().visibility(READ), self._zones().codes(zone)
        rows = await self._transactions.read(
            lambda conn: store_warnings.list_warnings(
                conn, zones, visible, state=state, after=(after[0], after[1]) if after else None, limit=size + 1
            )
        )
        page, token = paging.page(rows, size, lambda warning: (warning.raised_at, warning.name), of=of)
        return pb.ListWarningsResponse(warnings=map(wire.warning_message, page), next_page_token=token)

    async def RateWarning(self, request: pb.RateWarningRequest, _: Context) -> pb.RateWarningResponse:
        verdict = Verdict(request.verdict)

        async def rate(tx: Tx) -> pb.RateWarningResponse:
            warning = _visible(await store_warnings.lock_warning(tx.conn, request.name), request.name, RATE)
            if warning.verdict is not verdict:
                await store_warnings.set_verdict(tx.conn, warning.name, verdict)
                # Somebody may change their mind: what was said before no longer counts.
                await store.count_alarms(
                    tx.conn,
                    warning.rule,
                    true=(verdict is Verdict.TRUE_ALARM) - (warning.verdict is Verdict.TRUE_ALARM),
                    false=(verdict is Verdict.FALSE_ALARM) - (warning.verdict is Verdict.FALSE_ALARM),
                )
            tx.audit(RATE, warning.name, verdict=verdict.name, before=warning.verdict.name, rule=warning.rule)
            return pb.RateWarningResponse(warning=wire.warning_message(replace(warning, verdict=verdict)))

        return await self._transactions.mutate(request, pb.RateWarningResponse, rate)


def _visible(warning: Warned | None, name: str, permission: str) -> Warned:
    if warning is None:
        raise NotFound(Reason.WARNING_NOT_FOUND, f"{name} does not exist", name=name)
    current_caller().require(permission, zone=warning.zone, organisation=warning.organisation)
    return warning
