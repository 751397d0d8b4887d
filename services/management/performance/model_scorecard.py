"""Scorecards: what is scored by which formulas, what figures come to, and what an appeal changes. Pure.

All times are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Reason, WrongState
from services.management.model import Doubt
from services.management.performance.model_formula import Formula
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

CARD_NAME = "zones/{zone}/scorecards/{scorecard}"
APPEAL_NAME = "zones/{zone}/scorecards/{scorecard}/appeals/{appeal}"
EVENTS_MAX = 200_000
PERIOD_MAX = timedelta(days=366)
APPEAL_DAYS_DEFAULT = 15
# Kept out by an appeal, where a doubt has its own code.
APPEAL = "APPEAL"
# Of these an event's times or its history cannot be believed, whatever a definition says.
EXCLUDED_ALWAYS = (Doubt.HISTORY_MISSING,)
EXCLUDED_DEFAULT = (Doubt.TIME_REVERSED, Doubt.TIME_IN_FUTURE, "STATUS_CONFLICT")

_CENT = Decimal("0.01")


class CountsBy(StrEnum):
    """The time of an event that decides its period."""

    OCCURRED = "occurred"
    OPENED = "opened"
    CLOSED = "closed"


class SubjectKind(StrEnum):
    """What is scored."""

    ORGANISATION = "organisation"
    ZONE = "zone"
    TIER = "tier"


class Credit(StrEnum):
    """Which organisation an event counts for: the one that has it, or the one to which it was sent first."""

    HANDLER = "handler"
    FIRST = "first"


class Part(StrEnum):
    """How an event counts in a figure, as one character."""

    MET = "y"
    NOT_MET = "n"
    UNKNOWN = "?"
    OUTSIDE = "-"
    EXCLUDED = "x"


@dataclass(frozen=True, slots=True)
class Indicator:
    """One formula. `none_at` and `full_at` are the rates in percent that give 0 and 100 points, in either order."""

    id: str
    title: Said
    of: str
    that: str
    denominator: Formula
    numerator: Formula
    credit: Credit
    weight: int
    min_sample: int
    none_at: Decimal
    full_at: Decimal


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of the formulas. `source` is what it was read from."""

    name: str
    title: Said
    counts_by: CountsBy
    subjects: tuple[SubjectKind, ...]
    excludes: tuple[str, ...]
    appeal_days: int
    indicators: tuple[Indicator, ...]
    source: str
    version: int = 0

    def place(self, indicator: str) -> int | None:
        """Return where an indicator stands, from 0; None when there is none of this id."""
        return next((place for place, found in enumerate(self.indicators) if found.id == indicator), None)


# ------------------------------------------------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Figure:
    """How many events met an indicator, did not meet it, and of how many that is not known."""

    met: int = 0
    not_met: int = 0
    unknown: int = 0

    @property
    def denominator(self) -> int:
        return self.met + self.not_met


@dataclass(frozen=True, slots=True)
class Score:
    """What one subject comes to; the figures are in the order of the definition."""

    kind: SubjectKind
    subject: str
    figures: tuple[Figure, ...]
    excluded: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted: all events, those kept out by code, those of other nodes, and of those without history."""

    events: int = 0
    exclusions: Mapping[str, int] = field(default_factory=dict)
    mirrored: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)


def points(indicator: Indicator, figure: Figure) -> Decimal | None:
    """Return 0 to 100 points on the straight line between the two rates; None when the sample is too small."""
    if not figure.denominator or figure.denominator < indicator.min_sample:
        return None
    rate = Decimal(100) * figure.met / figure.denominator
    share = (rate - indicator.none_at) / (indicator.full_at - indicator.none_at)
    return (min(max(share, Decimal(0)), Decimal(1)) * 100).quantize(_CENT, ROUND_HALF_UP)


def total(definition: Definition, figures: Sequence[Figure]) -> tuple[Decimal | None, int]:
    """Return the mean of the points by weight, and the weights that it rests on; None where there are none."""
    given = [
        (indicator.weight, found)
        for indicator, figure in zip(definition.indicators, figures, strict=True)
        if (found := points(indicator, figure)) is not None and indicator.weight
    ]
    weight = sum(each for each, _ in given)
    if not weight:
        return None, 0
    mean = sum((each * found for each, found in given), Decimal(0)) / weight
    return mean.quantize(_CENT, ROUND_HALF_UP), weight


# ------------------------------------------------------------------------------------------------------------ versions


@dataclass(frozen=True, slots=True)
class Card:
    """A scorecard; `published` is its latest published version, 0 for none. `id` is the row, 0 before it is stored."""

    name: str
    zone: str
    definition: str
    definition_version: int
    period_from: datetime
    period_to: datetime
    published: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a scorecard. What is sealed is set once it is published."""

    number: int
    as_of: datetime
    reason: str
    made_by: str
    totals: Totals = Totals()
    published_by: str = ""
    published_at: datetime | None = None
    content_hash: bytes = b""
    previous_hash: bytes = b""
    signature: bytes = b""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """An event as a version counts it. `zones` lead from the scorecard's down to its own."""

    event_id: int
    event: str
    zone: str
    zones: tuple[str, ...]
    tier: str
    type: str
    node: str
    handler: str
    first_organisation: str
    verdicts: str
    excluded: str
    rulings: tuple[str, ...] = ()

    def part(self, place: int) -> Part:
        """Return how it counts in the indicator at `place`."""
        return Part.EXCLUDED if self.excluded else Part(self.verdicts[place])

    def credited(self, credit: Credit) -> str:
        """Return the organisation that it counts for, "" for none."""
        return self.handler if credit is Credit.HANDLER else self.first_organisation


# ------------------------------------------------------------------------------------------------------------- appeals


class AppealState(StrEnum):
    """Where an appeal stands."""

    FILED = "filed"
    GRANTED = "granted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Appeal:
    """An objection of an organisation. `indicator` is "" for all of them. `id` is the row."""

    name: str
    version: int
    organisation: str
    indicator: str
    wanted: Part
    events: tuple[str, ...]
    reason: str
    asked_by: str
    asked_at: datetime
    state: AppealState = AppealState.FILED
    decided_by: str = ""
    decided_at: datetime | None = None
    note: str = ""
    id: int = 0


def appeal_until(definition: Definition, version: Version) -> datetime | None:
    """Return until when a version can be appealed against; None while it is a draft."""
    return version.published_at + timedelta(days=definition.appeal_days) if version.published_at else None


def check_appealable(definition: Definition, version: Version, now: datetime) -> None:
    """Raise WrongState when the time for appeals is over."""
    until = appeal_until(definition, version)
    if until is None or now > until:
        text = f"appeals could be filed until {until.isoformat(timespec='minutes') if until else 'its publication'}"
        raise WrongState(Reason.APPEAL_WINDOW_OVER, text, until=until.isoformat() if until else "")


def check_decidable(appeal: Appeal, decider: str, organisations: Collection[str]) -> None:
    """Raise WrongState for one that is decided, Forbidden for whom it is an own affair."""
    if appeal.state is not AppealState.FILED:
        raise WrongState(Reason.WRONG_STATE, f"{appeal.name} is {appeal.state}", name=appeal.name, state=appeal.state)
    if appeal.organisation in organisations or appeal.asked_by == decider:
        text = f"{decider} belongs to {appeal.organisation}, or filed the appeal"
        raise Forbidden(Reason.APPEAL_OWN, text, organisation=appeal.organisation)
