"""Taking readings in: one transaction stores a batch, judges it by the rules and states the days that it completes.

Late readings are stored and counted in their day, which is stated anew; rules do not look back (see model_alarm).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter

from libs.ids import new_id
from services.perception import facts, store, store_readings, store_warnings
from services.perception.model import Outcome, Refusal, Text, Verdict, Warned, WarningState, fault_of, is_suspect
from services.perception.model_days import day_of, days_to_state, span_of
from services.perception.model_judge import judge
from services.perception.store_readings import Series, Stored
from services.perception.texts import why_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from zoneinfo import ZoneInfo

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from libs.zones import ZoneTree
    from services.perception.model import Reading, Rule
    from services.perception.model_alarm import Raised
    from services.perception.model_judge import Judgement, Watching

    # Says whether readings of a device in this zone, of this organisation, may be taken from the sender.
    MayWrite = Callable[[str, str], bool]

READINGS_PER_BATCH_MAX = 1000

READINGS = Counter("quintet_perception_readings", "Readings that came in.", ["result"])
WARNINGS = Counter("quintet_perception_warnings", "Warnings raised and ended.", ["state"])


@dataclass(slots=True)
class _Batch:
    """The readings of one batch that belong to one series: all of them by time, and the new and good ones in order."""

    series: Series
    stored: dict[datetime, Stored] = field(default_factory=dict)
    good: list[tuple[datetime, float]] = field(default_factory=list)
    latest_before: datetime | None = None
    good_before: datetime | None = None


class Ingest:
    """Stores batches of readings."""

    def __init__(self, transactions: Transactions, zones: Callable[[], ZoneTree], timezone: ZoneInfo) -> None:
        """`timezone` is the node's: its days are the ones that aggregates are about."""
        self._transactions = transactions
        self._zones = zones
        self._timezone = timezone

    async def take_in(self, readings: Sequence[Reading], may_write: MayWrite) -> Outcome:
        """Store the good ones of at most READINGS_PER_BATCH_MAX readings and say what is wrong with the others.

        Of readings with the same device, indicator and time the first one counts. Raises like Transactions.run.
        """
        outcome, events = await self._transactions.run(lambda tx: self._take_in(tx, readings, may_write))
        READINGS.labels("accepted").inc(outcome.accepted)
        READINGS.labels("duplicate").inc(outcome.duplicates)
        READINGS.labels("refused").inc(len(outcome.refused))
        for warning in events:
            WARNINGS.labels(warning.state.name.lower()).inc()
        return outcome

    async def _take_in(self, tx: Tx, readings: Sequence[Reading], may_write: MayWrite) -> tuple[Outcome, list[Warned]]:
        pairs = list(dict.fromkeys((one.device, one.indicator) for one in readings))
        found = await store_readings.lock_series(tx.conn, pairs)
        batches = {(series.device, series.indicator): _Batch(series) for series in found}
        known: set[str] = {series.device for series in found}
        if len(found) < len(pairs):
            known |= await store_readings.known_devices(tx.conn, list({device for device, _ in pairs} - known))
        forbidden = {series.device for series in found if not may_write(series.zone, series.organisation)}
        refused = _sort(readings, batches, known, forbidden, tx.now)
        touched = [batch for batch in batches.values() if batch.stored]
        accepted = await self._store(tx, touched) if touched else 0
        events: list[Warned] = []
        if accepted:
            events = await self._judge(tx, touched)
            await self._state_days(tx, touched)
        duplicates = len(readings) - len(refused) - accepted
        tx.audit(
            "perception.readings.write", "readings", accepted=accepted, duplicates=duplicates, refused=len(refused)
        )
        return Outcome(accepted, duplicates, tuple(refused)), events

    async def _store(self, tx: Tx, batches: Sequence[_Batch]) -> int:
        """Insert the readings and bring the series' latest ones up to date; return how many were new."""
        readings = [one for batch in batches for one in batch.stored.values()]
        new = await store_readings.insert_readings(tx.conn, readings)
        for batch in batches:
            series = batch.series
            batch.latest_before, batch.good_before = series.latest_time, series.good_time
            for time, one in sorted(batch.stored.items()):
                if (series.id, time) not in new:
                    continue
                if not one.suspect:
                    batch.good.append((time, one.value))
                if series.latest_time is None or time > series.latest_time:
                    series.latest_time, series.latest_value, series.latest_suspect = time, one.value, one.suspect
            if batch.good:
                series.good_time = max(batch.good[-1][0], series.good_time or batch.good[-1][0])
        await store_readings.save_series(tx.conn, [batch.series for batch in batches], tx.now)
        return len(new)

    async def _judge(self, tx: Tx, batches: Sequence[_Batch]) -> list[Warned]:
        """Raise and end warnings; return them in the order in which that came about."""
        rules = await store.rules_for(tx.conn, list({batch.series.indicator for batch in batches}))
        watches = await store_warnings.load_watches(tx.conn, [batch.series.id for batch in batches])
        if not rules and not watches:
            return []
        tree = self._zones()
        findings: list[tuple[int, Judgement]] = []
        for batch in batches:
            series = batch.series
            in_force = [
                rule for rule in rules if rule.indicator == series.indicator and tree.covers(rule.zone, series.zone)
            ]
            before = watches.get(series.id, {})
            if in_force or before:
                found = judge(in_force, before, batch.good, batch.good_before, self._warner(series))
                findings.append((series.id, found))
        await _write(tx.conn, findings)
        events = [warning for _, found in findings for warning in found.events]
        for warning in events:
            facts.state_warning(tx, warning)
        return events

    def _warner(self, series: Series) -> Callable[[Rule, Raised], Warned]:
        device = series.device.rpartition("/")[2]
        titles = Text(series.title.zh or series.title.en or device, series.title.en or series.title.zh or device)
        named = series.indicator_title
        indicators = Text(named.zh or named.en or series.indicator, named.en or named.zh or series.indicator)

        def warn(rule: Rule, event: Raised) -> Warned:
            reason, inputs = why_raised(
                rule, event, device=titles, indicator=indicators, unit=series.unit, timezone=self._timezone
            )
            return Warned(
                name=f"zones/{series.zone}/warnings/{new_id()}",
                zone=series.zone,
                rule=rule.name,
                device=series.device,
                organisation=series.organisation,
                indicator=series.indicator,
                level=rule.level,
                state=WarningState.RAISED,
                since=event.since,
                raised_at=event.time,
                ended_at=None,
                value=event.value,
                peak=event.peak,
                reason=reason,
                inputs=inputs | {"device": series.device, "indicator": series.indicator},
                event_type=rule.event_type,
                verdict=Verdict.NONE,
                point=series.point,
            )

        return warn

    async def _state_days(self, tx: Tx, batches: Sequence[_Batch]) -> None:
        by_id = {batch.series.id: batch.series for batch in batches}
        days: list[tuple[int, date, datetime, datetime]] = []
        for batch in batches:
            before, now = batch.latest_before, batch.series.latest_time
            found = days_to_state(
                {day_of(time, self._timezone) for time, _ in batch.good},
                day_of(before, self._timezone) if before else None,
                day_of(now, self._timezone) if now else None,
            )
            days.extend((batch.series.id, day, *span_of(day, self._timezone)) for day in found)
        if days:
            for aggregate in await store_readings.state_days(tx.conn, days):
                facts.state_day(tx, by_id[aggregate.series], aggregate)


def _sort(
    readings: Sequence[Reading],
    batches: dict[tuple[str, str], _Batch],
    known: set[str],
    forbidden: set[str],
    now: datetime,
) -> list[Refusal]:
    """Put the readings that may be stored to their series; return the others."""
    refused: list[Refusal] = []
    for index, reading in enumerate(readings):
        batch = batches.get((reading.device, reading.indicator))
        fault = _fault(reading, batch, known, forbidden, now)
        if fault is not None:
            refused.append(Refusal(index, *fault))
        elif batch is not None:
            series = batch.series
            suspect = is_suspect(reading.value, series.minimum, series.maximum)
            batch.stored.setdefault(reading.time, Stored(series.id, reading.time, reading.value, suspect))
    return refused


def _fault(
    reading: Reading, batch: _Batch | None, known: set[str], forbidden: set[str], now: datetime
) -> tuple[str, str] | None:
    if reading.device not in known:
        return "device", "is not a device of this node"
    if reading.device in forbidden:
        return "device", "perception.readings.write is not granted for it"
    return fault_of(reading, () if batch is None else (reading.indicator,), now)


async def _write(conn: Connection, findings: Sequence[tuple[int, Judgement]]) -> None:
    raised = [warning for _, found in findings for warning in found.raised]
    keep: list[tuple[int, Watching]] = [(series, one) for series, found in findings for one in found.keep]
    forget = [(series, rule) for series, found in findings for rule in found.forget]
    changed = [warning for _, found in findings for warning in (*found.ended, *found.peaks)]
    if raised:
        await store_warnings.insert_warnings(conn, raised)
    if changed:
        await store_warnings.update_warnings(conn, changed)
    if forget:
        await store_warnings.forget_watches(conn, forget)
    if keep:
        await store_warnings.save_watches(conn, keep)
