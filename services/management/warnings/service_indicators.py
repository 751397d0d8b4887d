"""Declared figures: put, read, and asked what they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Exhausted, Invalid, NotFound, Reason
from quintet.management.v1 import indicators_pb2 as pb
from quintet.management.v1.indicators_pb2_grpc import IndicatorServiceServicer
from services.management.convert import time_pb
from services.management.warnings import fields, figures, store_indicators
from services.management.warnings.convert_indicators import indicator_of, indicator_pb, said_pb
from services.management.warnings.model_indicator import figure, problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.management.service_base import Context
    from services.management.warnings.model_indicator import Bucket, Indicator

_LIST = "indicators"


class IndicatorServicer(IndicatorServiceServicer):
    """Figures computed from the facts of all networks."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree]) -> None:
        """`zones` gives the zones as they are at the moment of the question."""
        self._transactions = transactions
        self._zones = zones

    async def PutIndicator(self, request: pb.PutIndicatorRequest, _context: Context) -> pb.PutIndicatorResponse:
        return await self._transactions.mutate(request, pb.PutIndicatorResponse, partial(self._put, request))

    async def _put(self, request: pb.PutIndicatorRequest, tx: Tx) -> pb.PutIndicatorResponse:
        wanted = indicator_of(request.indicator)
        tree = self._zones()
        if found := [*problems(wanted), *fields.problems(wanted), *_unknown_zones(wanted, tree)]:
            raise Invalid.many(found)
        # It counts in the whole node, so whoever writes it needs the right in the whole node.
        caller = current_caller()
        caller.require("management.indicators.write", zone=tree.root)
        stored, changed = await store_indicators.put(tx.conn, wanted, actor=caller.subject, now=tx.now)
        if await store_indicators.count(tx.conn) > store_indicators.INDICATORS_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {store_indicators.INDICATORS_MAX} indicators")
        if changed:
            tx.audit("management.indicators.put", stored.name, version=stored.version)
        return pb.PutIndicatorResponse(indicator=indicator_pb(stored), changed=changed)

    async def GetIndicator(self, request: pb.GetIndicatorRequest, _context: Context) -> pb.GetIndicatorResponse:
        found = await self._transactions.read(lambda conn: _get(conn, request.name))
        return pb.GetIndicatorResponse(indicator=indicator_pb(found))

    async def ListIndicators(self, request: pb.ListIndicatorsRequest, _context: Context) -> pb.ListIndicatorsResponse:
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=_LIST)
        rows = await self._transactions.read(
            lambda conn: store_indicators.page(conn, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda found: (found.name,), of=_LIST)
        return pb.ListIndicatorsResponse(indicators=[indicator_pb(each) for each in page], next_page_token=token)

    async def GetIndicatorValues(
        self, request: pb.GetIndicatorValuesRequest, _context: Context
    ) -> pb.GetIndicatorValuesResponse:
        tree = self._zones()
        zone = tree.canonical(request.zone)
        if zone not in tree:
            raise NotFound(Reason.ZONE_NOT_FOUND, f"zones/{request.zone} is not known here", zone=request.zone)
        current_caller().require("management.indicators.read", zone=zone)
        now = self._transactions.clock.now()

        async def read(conn: Connection) -> pb.GetIndicatorValuesResponse:
            indicator = await _get(conn, request.name)
            below = [code for code in tree.descendants(zone) if tree.path(code)[-2:-1] == (zone,)]
            found = await figures.present(conn, tree, indicator, [zone, *below], now)
            minutes = request.series_minutes
            points = await figures.series(conn, tree, indicator, zone, minutes, now) if minutes else []
            return pb.GetIndicatorValuesResponse(
                now=_value_pb(indicator, zone, found[zone]),
                zones=[_value_pb(indicator, code, found[code]) for code in below],
                series=[pb.SeriesPoint(time=time_pb(at), value=value) for at, value in points],
                unit=said_pb(indicator.unit),
            )

        return await self._transactions.read(read)


async def _get(conn: Connection, name: str) -> Indicator:
    found = await store_indicators.get(conn, name)
    if found is None:
        raise NotFound(Reason.INDICATOR_NOT_FOUND, f"{name} does not exist", name=name)
    return found


def _unknown_zones(wanted: Indicator, tree: ZoneTree) -> list[tuple[str, str]]:
    return [
        (f"indicator.thresholds[{place}].zones[{number}]", f"{zone} is not a zone of this node")
        for place, threshold in enumerate(wanted.thresholds)
        for number, zone in enumerate(threshold.zones)
        if not tree.covers(tree.root, zone)
    ]


def _value_pb(indicator: Indicator, zone: str, bucket: Bucket) -> pb.ZoneValue:
    return pb.ZoneValue(zone=zone, value=figure(indicator.aggregation, bucket), facts=bucket.facts)
