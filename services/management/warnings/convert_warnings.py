"""Warnings to the public as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import warnings_pb2 as pb
from quintet.perception.v1.perception_pb2 import LEVEL_UNSPECIFIED
from services.management.convert import explanation_pb, time_of, time_pb
from services.management.warnings.convert_indicators import CATEGORIES, CATEGORY_NUMBERS, LEVELS, said_of, said_pb
from services.management.warnings.model_indicator import Said
from services.management.warnings.model_warning import Content, PublicWarning, State
from services.management.warnings.store_warnings import Counted

if TYPE_CHECKING:
    from libs.zones import ZoneTree
    from services.management.warnings.store_receipts import Receipt
    from services.management.warnings.store_warnings import Entry

# The words of CAP 1.2 for what the enums say; the spelling of the standard counts.
_URGENCIES = {
    pb.WARNING_URGENCY_UNSPECIFIED: "Unknown",
    pb.WARNING_URGENCY_IMMEDIATE: "Immediate",
    pb.WARNING_URGENCY_EXPECTED: "Expected",
    pb.WARNING_URGENCY_FUTURE: "Future",
}
_CERTAINTIES = {
    pb.WARNING_CERTAINTY_UNSPECIFIED: "Unknown",
    pb.WARNING_CERTAINTY_OBSERVED: "Observed",
    pb.WARNING_CERTAINTY_LIKELY: "Likely",
    pb.WARNING_CERTAINTY_POSSIBLE: "Possible",
}
_URGENCY_NUMBERS = {word: number for number, word in _URGENCIES.items()}
_CERTAINTY_NUMBERS = {word: number for number, word in _CERTAINTIES.items()}
_OUTCOME = "WARNING_OUTCOME_"


def content_of(content: pb.WarningContent, tree: ZoneTree) -> Content:
    """Read what a warning shall say; its zones by their present codes. `expires_at` is required by the rules."""
    expires_at = time_of(content, "expires_at")
    if expires_at is None:
        raise ValueError("a content without expires_at breaks the rules of its proto")
    return Content(
        event=said_of(content.event),
        headline=said_of(content.headline),
        description=_text_of(content.description),
        instruction=_text_of(content.instruction),
        level=int(content.level),
        category=CATEGORIES[content.category],
        expires_at=expires_at,
        zones=tuple(dict.fromkeys(tree.canonical(zone) for zone in content.audience.zones)),
        urgency=_URGENCIES[content.urgency],
        certainty=_CERTAINTIES[content.certainty],
        organisations=tuple(dict.fromkeys(content.audience.organisations)),
        roles=tuple(dict.fromkeys(content.audience.roles)),
        acknowledge_minutes=content.acknowledge_minutes,
        escalate_to=content.escalate_to,
        exercise=content.exercise,
    )


def content_pb(content: Content | None) -> pb.WarningContent | None:
    if content is None:
        return None
    return pb.WarningContent(
        event=said_pb(content.event),
        headline=said_pb(content.headline),
        description=_text_pb(content.description),
        instruction=_text_pb(content.instruction),
        level=LEVELS[content.level],
        category=CATEGORY_NUMBERS[content.category],
        urgency=_URGENCY_NUMBERS[content.urgency],
        certainty=_CERTAINTY_NUMBERS[content.certainty],
        audience=pb.WarningAudience(zones=content.zones, organisations=content.organisations, roles=content.roles),
        expires_at=time_pb(content.expires_at),
        acknowledge_minutes=content.acknowledge_minutes,
        escalate_to=content.escalate_to,
        exercise=content.exercise,
    )


def warning_pb(warning: PublicWarning, counted: Counted | None = None) -> pb.PublicWarning:
    counts = counted or Counted()
    return pb.PublicWarning(
        name=warning.name,
        zone=warning.zone,
        state=state_pb(warning.state),
        content=content_pb(warning.content),
        revision=warning.revision,
        draft=content_pb(warning.draft),
        drafted_by=warning.drafted_by,
        approved_by=warning.approved_by,
        source=warning.source,
        explanation=explanation_pb(warning.explanation),
        created_at=time_pb(warning.created_at),
        published_at=time_pb(warning.published_at),
        updated_at=time_pb(warning.updated_at),
        cleared_at=time_pb(warning.cleared_at),
        ended_at=time_pb(warning.ended_at),
        ending=said_pb(warning.ending) if warning.ended_at else None,
        outcome=pb.WarningOutcome.Value(_OUTCOME + (warning.review.outcome or "unspecified").upper()),
        review_notes=warning.review.notes,
        reviewed_by=warning.review.by,
        receipts=counts.receipts,
        acknowledged=counts.acknowledged,
        escalated=counts.escalated,
        visits=counts.visits,
        visits_done=counts.visits_done,
        etag=warning.etag,
    )


def in_force_pb(warning: PublicWarning) -> pb.WarningInForce:
    """Return what everybody sees of a warning that was published. Raises ValueError for one that was not."""
    content = warning.content
    if content is None:
        raise ValueError(f"{warning.name} was never published")
    return pb.WarningInForce(
        name=warning.name,
        revision=warning.revision,
        event=said_pb(content.event),
        headline=said_pb(content.headline),
        description=_text_pb(content.description),
        instruction=_text_pb(content.instruction),
        level=LEVELS[content.level],
        category=CATEGORY_NUMBERS[content.category],
        urgency=_URGENCY_NUMBERS[content.urgency],
        certainty=_CERTAINTY_NUMBERS[content.certainty],
        zones=content.zones,
        published_at=time_pb(warning.published_at),
        updated_at=time_pb(warning.updated_at),
        expires_at=time_pb(content.expires_at),
        exercise=content.exercise,
        ended_at=time_pb(warning.ended_at),
        ending=said_pb(warning.ending) if warning.ended_at else None,
    )


def receipt_pb(receipt: Receipt) -> pb.WarningReceipt:
    return pb.WarningReceipt(
        recipient=receipt.recipient,
        revision=receipt.revision,
        due_at=time_pb(receipt.due_at),
        acknowledged_at=time_pb(receipt.acknowledged_at),
        acknowledged_by=receipt.acknowledged_by,
        escalated_at=time_pb(receipt.escalated_at),
        escalated_from=receipt.escalated_from,
    )


def entry_pb(entry: Entry) -> pb.CentreEntry:
    return pb.CentreEntry(
        name=entry.name,
        kind=pb.CENTRE_ENTRY_KIND_SENSOR if entry.sensor else pb.CENTRE_ENTRY_KIND_PUBLIC,
        zone=entry.zone,
        level=LEVELS.get(entry.level, LEVEL_UNSPECIFIED),
        active=entry.active,
        text=pb.WarningText(zh=entry.zh, en=entry.en),
        time=time_pb(entry.time),
    )


def state_pb(state: State) -> pb.PublicWarningState.ValueType:
    return pb.PublicWarningState.Value(f"PUBLIC_WARNING_STATE_{state.upper()}")


def state_of(state: pb.PublicWarningState.ValueType) -> State | None:
    """Return None for a state that is not given."""
    name = pb.PublicWarningState.Name(state).removeprefix("PUBLIC_WARNING_STATE_").lower()
    return None if name == "unspecified" else State(name)


def outcome_of(outcome: pb.WarningOutcome.ValueType) -> str:
    return pb.WarningOutcome.Name(outcome).removeprefix(_OUTCOME).lower()


def _text_of(text: pb.WarningText) -> Said:
    return Said(text.zh.strip(), text.en.strip())


def _text_pb(said: Said) -> pb.WarningText:
    return pb.WarningText(zh=said.zh, en=said.en)
