"""Appeals: filed by the organisation scored, decided by somebody of another one, counted from the next version on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from libs.ids import short_id
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import scorecards_pb2 as pb
from services.management.convert import zone_of
from services.management.performance import store_appeals, store_cards, store_counted
from services.management.performance.convert_scorecards import appeal_pb, part_of
from services.management.performance.making import definition_of
from services.management.performance.model_scorecard import (
    APPEAL_NAME,
    Appeal,
    AppealState,
    Part,
    check_appealable,
    check_decidable,
)
from services.management.performance.service_base import APPEAL, DECIDE, READ, CardMethods, missing
from services.management.performance.service_cards import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Tx
    from services.management.performance.model_scorecard import Card, Definition, Row
    from services.management.service_base import Context


class AppealMethods(CardMethods):
    """What the scored object to, and what becomes of it."""

    async def FileScorecardAppeal(
        self, request: pb.FileScorecardAppealRequest, _context: Context
    ) -> pb.FileScorecardAppealResponse:
        return await self._transactions.mutate(request, pb.FileScorecardAppealResponse, partial(self._file, request))

    async def _file(self, request: pb.FileScorecardAppealRequest, tx: Tx) -> pb.FileScorecardAppealResponse:
        card = await store_cards.get(tx.conn, request.parent, lock=True)
        if card is None:
            raise missing(request.parent)
        caller = current_caller()
        own = self._organisations(caller, APPEAL, card)
        if request.organisation not in own and not caller.allows(APPEAL, zone=card.zone):
            text = f"{APPEAL} is not granted for {request.organisation}"
            raise Forbidden(Reason.NOT_PERMITTED, text, permission=APPEAL)
        version = await store_cards.version(tx.conn, card, card.published, drafts=False) if card.published else None
        if version is None:
            raise WrongState(Reason.WRONG_STATE, f"{card.name} is not published yet", name=card.name)
        definition = await definition_of(tx.conn, card.definition, card.definition_version)
        check_appealable(definition, version, tx.now)
        if await store_appeals.count(tx.conn, card.id) >= store_appeals.APPEALS_MAX:
            raise Exhausted(Reason.QUOTA, f"a scorecard has at most {store_appeals.APPEALS_MAX} appeals")
        place, wanted = _wanted(request, definition)
        events = tuple(dict.fromkeys(request.events))
        rows = {row.event: row for row in await store_counted.rows_of(tx.conn, version.id, events)}
        for number, event in enumerate(request.events):
            if event not in rows or not _counts(rows[event], definition, place, request.organisation):
                raise Invalid(f"events[{number}]", f"{event} does not count for {request.organisation}")
        appeal = Appeal(
            name=f"{card.name}/appeals/{short_id()}",
            version=version.number,
            organisation=request.organisation,
            indicator=request.indicator,
            wanted=wanted,
            events=events,
            reason=request.reason,
            asked_by=caller.subject,
            asked_at=tx.now,
        )
        await store_appeals.insert(tx.conn, card.id, appeal)
        return pb.FileScorecardAppealResponse(appeal=_state(tx, card, appeal))

    async def DecideScorecardAppeal(
        self, request: pb.DecideScorecardAppealRequest, _context: Context
    ) -> pb.DecideScorecardAppealResponse:
        decide = partial(self._decide, request)
        return await self._transactions.mutate(request, pb.DecideScorecardAppealResponse, decide)

    async def _decide(self, request: pb.DecideScorecardAppealRequest, tx: Tx) -> pb.DecideScorecardAppealResponse:
        card = await store_cards.get(tx.conn, request.name.rpartition("/appeals/")[0])
        appeal = await store_appeals.lock(tx.conn, request.name)
        if card is None or appeal is None:
            raise NotFound(Reason.APPEAL_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        caller = current_caller()
        caller.require(DECIDE, zone=zone_of(request.name, APPEAL_NAME, field="name"))
        check_decidable(appeal, caller.subject, caller.grants.organisations)
        decided = replace(
            appeal,
            state=AppealState.GRANTED if request.granted else AppealState.REFUSED,
            decided_by=caller.subject,
            decided_at=tx.now,
            note=request.note,
        )
        await store_appeals.decide(tx.conn, decided)
        return pb.DecideScorecardAppealResponse(appeal=_state(tx, card, decided))

    async def ListScorecardAppeals(
        self, request: pb.ListScorecardAppealsRequest, _context: Context
    ) -> pb.ListScorecardAppealsResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"appeals {request.parent}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> list[Appeal]:
            card = await store_cards.get(conn, request.parent)
            if card is None:
                raise missing(request.parent)
            caller = current_caller()
            organisations = None
            if not caller.allows(READ, zone=card.zone):
                organisations = sorted(self._organisations(caller, READ, card))
                if not organisations:
                    raise missing(request.parent)
            return await store_appeals.page(
                conn, card.id, organisations=organisations, after=after[0] if after else None, limit=size + 1
            )

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda appeal: (appeal.id,), of=of)
        return pb.ListScorecardAppealsResponse(appeals=[appeal_pb(each) for each in page], next_page_token=token)


def _wanted(request: pb.FileScorecardAppealRequest, definition: Definition) -> tuple[int | None, Part]:
    """Return the place of the indicator, None for all, and how the events should count. Raises Invalid."""
    wanted = part_of(request.wanted)
    if wanted not in {Part.MET, Part.NOT_MET, Part.EXCLUDED} or wanted is None:
        raise Invalid("wanted", "must be met, not met or excluded")
    if not request.indicator:
        if wanted is not Part.EXCLUDED:
            raise Invalid("indicator", "is required unless the events should be excluded")
        return None, wanted
    place = definition.place(request.indicator)
    if place is None:
        raise Invalid("indicator", f"must be one of {', '.join(each.id for each in definition.indicators)}")
    return place, wanted


def _counts(row: Row, definition: Definition, place: int | None, organisation: str) -> bool:
    """Return whether an event counts for an organisation, in the indicator at `place` or in any."""
    indicators = definition.indicators if place is None else (definition.indicators[place],)
    return not row.excluded and any(row.credited(indicator.credit) == organisation for indicator in indicators)


def _state(tx: Tx, card: Card, appeal: Appeal) -> pb.Appeal:
    """State an appeal as it is now, with its audit entry."""
    shown = appeal_pb(appeal)
    tx.publish(facts_pb2.ScorecardAppealChanged(appeal=shown), zone=card.zone, key=card.name)
    tx.audit(f"management.scorecard_appeals.{appeal.state}", appeal.name, events=len(appeal.events))
    return shown
