"""The servicer of RoutingService."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from libs.access import current_caller
from libs.errors import NotFound, Reason
from quintet.management.v1 import routing_pb2 as pb
from quintet.management.v1.routing_pb2_grpc import RoutingServiceServicer
from services.management import convert, store_events, store_types
from services.management.deadlines.texts import both, plain
from services.management.model import Explanation
from services.management.model_loop import voided_states
from services.management.model_report import unknown_type
from services.management.routing import store_history, texts
from services.management.routing.model_history import (
    CORRECTION_EVENTS,
    Correction,
    Ended,
    Experience,
    Ranked,
    words_of,
)
from services.management.routing.model_measure import Accuracy, measure
from services.management.service_base import READ, Methods, missing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from libs.db import Connection
    from services.management.deadlines.model_clocks import CalendarSet
    from services.management.model import Event, EventType
    from services.management.model_report import Routing
    from services.management.service_base import Context

READ_ROUTING = "management.routing.read"
# What suggestions are made of: the latest events of the type, and the latest corrections.
HISTORY_EVENTS_MAX = 2_000
CORRECTIONS_MAX = 2_000
MEASURED_PER_TYPE_MAX = 200
SUGGESTIONS_MAX = 5


class _Known(NamedTuple):
    """What a suggestion is made of."""

    event: Event
    type: EventType
    rule: Routing
    ended: list[Ended]
    corrections: list[Correction]
    calendars: CalendarSet


class RoutingServicer(Methods, RoutingServiceServicer):
    """Suggests organisations for one node's events."""

    async def SuggestOrganisations(
        self, request: pb.SuggestOrganisationsRequest, _context: Context
    ) -> pb.SuggestOrganisationsResponse:
        now = self._transactions.clock.now()

        async def read(conn: Connection) -> _Known:
            found = await store_events.get(conn, request.event)
            if found is None:
                raise missing(request.event)
            event = found[0]
            current_caller().require(READ_ROUTING, zone=event.zone)
            current_caller().require(READ, zone=event.zone, organisation=event.handlers)
            self._check_ours(event)
            event_type = await store_types.get_type(conn, event.type) or unknown_type(event.type, event.loop)
            node = self._transactions.node
            return _Known(
                event,
                event_type,
                await self._intake.route(conn, event_type, event.zone, now, event.component),
                await store_history.ended(
                    conn, node, voided_states(self._loops.versions), event.type, limit=HISTORY_EVENTS_MAX
                ),
                await store_history.corrections(conn, [event.type], limit=CORRECTIONS_MAX),
                await self._book.calendars(conn),
            )

        known = await self._transactions.read(read)
        ranked = await asyncio.to_thread(self._rank, known)
        rule = known.rule.organisation
        rooms = SUGGESTIONS_MAX - bool(rule)
        named = list(dict.fromkeys([*([rule] if rule else []), *(each.organisation for each in ranked[:rooms])]))
        counts = await self._transactions.read(
            lambda conn: store_history.open_events(conn, self._transactions.node, named)
        )
        usual = known.calendars.named(known.type.calendar)
        on_duty = {name for name in named if known.calendars.of(name, otherwise=usual).is_working(now)}
        said = [_said(rule, pb.SUGGESTION_SOURCE_RULE, known.rule.explanation, on_duty, counts)] if rule else []
        for each in ranked[:rooms]:
            why = _explained(each, known)
            found = _said(each.organisation, pb.SUGGESTION_SOURCE_HISTORY, why, on_duty, counts)
            found.share = each.share
            said.append(found)
        return pb.SuggestOrganisationsResponse(suggestions=said, sample=len(known.ended))

    def _rank(self, known: _Known) -> list[Ranked]:
        tree = self._zones()
        experience = Experience()
        for ended in known.ended:
            experience.learn(tree.path(ended.zone), ended.organisation, words_of(ended.description))
        for correction in known.corrections:
            experience.correct(tree.path(correction.zone), correction.organisation)
        return experience.rank(tree.path(known.event.zone), words_of(known.event.description))

    async def MeasureRouting(self, request: pb.MeasureRoutingRequest, _context: Context) -> pb.MeasureRoutingResponse:
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(request.parent))
        current_caller().require(READ_ROUTING, zone=zone)

        async def read(conn: Connection) -> tuple[list[Ended], list[Correction]]:
            node, voided = self._transactions.node, voided_states(self._loops.versions)
            if request.type:
                ended = await store_history.ended(conn, node, voided, request.type, limit=HISTORY_EVENTS_MAX)
            else:
                ended = await store_history.ended_of_each(
                    conn, node, voided, each=MEASURED_PER_TYPE_MAX, limit=HISTORY_EVENTS_MAX
                )
            types = {event.type for event in ended}
            return ended, await store_history.corrections(conn, types, limit=CORRECTIONS_MAX)

        if request.type and await self._transactions.read(partial(_type, name=request.type)) is None:
            raise NotFound(Reason.EVENT_TYPE_NOT_FOUND, f"{request.type} does not exist", name=request.type)
        ended, corrections = await self._transactions.read(read)
        count, rules, history = await asyncio.to_thread(
            measure, ended, corrections, tree.path, frozenset(tree.codes(zone))
        )
        return pb.MeasureRoutingResponse(
            events=count,
            accuracies=[
                _accuracy(pb.SUGGESTION_SOURCE_RULE, rules),
                _accuracy(pb.SUGGESTION_SOURCE_HISTORY, history),
            ],
        )


async def _type(conn: Connection, *, name: str) -> EventType | None:
    return await store_types.get_type(conn, name)


def _said(
    organisation: str,
    source: pb.SuggestionSource.ValueType,
    why: Explanation,
    on_duty: Collection[str],
    counts: Mapping[str, int],
) -> pb.Suggestion:
    return pb.Suggestion(
        organisation=organisation,
        source=source,
        explanation=convert.explanation_pb(why),
        on_duty=organisation in on_duty,
        open_events=counts.get(organisation, 0),
    )


def _explained(ranked: Ranked, known: _Known) -> Explanation:
    event_type = known.type
    corrections = words = ("", "")
    if ranked.corrections:
        counted = {"count": plain(ranked.corrections), "weight": plain(CORRECTION_EVENTS)}
        corrections = both(texts.CORRECTIONS, **counted)
    if ranked.words:
        words = both(texts.WORDS, words=("、".join(ranked.words), ", ".join(ranked.words)))
    share = f"{ranked.share * 100:.0f}"
    zh, en = both(
        texts.HISTORY,
        sample=plain(len(known.ended)),
        type=(event_type.title_zh or event_type.name, event_type.title_en or event_type.name),
        zone=plain(known.event.zone),
        all_here=plain(ranked.all_here),
        here=plain(ranked.here),
        everywhere=plain(ranked.everywhere),
        organisation=plain(ranked.organisation),
        share=plain(share),
        corrections=corrections,
        words=words,
    )
    inputs = {
        "type": event_type.name,
        "zone": known.event.zone,
        "sample": str(len(known.ended)),
        "events_here": str(ranked.here),
        "events_everywhere": str(ranked.everywhere),
        "corrections": str(ranked.corrections),
        "share": f"{ranked.share:.4f}",
    }
    return Explanation("rules/routing-history", zh, en, inputs)


def _accuracy(source: pb.SuggestionSource.ValueType, found: Accuracy) -> pb.RoutingAccuracy:
    text = texts.MEASURED_RULES if source == pb.SUGGESTION_SOURCE_RULE else texts.MEASURED_HISTORY
    values = {"suggested": str(found.suggested), "right": str(found.right), "share": f"{found.share * 100:.1f}"}
    why = Explanation("rules/routing-measured", *text.fill(**values), values)
    return pb.RoutingAccuracy(
        source=source,
        suggested=found.suggested,
        right=found.right,
        share=found.share,
        explanation=convert.explanation_pb(why),
    )
