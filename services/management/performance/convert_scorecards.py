"""Scorecards as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.errors import Invalid
from quintet.common.v1.common_pb2 import LocalText
from quintet.management.v1 import scorecards_pb2 as pb
from services.management.convert import time_pb
from services.management.performance import texts
from services.management.performance.model_scorecard import (
    Appeal,
    Definition,
    Figure,
    Indicator,
    Part,
    Row,
    Score,
    SubjectKind,
    appeal_until,
    points,
    total,
)
from services.management.warnings.convert_indicators import said_pb

if TYPE_CHECKING:
    from services.management.performance.model_scorecard import Card, Version

PARTS = {
    Part.MET: pb.FIGURE_PART_MET,
    Part.NOT_MET: pb.FIGURE_PART_NOT_MET,
    Part.UNKNOWN: pb.FIGURE_PART_UNKNOWN,
    Part.EXCLUDED: pb.FIGURE_PART_EXCLUDED,
    Part.OUTSIDE: pb.FIGURE_PART_UNSPECIFIED,
}
_PARTS_OF = {number: part for part, number in PARTS.items() if part is not Part.OUTSIDE}
_ZONE = "zones/"


def part_of(number: pb.FigurePart.ValueType) -> Part | None:
    """Return a part; None for the unspecified one."""
    return _PARTS_OF.get(number)


def kind_pb(kind: SubjectKind) -> pb.SubjectKind.ValueType:
    return pb.SubjectKind.Value(f"SUBJECT_KIND_{kind.upper()}")


def kind_of(number: pb.SubjectKind.ValueType) -> SubjectKind | None:
    """Return a kind; None for the unspecified one."""
    return SubjectKind(pb.SubjectKind.Name(number).removeprefix("SUBJECT_KIND_").lower()) if number else None


def subject_pb(kind: SubjectKind, subject: str) -> str:
    return f"{_ZONE}{subject}" if kind is SubjectKind.ZONE else subject


def subject_of(kind: SubjectKind, subject: str) -> str:
    """Return a subject as it is stored. Raises Invalid for what cannot be one."""
    if kind is SubjectKind.ZONE and not subject.startswith(_ZONE):
        raise Invalid("subject", "must be zones/{zone}")
    return subject.removeprefix(_ZONE) if kind is SubjectKind.ZONE else subject


def definition_pb(definition: Definition) -> pb.ScorecardDefinition:
    return pb.ScorecardDefinition(
        name=definition.name,
        version=definition.version,
        title=said_pb(definition.title),
        counts_by=definition.counts_by,
        subjects=[kind_pb(kind) for kind in definition.subjects],
        excludes=definition.excludes,
        appeal_days=definition.appeal_days,
        indicators=[_indicator_pb(indicator) for indicator in definition.indicators],
        source=definition.source,
    )


def _indicator_pb(indicator: Indicator) -> pb.ScorecardIndicator:
    return pb.ScorecardIndicator(
        id=indicator.id,
        title=said_pb(indicator.title),
        of=indicator.of,
        that=indicator.that,
        credited_to=pb.Credit.Value(f"CREDIT_{indicator.credit.upper()}"),
        weight=indicator.weight,
        min_sample=indicator.min_sample,
        none_at=float(indicator.none_at),
        full_at=float(indicator.full_at),
    )


def scorecard_pb(card: Card, version: Version, definition: Definition, latest: int) -> pb.Scorecard:
    """Return a version; `latest` is the latest one that the caller may see."""
    state = pb.SCORECARD_STATE_DRAFT
    if version.published_at is not None:
        published = version.number == card.published
        state = pb.SCORECARD_STATE_PUBLISHED if published else pb.SCORECARD_STATE_SUPERSEDED
    return pb.Scorecard(
        name=card.name,
        zone=card.zone,
        definition=card.definition,
        definition_version=card.definition_version,
        title=said_pb(definition.title),
        period_from=time_pb(card.period_from),
        period_to=time_pb(card.period_to),
        version=version.number,
        state=state,
        as_of=time_pb(version.as_of),
        reason=version.reason,
        events=version.totals.events,
        exclusions=[
            pb.Exclusion(code=code, text=_text(texts.exclusion(code)), events=events)
            for code, events in version.totals.exclusions.items()
        ],
        limits=_limits(version, definition),
        made_by=version.made_by,
        published_by=version.published_by,
        published_at=time_pb(version.published_at),
        content_hash=version.content_hash,
        previous_hash=version.previous_hash,
        signature=version.signature,
        appeal_until=time_pb(appeal_until(definition, version)),
        latest_version=latest,
    )


def _limits(version: Version, definition: Definition) -> list[LocalText]:
    """Say what could not be computed."""
    found: list[LocalText] = []
    if version.totals.mirrored:
        found.append(_text(texts.MIRRORED.fill(events=str(version.totals.mirrored))))
    for indicator in definition.indicators:
        events = version.totals.unknown.get(indicator.id)
        if events:
            zh = texts.UNKNOWN.zh.format(title=indicator.title.zh, events=events)
            found.append(LocalText(zh=zh, en=texts.UNKNOWN.en.format(title=indicator.title.en, events=events)))
    return found


def score_pb(definition: Definition, score: Score) -> pb.Score:
    figures = [
        figure_pb(indicator, figure) for indicator, figure in zip(definition.indicators, score.figures, strict=True)
    ]
    found, weight = total(definition, score.figures)
    return pb.Score(
        kind=kind_pb(score.kind),
        subject=subject_pb(score.kind, score.subject),
        figures=figures,
        points=None if found is None else float(found),
        weight=weight,
        excluded=score.excluded,
    )


def figure_pb(indicator: Indicator, figure: Figure) -> pb.Figure:
    found = points(indicator, figure)
    note = None
    if not figure.denominator:
        note = _text(texts.NO_EVENTS.fill())
    elif found is None:
        note = _text(texts.SAMPLE_SMALL.fill(events=str(figure.denominator), least=str(indicator.min_sample)))
    return pb.Figure(
        indicator=indicator.id,
        numerator=figure.met,
        denominator=figure.denominator,
        unknown=figure.unknown,
        rate=figure.met / figure.denominator if figure.denominator else None,
        points=None if found is None else float(found),
        note=note,
    )


def event_pb(row: Row, place: int | None) -> pb.FigureEvent:
    """Return an event as it counts in the indicator at `place`; without one it is excluded."""
    return pb.FigureEvent(
        event=row.event,
        zone=row.zone,
        type=row.type,
        node=row.node,
        handler=row.handler,
        first_organisation=row.first_organisation,
        part=PARTS[Part.EXCLUDED if place is None else row.part(place)],
        excluded=row.excluded,
        rulings=row.rulings,
    )


def change_pb(definition: Definition, before: Row | None, after: Row | None) -> pb.EventChange:
    """Return an event that two versions count otherwise: the parts that changed, and why."""
    ruled = sorted(set(after.rulings if after else ()) - set(before.rulings if before else ()))
    found = pb.EventChange(
        event=(after or before).event if after or before else "",  # type: ignore[union-attr]
        appeals=ruled,
        reason=_text((texts.RULED if ruled else texts.READ_ANEW).fill()),
    )
    for place, indicator in enumerate(definition.indicators):
        was, now = (row.part(place) if row else Part.OUTSIDE for row in (before, after))
        if was is not now:
            found.before[indicator.id], found.after[indicator.id] = PARTS[was], PARTS[now]
    return found


def appeal_pb(appeal: Appeal) -> pb.Appeal:
    return pb.Appeal(
        name=appeal.name,
        version=appeal.version,
        organisation=appeal.organisation,
        indicator=appeal.indicator,
        wanted=PARTS[appeal.wanted],
        events=appeal.events,
        reason=appeal.reason,
        state=pb.AppealState.Value(f"APPEAL_STATE_{appeal.state.upper()}"),
        asked_by=appeal.asked_by,
        asked_at=time_pb(appeal.asked_at),
        decided_by=appeal.decided_by,
        decided_at=time_pb(appeal.decided_at),
        note=appeal.note,
    )


def _text(both: tuple[str, str]) -> LocalText:
    return LocalText(zh=both[0], en=both[1])
