"""The servicer of ImportService."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from libs.access import Caller, current_caller
from libs.errors import DomainError, Invalid
from libs.ids import short_id
from libs.tx import Tx
from quintet.management.v1 import imports_pb2 as pb
from quintet.management.v1.imports_pb2_grpc import ImportServiceServicer
from services.management import convert, stated, store_candidates, store_events, store_types
from services.management.importing import store
from services.management.importing.model import SOURCE, Kind, Life, PastStep, Refused, live, match_past
from services.management.model import ReportKind
from services.management.model_loop import LOOP_DEFAULT, said_time
from services.management.model_report import Report, merge_report, route, unknown_type
from services.management.service_base import Context, Methods

if TYPE_CHECKING:
    from services.management.model import Event
    from services.management.model_merge import Match

IMPORT = "management.events.import"


@dataclass(slots=True)
class _Batch:
    """What is known while a batch is taken in. `zones` are those that were checked, `kinds` those looked up."""

    tx: Tx
    parent: str
    source: str
    caller: Caller
    known: dict[str, str]
    lives: list[Life] = field(default_factory=list)
    zones: dict[str, str | Refused] = field(default_factory=dict)
    kinds: dict[tuple[str, str], Kind] = field(default_factory=dict)


class ImportServicer(Methods, ImportServiceServicer):
    """Takes in events of the past."""

    async def ImportEvents(self, request: pb.ImportEventsRequest, _context: Context) -> pb.ImportEventsResponse:
        return await self._transactions.mutate(request, pb.ImportEventsResponse, partial(self._import, request))

    async def _import(self, request: pb.ImportEventsRequest, tx: Tx) -> pb.ImportEventsResponse:
        parent = await self._zone_of_ours(tx.conn, convert.zone_of(request.parent))
        caller = current_caller()
        caller.require(IMPORT, zone=parent)
        # Two who bring records of one source take turns, so that each sees what the other's were merged into.
        await store_candidates.take_turns(tx.conn, f"imports/{request.source}")
        sources = [SOURCE.format(source=request.source, record=past.external_id) for past in request.events]
        batch = _Batch(tx, parent, request.source, caller, await store.known(tx.conn, sources))
        response = pb.ImportEventsResponse()
        for past, source in zip(request.events, sources, strict=True):
            try:
                answer = await self._take(batch, past, source)
            except Refused as refused:
                answer = pb.ImportedEvent(
                    outcome=pb.IMPORT_OUTCOME_REFUSED, field=refused.field, rule=refused.rule
                )  # fmt: skip
            answer.external_id = past.external_id
            response.events.append(answer)
        if batch.lives:
            await store.insert(tx.conn, request.source, batch.lives)
        for life in batch.lives:
            _state(tx, life)
        return response

    async def _take(self, batch: _Batch, past: pb.PastEvent, source: str) -> pb.ImportedEvent:
        if source in batch.known:
            return pb.ImportedEvent(outcome=pb.IMPORT_OUTCOME_KNOWN, event=batch.known[source])
        zone = await self._zone(batch, past.zone or batch.parent)
        kind = await self._kind(batch, past.type, zone)
        report = _report(batch.tx, past, source, zone)
        merged = await self._merge(batch, report, kind)
        if merged is None:
            life = live(
                report,
                [_step(each) for each in past.steps],
                kind,
                promised_at=convert.time_of(past, "promised_at"),
                node=self._transactions.node,
                name=f"zones/{zone}/events/{report.occurred_at.year}-{short_id()}",
                actor=batch.caller.subject,
                now=batch.tx.now,
            )
            batch.lives.append(life)
        event = merged or batch.lives[-1].event
        batch.known[source] = event.name
        outcome = pb.IMPORT_OUTCOME_MERGED if merged else pb.IMPORT_OUTCOME_OPENED
        return pb.ImportedEvent(outcome=outcome, event=event.name, flags=[flag.code for flag in event.flags])

    async def _zone(self, batch: _Batch, code: str) -> str:
        """Return the present code of a record's zone. Raises Refused unless it is in the parent and this node's."""
        if code not in batch.zones:
            batch.zones[code] = await self._looked_up(batch, code)
        found = batch.zones[code]
        if isinstance(found, Refused):
            raise found
        return found

    async def _looked_up(self, batch: _Batch, code: str) -> str | Refused:
        try:
            zone = await self._zone_of_ours(batch.tx.conn, code)
        except DomainError as error:
            return Refused("zone", error.message)
        return zone if self._zones().covers(batch.parent, zone) else Refused("zone", f"must be in {batch.parent}")

    async def _kind(self, batch: _Batch, name: str, zone: str) -> Kind:
        if (name, zone) not in batch.kinds:
            conn = batch.tx.conn
            event_type = await store_types.get_type(conn, name) or unknown_type(name, LOOP_DEFAULT)
            loop = await self._loops.named(conn, event_type.loop)
            if loop is None:
                raise Refused("type", f"follows {event_type.loop}, which this node does not have")
            routing = route(event_type, zone, self._zones())
            batch.kinds[name, zone] = Kind(event_type, loop, routing, await self._book.calendars(conn))
        return batch.kinds[name, zone]

    async def _merge(self, batch: _Batch, report: Report, kind: Kind) -> Event | None:
        """Merge a report into the event that was open for the same thing at that time, and return it."""
        tx, policy = batch.tx, kind.type.merge
        stored = await store.candidates(
            tx.conn, batch.source, kind.type.name, policy, report.place, report.occurred_at
        )  # fmt: skip
        found = match_past(kind.type, report, batch.lives, stored)
        if found is None:
            return None
        match, life = found
        if life is not None:
            life.merge(report, match, actor=batch.caller.subject, now=tx.now)
            return life.event
        return await self._merge_stored(batch, report, match)

    async def _merge_stored(self, batch: _Batch, report: Report, match: Match) -> Event | None:
        event = await store_events.lock(batch.tx.conn, match.candidate.name)
        if event is None:
            return None
        after, step = merge_report(
            event, report, match.explanation, actor=batch.caller.subject, now=batch.tx.now
        )  # fmt: skip
        await store_events.merge(batch.tx.conn, after, step, report)
        stated.merged(batch.tx, after, report)
        return after


def _state(tx: Tx, life: Life) -> None:
    stated.opened(tx, life.opened, life.report)
    answer = ""
    for after, step, report in life.moments[1:]:
        if report is not None:
            stated.merged(tx, after, report)
        else:
            stated.advanced(tx, after, step, answer=after.answer if after.answer != answer else "")
            answer = after.answer


def _report(tx: Tx, past: pb.PastEvent, source: str, zone: str) -> Report:
    try:
        occurred_at = said_time(convert.time_of(past, "occurred_at"), tx.now)
    except Invalid as error:
        raise Refused(*error.violations[0]) from error
    return Report(
        kind=ReportKind.IMPORT,
        source=source,
        zone=zone,
        type=past.type,
        description=past.description,
        place=convert.place_of(past.place),
        occurred_at=occurred_at,
        flags=convert.flags_of(past.flags),
    )


def _step(past: pb.PastStep) -> PastStep:
    return PastStep(
        past.action, convert.time_of(past, "occurred_at"), past.organisation, past.reason, past.answer
    )  # fmt: skip
