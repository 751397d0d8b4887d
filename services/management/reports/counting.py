"""What a report says, read from the events and from the latest published scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.analysis import store_counts
from services.management.performance import store_cards
from services.management.performance.making import definition_of
from services.management.performance.model_scorecard import SubjectKind, total
from services.management.reports import finding, store_tallies, store_titles, texts
from services.management.reports.document import LINES_SHOWN_MAX
from services.management.reports.model_findings import NOTHING, Title
from services.management.reports.model_report import About, Content, Line, Mark, Marks, Period, Tally, edges, rising
from services.management.reports.store_tallies import By, Scope
from services.management.reports.titles import titled, type_title, zone_title

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from zoneinfo import ZoneInfo

    from libs.db import Connection
    from libs.zones import ZoneTree

ZONES_SHOWN_MAX = 50
MARKS_SHOWN_MAX = 50


async def counted(
    conn: Connection,
    tree: ZoneTree,
    zone: str,
    period: Period,
    city_time: ZoneInfo,
    *,
    organisation: str,
    event_type: str,
    voided: tuple[str, ...],
    searching: bool,
) -> Content:
    """Return what there was in a zone and those below it in a period, of one organisation and type if not empty.

    `searching` looks for what rises and for hot spots, too.
    """
    scope = Scope(tree.codes(zone), organisation, event_type, voided)
    types = await store_counts.types(conn)
    by = {each: await store_tallies.tally(conn, scope, period, each) for each in By}
    before = {each: await store_tallies.tally(conn, scope, period.before, each) for each in (By.ALL, By.TYPE)}
    type_lines = [
        Line(type_title(types, name), now, before[By.TYPE].get(name, Tally())) for name, now in by[By.TYPE].items()
    ]
    called = await _organisations(conn, {organisation, *by[By.ORGANISATION]})
    organisations = [Line(called[name], now) for name, now in by[By.ORGANISATION].items()]
    return Content(
        about=About(
            zone_title(tree, zone),
            called[organisation] if organisation else NOTHING,
            type_title(types, event_type) if event_type else NOTHING,
        ),
        now=by[By.ALL].get("", Tally()),
        before=before[By.ALL].get("", Tally()),
        buckets=tuple(await store_tallies.buckets(conn, scope, edges(period, city_time))),
        types=rising(type_lines, LINES_SHOWN_MAX),
        zones=_below(tree, zone, by[By.ZONE]),
        organisations=rising(organisations, LINES_SHOWN_MAX),
        marks=await _marks(conn, tree, zone),
        emerging=await finding.emerging(conn, tree, zone, period, city_time) if searching else None,
        hot_spots=await finding.hot_spots(conn, tree, zone, period) if searching else None,
    )


async def _organisations(conn: Connection, names: Collection[str]) -> dict[str, Title]:
    """Return what organisations are called; "" is nobody."""
    known = await store_titles.get(conn, names)
    found = {name: titled(*known.get(name, ("", "")), name) for name in names}
    return found | {"": Title(texts.NOBODY.zh, texts.NOBODY.en)}


def _below(tree: ZoneTree, zone: str, tallies: dict[str, Tally]) -> tuple[Line, ...]:
    """Return the zones right below a zone, each with what lies below it, and the zone without them."""
    sums: dict[str, list[Tally]] = {}
    depth = len(tree.path(zone))
    for code, found in tallies.items():
        path = tree.path(code)
        # What is of no zone below stands under the zone's own name.
        sums.setdefault(path[depth] if len(path) > depth else zone, []).append(found)
    lines = [Line(zone_title(tree, code), _sum(found)) for code, found in sums.items()]
    return rising(lines, ZONES_SHOWN_MAX) if len(lines) > 1 else ()


def _sum(found: list[Tally]) -> Tally:
    return Tally(*(sum(getattr(each, name) for each in found) for name in Tally.__dataclass_fields__))


def _subject(kind: SubjectKind, name: str, tree: ZoneTree, called: Mapping[str, Title]) -> Title:
    if kind is SubjectKind.ORGANISATION:
        return called[name]
    if kind is SubjectKind.ZONE:
        return zone_title(tree, name)
    if name.startswith(texts.LEVEL_TIER):
        return Title(*texts.LEVEL.fill(level=name.removeprefix(texts.LEVEL_TIER)))
    tier = texts.TIERS.get(name)
    return Title(tier.zh, tier.en) if tier else Title(name, name)


async def _marks(conn: Connection, tree: ZoneTree, zone: str) -> Marks | None:
    """Return the latest published scorecard of a zone."""
    rows = await store_cards.page(conn, [zone], drafts=[], after=None, limit=1)
    if not rows:
        return None
    card, version = rows[0]
    definition = await definition_of(conn, card.definition, card.definition_version)
    scores = await store_cards.scores(conn, version.id, limit=MARKS_SHOWN_MAX)
    called = await _organisations(conn, [score.subject for score in scores if score.kind is SubjectKind.ORGANISATION])
    marks = [
        Mark(
            _subject(score.kind, score.subject, tree, called),
            None if (points := total(definition, score.figures)[0]) is None else float(points),
        )
        for score in scores
    ]
    return Marks(
        name=card.name,
        zh=definition.title.zh,
        en=definition.title.en,
        version=version.number,
        period=Period(card.period_from, card.period_to),
        content_hash=version.content_hash.hex(),
        marks=tuple(marks),
    )
