"""The nouns of management: events, their steps and reports, event types. Frozen, without wire format or store.

The rules over them stand beside: the loop (model_loop), merging (model_merge), routing and opening (model_report),
joint disposal (model_joint). All times are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.management.deadlines.model_time import Span
from services.management.model_component import Component

EVENT_NAME = "zones/{zone}/events/{event}"
WARNING_NAME = "zones/{zone}/warnings/{warning}"
REQUEST_NAME = "zones/{zone}/requests/{request}"
# The state of an event that was merged into another by hand; it is of no loop.
MERGED_STATUS = "merged"
# An event lists at most this many of its requests, and keeps at most this many doubts.
REQUESTS_LISTED_MAX = 1000
FLAGS_MAX = 50


class StepAction(StrEnum):
    """What may befall an event besides the actions that its loop declares; no loop may declare one of these."""

    OPEN = "open"
    MERGE = "merge"
    MERGE_INTO = "merge_into"
    SPLIT = "split"
    START_JOINT_DISPOSAL = "start_joint_disposal"
    COMPLETE_SUB_ORDER = "complete_sub_order"
    WITHDRAW_SUB_ORDER = "withdraw_sub_order"
    EXTEND = "extend"
    SUSPEND = "suspend"
    RESUME = "resume"
    ESCALATE = "escalate"
    SUPERVISE = "supervise"
    RECKON_ANEW = "reckon_anew"
    CLAIM = "claim"
    ASSIGN = "assign"
    TRANSFER = "transfer"
    RELEASE = "release"
    OFFER_HANDOVER = "offer_handover"
    ACCEPT_HANDOVER = "accept_handover"
    REFUSE_HANDOVER = "refuse_handover"
    WITHDRAW_HANDOVER = "withdraw_handover"
    LAPSE_HANDOVER = "lapse_handover"
    DISPUTE_HANDOVER = "dispute_handover"
    ESCALATE_HANDOVER = "escalate_handover"
    DECIDE_HANDOVER = "decide_handover"
    BLOW_WHISTLE = "blow_whistle"
    FINISH_WHISTLE = "finish_whistle"
    TAKE_OVER = "take_over"
    MOVE = "move"
    TAKE_UP = "take_up"


class Doubt(StrEnum):
    """Codes of the flags that management itself raises."""

    TIME_REVERSED = "TIME_REVERSED"  # a step is said to have happened before the step before it
    TIME_IN_FUTURE = "TIME_IN_FUTURE"  # a report says that it was after it was taken in
    TYPE_UNKNOWN = "TYPE_UNKNOWN"  # the node's catalogue does not have the type
    TYPE_RETIRED = "TYPE_RETIRED"  # the type takes no new reports; this one was kept all the same
    NO_ROUTE = "NO_ROUTE"  # no route of the type covers the zone
    ZONE_DELEGATED = "ZONE_DELEGATED"  # it was raised here though another node handles its zone
    SUB_ORDER_CANCELLED = "SUB_ORDER_CANCELLED"  # a share of a joint disposal will not be done
    COMPONENT_UNKNOWN = "COMPONENT_UNKNOWN"  # not of a type that the catalogue has, or of which this can be reported
    HISTORY_MISSING = "HISTORY_MISSING"  # another node's event of which this node was told only later steps


@dataclass(frozen=True, slots=True)
class Flag:
    """A doubt about a record that was kept all the same. `field` is in the JSON spelling."""

    code: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why software decided: the resource name of the rule, the reason in two languages, the values that it saw."""

    rule: str
    zh: str
    en: str
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, as far as it was said. Degrees in WGS 84; None when not known, (0, 0) among that."""

    address: str = ""
    latitude: float | None = None
    longitude: float | None = None
    zone_hint: str = ""
    neighbourhood: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Events in `zone` and below go to `organisation`; the deepest route that matches wins, of several the first.

    Its conditions: only in the organisation's working hours, and while it has fewer open events than this, 0 for any.
    """

    zone: str
    organisation: str
    on_duty_only: bool = False
    open_events_max: int = 0


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """Two reports of one thing: at most `radius_m` metres apart or at one address, at most `window_h` hours apart.

    Of these, what scores at least `automatic` is merged without asking; of those up to twice as far off, what scores at
    least `suggested` (0 for model_merge.SUGGESTED_DEFAULT) is suggested. Types of one `family` are compared, too.
    """

    radius_m: float = 0.0
    window_h: int = 0
    automatic: float = 0.0
    suggested: float = 0.0
    family: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How long something may take: minutes of working time, or of any time."""

    minutes: int
    around_the_clock: bool = False


class ClockKind(StrEnum):
    """Which clock of an event."""

    BUSINESS = "business"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Reminder:
    """Told of `offset_min` minutes after a deadline, before it when negative."""

    clock: ClockKind
    offset_min: int
    role: str


class Tier(StrEnum):
    """Where the role is that an event is brought before."""

    ORGANISATION = "organisation"
    ZONE = "zone"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Escalation:
    """One rung of the ladder that an event climbs when a clock is `after_min` minutes late."""

    clock: ClockKind
    after_min: int
    role: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class MajorClass:
    """A class of the catalogue that types belong to; "" for the code of none."""

    code: str = ""
    title_zh: str = ""
    title_en: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """How many pieces of evidence a step must show, and how many of them photos."""

    evidence: int = 0
    photos: int = 0


@dataclass(frozen=True, slots=True)
class EventType:
    """One version of a kind of event. `deadline` is None only for a type that the catalogue does not have.

    `calendar` is that of the business clock, "" for the node's. `step_deadlines` are allowances by state,
    `evidence` is what steps must show by action.
    """

    name: str
    title_zh: str = ""
    title_en: str = ""
    code: str = ""
    loop: str = ""
    deadline: Allowance | None = None
    merge: MergePolicy = MergePolicy()
    routes: tuple[Route, ...] = ()
    version: int = 0
    retired: bool = False
    calendar: str = ""
    step_deadlines: Mapping[str, Allowance] = field(default_factory=dict)
    reopen_days: int = 0
    reminders: tuple[Reminder, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    evidence: Mapping[str, Need] = field(default_factory=dict)
    major: MajorClass = MajorClass()


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When an event is due: the whole of it, as opened and now, and its present step. None for no such deadline.

    `suspended_until` is when its suspension ends. `reopen_until` is until when it can be reopened, `reopens` how often
    it was.
    """

    due_at: datetime | None = None
    first_due_at: datetime | None = None
    step_due_at: datetime | None = None
    suspended_until: datetime | None = None
    reopens: int = 0
    reopen_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the deadlines of an event of this node were reckoned from, besides its type.

    `step_since` is when it came to its present step. `calendar` and `step_calendar` are those that counted, with their
    versions. `pauses` do not count; extensions, in minutes as the allowance counts, come on top of it. `suspension` is
    the entry of the ledger by which it is suspended. `promised_min` is what another system had promised, in minutes
    around the clock: for an imported event it stands in the place of the type's allowance. `signalled` are the moments
    around the present deadlines that were told of; `next_at` is when the clock task has to look again.
    """

    step_since: datetime | None = None
    calendar: str = ""
    calendar_version: int = 0
    step_calendar: str = ""
    step_calendar_version: int = 0
    pauses: tuple[Span, ...] = ()
    extended_min: int = 0
    step_extended_min: int = 0
    suspension: str = ""
    promised_min: int = 0
    signalled: tuple[str, ...] = ()
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event as this node knows it, its own or one that another node handles.

    `id` is the row, 0 before it is stored. `loop_version` is that of its opening, 0 for an event of another node, of
    whose loop nothing is known here. `suggestion` is the organisation that routing found, `supporters` those
    with shares of a joint disposal. `step_at` is when the last step of the loop happened by its actor's word. `partial`
    marks another node's event of whose opening this node was not told. `assignee` is the person who has taken it, as a
    member of the organisation `assigned_as`, "" for none. `merged_into` is the event that stands for its reports since
    it was merged by hand, `split_from` the one from which its first report was split off. `component` is what the first
    report names.
    """

    name: str
    zone: str
    node: str
    type: str
    status: str
    occurred_at: datetime
    opened_at: datetime
    step_at: datetime
    id: int = 0
    type_version: int = 0
    loop: str = ""
    loop_version: int = 0
    title: str = ""
    description: str = ""
    place: Place = Place()
    organisation: str = ""
    supporters: tuple[str, ...] = ()
    suggestion: str = ""
    routing: Explanation | None = None
    deadlines: Deadlines = Deadlines()
    clocks: Clocks = Clocks()
    closed_at: datetime | None = None
    revision: int = 1
    reports: int = 1
    warning: str = ""
    shares: int = 0
    shares_open: int = 0
    flags: tuple[Flag, ...] = ()
    returns: int = 0
    answer: str = ""
    partial: bool = False
    assignee: str = ""
    assigned_as: str = ""
    merged_into: str = ""
    split_from: str = ""
    component: Component | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes further reports. A loop sets `closed_at` when the event leaves its open states."""
        return self.closed_at is None

    @property
    def handlers(self) -> tuple[str, ...]:
        """All organisations that work on it, for the access check."""
        return tuple(dict.fromkeys((self.organisation, *self.supporters) if self.organisation else self.supporters))


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of an event's history: what made its `revision`. `assignee` is who was given the event by it.

    `evidence` are the names of what it shows.
    """

    revision: int
    action: str
    from_status: str
    to_status: str
    actor: str
    organisation: str
    occurred_at: datetime
    recorded_at: datetime
    reason: str = ""
    explanation: Explanation | None = None
    assignee: str = ""
    evidence: tuple[str, ...] = ()


class ReportKind(StrEnum):
    """Where a report came from."""

    REQUEST = "request"
    WARNING = "warning"
    OFFICER = "officer"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class SubOrder:
    """One organisation's share of a joint disposal. A cancelled share is withdrawn: not done, and not waited for."""

    id: str
    organisation: str
    instruction: str
    lead: bool = False
    done_at: datetime | None = None
    withdrawn_at: datetime | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        return self.done_at is None and self.withdrawn_at is None


def step_between(
    event: Event,
    after: Event,
    action: StepAction,
    *,
    actor: str,
    now: datetime,
    occurred_at: datetime | None = None,
    reason: str = "",
    explanation: Explanation | None = None,
) -> Step:
    """Return the step of what befell an event beside its loop, at `now` unless it was before.

    `after` has the new revision already.
    """
    return Step(
        revision=after.revision,
        action=action,
        from_status=event.status,
        to_status=after.status,
        actor=actor,
        organisation=after.organisation,
        occurred_at=occurred_at or now,
        recorded_at=now,
        reason=reason,
        explanation=explanation,
    )


def flagged(flags: tuple[Flag, ...], *more: Flag) -> tuple[Flag, ...]:
    """Add doubts, each once, up to FLAGS_MAX in all."""
    return tuple(dict.fromkeys((*flags, *more)))[:FLAGS_MAX]
