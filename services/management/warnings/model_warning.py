"""A warning to the public from its first draft to its review. Pure: who may act is decided above. Times in UTC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.management.model import Explanation
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from services.management.warnings.model_indicator import Problem

PUBLIC_WARNING_NAME = "zones/{zone}/publicWarnings/{warning}"
# Levels up to this need the approval of a second person: I (red) and II (orange).
APPROVED_LEVEL_MAX = 2
# How long a warning that nobody wrote, but an indicator raised, holds when nobody ends it.
RAISED_EXPIRES_H = 24


NOTHING = Said()


class State(StrEnum):
    """Where a warning stands."""

    DRAFT = "draft"
    APPROVED = "approved"
    PUBLISHED = "published"
    ENDED = "ended"
    REVIEWED = "reviewed"
    DISCARDED = "discarded"


UNPUBLISHED = frozenset({State.DRAFT, State.APPROVED})
LIVE = frozenset({State.DRAFT, State.APPROVED, State.PUBLISHED})


class Change(StrEnum):
    """What the channels are told."""

    PUBLISHED = "published"
    UPDATED = "updated"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Content:
    """What a warning says and to whom. `level` is 1 to 4; category, urgency and certainty are words of CAP 1.2."""

    event: Said
    headline: Said
    description: Said
    instruction: Said
    level: int
    category: str
    expires_at: datetime
    zones: tuple[str, ...]
    urgency: str = "Unknown"
    certainty: str = "Unknown"
    organisations: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    acknowledge_minutes: int = 0
    escalate_to: str = ""
    exercise: bool = False

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who must acknowledge it, each once; nobody when no time is given for it."""
        return tuple(dict.fromkeys((*self.organisations, *self.roles))) if self.acknowledge_minutes else ()


@dataclass(frozen=True, slots=True)
class Review:
    """What came of a warning."""

    outcome: str = ""
    notes: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class PublicWarning:
    """A warning as the centre knows it. `content` is what was last published, `draft` what is written since."""

    name: str
    zone: str
    state: State
    created_at: datetime
    draft: Content | None = None
    content: Content | None = None
    revision: int = 0
    drafted_by: str = ""
    approved_by: str = ""
    source: str = ""
    explanation: Explanation | None = None
    published_at: datetime | None = None
    updated_at: datetime | None = None
    cleared_at: datetime | None = None
    ended_at: datetime | None = None
    ending: Said = NOTHING
    review: Review = Review()
    etag: int = 1

    @property
    def needs_approval(self) -> bool:
        """Whether what is to be published next needs a second person: grave now, or grave as it is in force."""
        levels = [content.level for content in (self.draft, self.content) if content is not None]
        return min(levels) <= APPROVED_LEVEL_MAX

    @property
    def latest(self) -> Content:
        """What is written last, published or not."""
        found = self.draft or self.content
        if found is None:
            raise ValueError(f"{self.name} has neither draft nor content")
        return found


def problems(content: Content, inside: frozenset[str]) -> list[Problem]:
    """Return what is wrong with a text or its audience: (field, rule). `inside` are the zones allowed."""
    found = [
        (f"content.{name}.{language}", "is required: people read both languages")
        for name in ("event", "headline", "description", "instruction")
        for language in ("zh", "en")
        if not getattr(getattr(content, name), language)
    ]
    found += [
        (f"content.audience.zones[{place}]", "must be the warning's zone or lie below it")
        for place, zone in enumerate(content.zones)
        if zone not in inside
    ]
    if content.escalate_to and not content.acknowledge_minutes:
        found.append(("content.acknowledgeMinutes", "is required with escalateTo"))
    return found


def revise(warning: PublicWarning, content: Content, *, actor: str) -> PublicWarning:
    """Write the next draft. Raises WrongState once the warning is over."""
    _expect(warning, LIVE)
    state = State.DRAFT if warning.state in UNPUBLISHED else warning.state
    return _changed(replace(warning, state=state, draft=content, drafted_by=actor, approved_by=""))


def approve(warning: PublicWarning, *, actor: str) -> PublicWarning:
    """Approve the draft. Raises WrongState without one, Forbidden when the same person wrote it."""
    _expect(warning, LIVE)
    _expect_draft(warning)
    if actor == warning.drafted_by:
        text = f"{warning.name} was drafted by {actor}: another person must approve it"
        raise Forbidden(Reason.APPROVAL_BY_SAME, text, name=warning.name)
    state = State.APPROVED if warning.state in UNPUBLISHED else warning.state
    return _changed(replace(warning, state=state, approved_by=actor))


def publish(warning: PublicWarning, now: datetime) -> tuple[PublicWarning, Change]:
    """Bring the draft into force. Raises WrongState without one or its approval, Invalid when it expired already."""
    _expect(warning, LIVE)
    draft = _expect_draft(warning)
    if warning.needs_approval and not warning.approved_by:
        text = f"{warning.name} is of level I or II: a second person must approve it first"
        raise WrongState(Reason.APPROVAL_MISSING, text, name=warning.name)
    if draft.expires_at <= now:
        raise Invalid("content.expiresAt", "must be in the future")
    change = Change.UPDATED if warning.revision else Change.PUBLISHED
    after = replace(
        warning,
        state=State.PUBLISHED,
        content=draft,
        draft=None,
        revision=warning.revision + 1,
        published_at=warning.published_at or now,
        updated_at=now,
    )
    return _changed(after), change


def end(warning: PublicWarning, ending: Said, now: datetime) -> PublicWarning:
    """End what is in force. A draft of a next revision is dropped with it."""
    _expect(warning, {State.PUBLISHED})
    return _changed(replace(warning, state=State.ENDED, draft=None, ended_at=now, ending=ending))


def discard(warning: PublicWarning) -> PublicWarning:
    """Drop what was never published."""
    _expect(warning, UNPUBLISHED)
    return _changed(replace(warning, state=State.DISCARDED))


def reviewed(warning: PublicWarning, review: Review) -> PublicWarning:
    """Say what came of it, once."""
    _expect(warning, {State.ENDED})
    return _changed(replace(warning, state=State.REVIEWED, review=review))


def cleared(warning: PublicWarning, now: datetime) -> PublicWarning:
    """Note that the indicator behind it is back."""
    return _changed(replace(warning, cleared_at=now))


def graver(warning: PublicWarning, content: Content, explanation: Explanation, *, actor: str) -> PublicWarning | None:
    """Draft the graver level that an indicator has reached; None when the warning says so already."""
    if content.level >= warning.latest.level:
        return None
    return replace(revise(warning, content, actor=actor), explanation=explanation, cleared_at=None)


def expiry(now: datetime) -> datetime:
    return now + timedelta(hours=RAISED_EXPIRES_H)


def _changed(warning: PublicWarning) -> PublicWarning:
    return replace(warning, etag=warning.etag + 1)


def _expect_draft(warning: PublicWarning) -> Content:
    if warning.draft is None:
        raise WrongState(Reason.WRONG_STATE, f"{warning.name} has no draft", name=warning.name)
    return warning.draft


def _expect(warning: PublicWarning, states: frozenset[State] | set[State]) -> None:
    if warning.state not in states:
        text = f"{warning.name} is {warning.state}"
        raise WrongState(Reason.WRONG_STATE, text, name=warning.name, state=warning.state)
