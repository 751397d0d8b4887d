"""Cases, their versions and their review. Pure. All times are aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from libs.personal_text import mask_text
from services.management.cases.model_place import PlaceClass
from services.management.model_words import tokens
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from services.management.warnings.model_indicator import Problem

CASE_NAME = "zones/{zone}/cases/{case}"


class VersionState(StrEnum):
    AWAITING = "awaiting"
    SENT_BACK = "sent_back"
    PUBLISHED = "published"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Content:
    """What a version says, each text in one language at least."""

    title: Said
    difficulty: Said
    solution: Said
    tags: tuple[str, ...] = ()
    place: PlaceClass = PlaceClass.UNKNOWN

    @property
    def words(self) -> list[str]:
        """What it is found by."""
        texts = (self.title, self.difficulty, self.solution)
        return tokens(*(side for text in texts for side in (text.zh, text.en)), *self.tags)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a case. `masked` are the kinds of personal data that were masked in it."""

    version: int
    content: Content
    state: VersionState
    written_by: str
    written_at: datetime
    reviewed_by: str = ""
    reviewed_at: datetime | None = None
    note: str = ""
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A case. `version` is the number of the published version, `awaiting` of the one to be reviewed, 0 for none."""

    name: str
    zone: str
    event: str
    type: str
    organisation: str
    created_at: datetime
    version: int = 0
    last_version: int = 0
    awaiting: int = 0
    retired_at: datetime | None = None
    retired_reason: str = ""
    helped: int = 0
    did_not_help: int = 0
    revision: int = 1


def problems(content: Content) -> list[Problem]:
    """Return what is wrong with a content: (field in JSON spelling, rule)."""
    required = {"title": content.title, "difficulty": content.difficulty, "solution": content.solution}
    return [
        (f"content.{name}", "is required in at least one language")
        for name, said in required.items()
        if not (said.zh.strip() or said.en.strip())
    ]


def masked(content: Content) -> tuple[Content, tuple[str, ...]]:
    """Return a content without personal data, and the kinds of what was masked."""
    kinds: set[str] = set()

    def clean(text: str) -> str:
        found = mask_text(text)
        kinds.update(found.kinds)
        return found.text

    def both(said: Said) -> Said:
        return Said(clean(said.zh), clean(said.en))

    after = replace(
        content,
        title=both(content.title),
        difficulty=both(content.difficulty),
        solution=both(content.solution),
        tags=tuple(dict.fromkeys(clean(tag.strip()) for tag in content.tags if tag.strip())),
    )
    return after, tuple(sorted(kinds))


def written(case: Case, content: Content, *, actor: str, now: datetime) -> tuple[Case, Version]:
    """Return a case with its next version, which waits for its review.

    Raises Invalid for what is missing, WrongState for a case that is retired.
    """
    check_kept(case)
    if found := problems(content):
        raise Invalid.many(found)
    clean, kinds = masked(content)
    number = case.last_version + 1
    version = Version(number, clean, VersionState.AWAITING, actor, now, masked=kinds)
    return replace(case, last_version=number, awaiting=number, revision=case.revision + 1), version


def reviewed(
    case: Case, version: Version, *, publish: bool, note: str, actor: str, now: datetime
) -> tuple[Case, Version]:
    """Return a case and the version that waited after its review.

    Raises Forbidden to who wrote it, Invalid when it is sent back without a note, WrongState for a version that does
    not wait.
    """
    check_kept(case)
    if version.state is not VersionState.AWAITING:
        text = f"version {version.version} of {case.name} is {version.state}"
        raise WrongState(Reason.WRONG_STATE, text, name=case.name, state=version.state)
    if version.written_by == actor:
        raise Forbidden(Reason.APPROVAL_BY_SAME, "who wrote a case cannot publish it", name=case.name)
    if not publish and not note.strip():
        raise Invalid("note", "is required to send it back")
    state = VersionState.PUBLISHED if publish else VersionState.SENT_BACK
    after = replace(version, state=state, reviewed_by=actor, reviewed_at=now, note=note)
    number = version.version if publish else case.version
    return replace(case, version=number, awaiting=0, revision=case.revision + 1), after


def retired(case: Case, reason: str, now: datetime) -> Case:
    """Return a case out of the library. Raises WrongState when it is already."""
    check_kept(case)
    return replace(case, retired_at=now, retired_reason=reason, awaiting=0, revision=case.revision + 1)


def check_kept(case: Case) -> None:
    """Raise WrongState for a case that is retired."""
    if case.retired_at is not None:
        raise WrongState(Reason.WRONG_STATE, f"{case.name} is retired", name=case.name)
