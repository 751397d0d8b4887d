"""What scorecards say: scores, the events behind each figure, and what a version changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Forbidden, Invalid, NotFound, Reason
from quintet.management.v1 import scorecards_pb2 as pb
from services.management.performance import store_cards, store_counted
from services.management.performance.convert_scorecards import (
    change_pb,
    event_pb,
    figure_pb,
    kind_of,
    kind_pb,
    part_of,
    score_pb,
    subject_of,
    subject_pb,
)
from services.management.performance.model_scorecard import Credit, Part, SubjectKind
from services.management.performance.service_base import READ, CardMethods
from services.management.performance.service_cards import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libs.db import Connection
    from services.management.performance.model_scorecard import Definition, Figure, Row, Score, Version
    from services.management.performance.service_base import Shown
    from services.management.service_base import Context

FIGURE_CHANGES_MAX = 1000


class ReadingMethods(CardMethods):
    """What the scored and their supervisors read."""

    async def ListScores(self, request: pb.ListScoresRequest, _context: Context) -> pb.ListScoresResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        kind = kind_of(request.kind) or ""
        of = f"scores {request.parent} {request.version} {kind}"
        after = paging.after(request.page_token, str, str, of=of)

        async def read(conn: Connection) -> tuple[Shown, list[Score]]:
            shown = await self._shown(conn, request.parent, request.version)
            found = await store_cards.scores(
                conn, shown.version.id, kind, organisations=shown.organisations, after=after or ("", ""), limit=size + 1
            )
            return shown, found

        shown, rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda score: (str(score.kind), score.subject), of=of)
        return pb.ListScoresResponse(
            scores=[score_pb(shown.definition, score) for score in page], next_page_token=token
        )

    async def ListFigureEvents(
        self, request: pb.ListFigureEventsRequest, _context: Context
    ) -> pb.ListFigureEventsResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        kind = kind_of(request.kind)
        if kind is None:
            raise Invalid("kind", "is required")
        subject = subject_of(kind, request.subject)
        wanted = part_of(request.part)
        parts = (wanted,) if wanted else (Part.MET, Part.NOT_MET, Part.UNKNOWN)
        of = f"figure {request.parent} {request.version} {kind} {subject} {request.indicator} {wanted}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> tuple[int | None, list[Row]]:
            shown = await self._shown(conn, request.parent, request.version)
            if shown.organisations is not None and (
                kind is not SubjectKind.ORGANISATION or subject not in shown.organisations
            ):
                raise Forbidden(Reason.NOT_PERMITTED, f"{READ} is not granted for {request.subject}", permission=READ)
            place = _place(shown.definition, request.indicator, wanted)
            # Those kept out of everything are shown to who has them.
            credit = Credit.HANDLER
            if place is not None and wanted is not Part.EXCLUDED:
                credit = shown.definition.indicators[place].credit
            rows = await store_counted.behind(
                conn, shown.version.id, kind, subject, credit, place, parts,
                after=after[0] if after else 0, limit=size + 1,
            )  # fmt: skip
            return place, rows

        place, rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.event_id,), of=of)
        return pb.ListFigureEventsResponse(events=[event_pb(row, place) for row in page], next_page_token=token)

    async def ListScorecardChanges(
        self, request: pb.ListScorecardChangesRequest, _context: Context
    ) -> pb.ListScorecardChangesResponse:
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        of = f"changes {request.parent} {request.version}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> pb.ListScorecardChangesResponse:
            shown = await self._shown(conn, request.parent, request.version)
            current_caller().require(READ, zone=shown.card.zone)
            if shown.version.number == 1:
                return pb.ListScorecardChangesResponse()
            before = await store_cards.version(conn, shown.card, shown.version.number - 1, drafts=False)
            if before is None:
                raise NotFound(Reason.SCORECARD_NOT_FOUND, f"{request.parent} has no version before")
            rows = await store_counted.differing(
                conn, before.id, shown.version.id, behind=after[0] if after else 0, limit=size + 1
            )
            page, token = paging.page(rows, size, lambda row: ((row.after or row.before).event_id,), of=of)  # type: ignore[union-attr]
            found = pb.ListScorecardChangesResponse(
                reason=shown.version.reason,
                events=[change_pb(shown.definition, *each) for each in page],
                next_page_token=token,
            )
            if not request.page_token:
                await _add_figures(conn, found, shown.definition, before, shown.version)
            return found

        return await self._transactions.read(read)


def _place(definition: Definition, indicator: str, wanted: Part | None) -> int | None:
    """Return where an indicator stands; None for none, which is possible for what is excluded from all."""
    place = definition.place(indicator)
    if place is None and (indicator or wanted is not Part.EXCLUDED):
        raise Invalid("indicator", f"must be one of {', '.join(each.id for each in definition.indicators)}")
    return place


async def _add_figures(
    conn: Connection, found: pb.ListScorecardChangesResponse, definition: Definition, before: Version, after: Version
) -> None:
    """Add the figures that two versions have otherwise."""
    was, now = [
        {(score.kind, score.subject): score.figures for score in await store_cards.scores(conn, version.id)}
        for version in (before, after)
    ]
    for kind, subject in sorted(was.keys() | now.keys()):
        for place, old, new in _differing(was.get((kind, subject)), now.get((kind, subject)), definition):
            found.figures_total += 1
            if len(found.figures) < FIGURE_CHANGES_MAX:
                indicator = definition.indicators[place]
                found.figures.add(
                    kind=kind_pb(kind),
                    subject=subject_pb(kind, subject),
                    before=figure_pb(indicator, old) if old else None,
                    after=figure_pb(indicator, new) if new else None,
                )


def _differing(
    was: Sequence[Figure] | None, now: Sequence[Figure] | None, definition: Definition
) -> Iterator[tuple[int, Figure | None, Figure | None]]:
    for place in range(len(definition.indicators)):
        old, new = was[place] if was else None, now[place] if now else None
        if old != new:
            yield place, old, new
