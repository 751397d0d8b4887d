"""Questions about places: what comes back, and where there is more than elsewhere."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from libs.errors import Invalid
from quintet.common.v1 import common_pb2
from quintet.management.v1 import analysis_pb2 as pb
from services.management.analysis import store_counts, store_places, texts
from services.management.analysis.model_hotspots import Square, grid, hot
from services.management.analysis.model_repeats import chains, repeated
from services.management.analysis.model_rise import Window
from services.management.convert import explanation_pb, time_pb
from services.management.model import Explanation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.db import Connection
    from libs.tx import Transactions
    from services.management.analysis.model_hotspots import Bounds, Grid, HotCell
    from services.management.analysis.model_repeats import Chain, Happening
    from services.management.analysis.store_counts import Known
    from services.management.analysis.store_places import CellCount

EVENTS_READ_MAX = 50_000
CELLS_READ_MAX = 200_000
CHAINS_MAX = 200
CHAIN_EVENTS_MAX = 100
HOT_SPOTS_MAX = 200
REPEATS_RULE = "analyses/repeats"
HOT_SPOTS_RULE = "analyses/hot-spots"


@dataclass(frozen=True, slots=True)
class Area:
    """A zone with the codes of those below it, the time that is looked at, and a type; all types for ""."""

    zone: str
    codes: tuple[str, ...]
    window: Window
    type: str = ""

    def selection(self, window: Window | None = None, bounds: Bounds | None = None) -> pb.EventSelection:
        """Return the selection of the area's events, of a part of its time or place."""
        start, end = window or self.window
        return pb.EventSelection(
            parent=f"zones/{self.zone}",
            occurred_from=time_pb(start),
            occurred_to=time_pb(end),
            type=self.type,
            bounds=bounds_pb(bounds) if bounds is not None else None,
        )


# -------------------------------------------------------------------------------------------------------- repetitions


async def repeats(transactions: Transactions, area: Area, *, days: int, radius_m: float) -> pb.ListRepeatsResponse:
    """Return the chains of an area. Raises Invalid when it has more events than are read at once."""

    async def read(conn: Connection) -> tuple[list[Happening], dict[str, Known]]:
        limit = EVENTS_READ_MAX + 1
        found = await store_places.happenings(conn, area.codes, area.window, area.type, limit)
        return found, await store_counts.types(conn)

    found, known = await transactions.read(read)
    if len(found) > EVENTS_READ_MAX:
        raise Invalid("occurredFrom", f"leaves more than {EVENTS_READ_MAX} events; ask for less time or for one type")
    # Beside the loop: for tens of thousands of events it takes a second, and everybody else would wait.
    linked = await asyncio.to_thread(chains, found, radius_m=radius_m, within=timedelta(days=days))
    return pb.ListRepeatsResponse(
        chains=[_chain_pb(chain, known, days, radius_m) for chain in linked[:CHAINS_MAX]],
        chains_total=len(linked),
        repeated=repeated(linked),
        placed=len(found),
        events=area.selection(),
    )


def _chain_pb(chain: Chain, known: Mapping[str, Known], days: int, radius_m: float) -> pb.RepeatChain:
    latest = chain.latest
    inputs = {"count": str(len(chain.events)), "days": str(days), "radius": texts.number(radius_m)}
    message = pb.RepeatChain(
        type=latest.type,
        title=title_pb(latest.type, known),
        zone=latest.zone,
        count=len(chain.events),
        explanation=explanation_pb(Explanation(REPEATS_RULE, *texts.REPEATED.fill(**inputs), inputs)),
    )
    message.place.address = latest.address
    if latest.latitude is not None and latest.longitude is not None:
        message.place.point.latitude, message.place.point.longitude = latest.latitude, latest.longitude
    for event in chain.events[:CHAIN_EVENTS_MAX]:
        message.events.add(
            name=event.name,
            occurred_at=time_pb(event.occurred_at),
            closed_at=time_pb(event.closed_at),
            organisation=event.organisation,
        )
    return message


# ---------------------------------------------------------------------------------------------------------- hot spots


async def hot_spots(
    transactions: Transactions, area: Area, *, periods: int, cell_m: float, rate: float
) -> pb.ListHotSpotsResponse:
    """Return the hot cells of an area by period. Raises Invalid when it has more cells than are read at once."""
    spans = _divided(area.window, periods)

    async def read(conn: Connection) -> tuple[Grid, list[CellCount]]:
        latitude = await store_places.middle_latitude(conn, area.codes, area.window)
        squares = grid(cell_m, latitude or 0.0)
        limit = CELLS_READ_MAX + 1
        return squares, await store_places.cell_counts(conn, area.codes, spans, area.type, squares, limit)

    squares, counts = await transactions.read(read)
    if len(counts) > CELLS_READ_MAX:
        raise Invalid("cellM", f"makes more than {CELLS_READ_MAX} cells; ask for larger ones or for less time")
    cells = {count.square for count in counts}
    response = pb.ListHotSpotsResponse(cells=len(cells), cell_m=cell_m)
    for place, span in enumerate(spans):
        own = {count.square: count.of_type for count in counts if count.place == place and count.of_type}
        found = await asyncio.to_thread(hot, own, cells, rate=rate)
        hottest = found[:HOT_SPOTS_MAX]
        told = [_hot_pb(cell, area, span, squares, _inputs(cell, cell_m, len(cells), rate)) for cell in hottest]
        response.periods.add(
            start=time_pb(span.start),
            end=time_pb(span.end),
            located=sum(own.values()),
            hot_spots=told,
            geojson=_geojson(told),
        )
    return response


def _divided(window: Window, periods: int) -> list[Window]:
    length = (window.end - window.start) / periods
    edges: list[datetime] = [window.start + place * length for place in range(periods)] + [window.end]
    return [Window(start, end) for start, end in pairwise(edges)]


def _inputs(cell: HotCell, cell_m: float, cells: int, rate: float) -> dict[str, str]:
    return {
        "cell": texts.number(cell_m),
        "observed": str(cell.around),
        "expected": texts.number(cell.expected),
        "score": texts.number(cell.score),
        "p": texts.number(cell.p_value),
        "q": texts.number(cell.q_value),
        "cells": str(cells),
        "rate": texts.number(rate),
    }


def _hot_pb(cell: HotCell, area: Area, span: Window, squares: Grid, inputs: dict[str, str]) -> pb.HotSpot:
    row, column = cell.square
    first, last = squares.bounds(Square(row - 1, column - 1)), squares.bounds(Square(row + 1, column + 1))
    around = first._replace(north=last.north, east=last.east)
    return pb.HotSpot(
        bounds=bounds_pb(squares.bounds(cell.square)),
        events_in_cell=cell.events,
        observed=cell.around,
        expected=cell.expected,
        score=cell.score,
        p_value=cell.p_value,
        q_value=cell.q_value,
        explanation=explanation_pb(Explanation(HOT_SPOTS_RULE, *texts.HOT.fill(**inputs), inputs)),
        events=area.selection(span, around),
    )


def _geojson(spots: Sequence[pb.HotSpot]) -> str:
    """Return a FeatureCollection: rings run against the clock and end where they begin (RFC 7946, 3.1.6)."""
    features = []
    for spot in spots:
        south, west, north, east = (spot.bounds.south, spot.bounds.west, spot.bounds.north, spot.bounds.east)
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        properties = {"observed": spot.observed, "score": spot.score, "q_value": spot.q_value}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return json.dumps({"type": "FeatureCollection", "features": features})


# ------------------------------------------------------------------------------------------------------------- shared


def bounds_pb(bounds: Bounds) -> pb.Bounds:
    return pb.Bounds(south=bounds.south, west=bounds.west, north=bounds.north, east=bounds.east)


def title_pb(kind: str, known: Mapping[str, Known]) -> common_pb2.LocalText:
    """Return a type's name for people: in the other language, or its resource name, where there is none."""
    zh, en = known[kind][:2] if kind in known else ("", "")
    return common_pb2.LocalText(zh=zh or en or kind, en=en or zh or kind)
