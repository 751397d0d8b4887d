"""Cases as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import cases_pb2 as pb
from services.management.cases.model import Case, Content, Version, VersionState
from services.management.cases.model_place import PlaceClass
from services.management.convert import time_pb
from services.management.warnings.convert_indicators import said_of, said_pb
from services.management.warnings.model_indicator import Said

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACES = {
    place: pb.PlaceClass.Value(f"PLACE_CLASS_{place.name}") for place in PlaceClass if place is not PlaceClass.UNKNOWN
} | {PlaceClass.UNKNOWN: pb.PLACE_CLASS_UNSPECIFIED}
_PLACES_OF = {number: place for place, number in _PLACES.items()}
_STATES = {state: pb.CaseVersionState.Value(f"CASE_VERSION_STATE_{state.name}") for state in VersionState}


def content_of(content: pb.CaseContent) -> Content:
    return Content(
        title=said_of(content.title),
        difficulty=Said(content.difficulty.zh, content.difficulty.en),
        solution=Said(content.solution.zh, content.solution.en),
        tags=tuple(content.tags),
        place=_PLACES_OF[content.place_class],
    )


def version_pb(version: Version) -> pb.CaseVersion:
    content = version.content
    return pb.CaseVersion(
        version=version.version,
        content=pb.CaseContent(
            title=said_pb(content.title),
            difficulty=pb.CaseText(zh=content.difficulty.zh, en=content.difficulty.en),
            solution=pb.CaseText(zh=content.solution.zh, en=content.solution.en),
            tags=content.tags,
            place_class=_PLACES[content.place],
        ),
        state=_STATES[version.state],
        written_by=version.written_by,
        written_at=time_pb(version.written_at),
        reviewed_by=version.reviewed_by,
        reviewed_at=time_pb(version.reviewed_at),
        note=version.note,
        masked=version.masked,
    )


def case_pb(case: Case, versions: Mapping[tuple[str, int], Version], *, drafts: bool) -> pb.Case:
    """Return a case; with `drafts` also what is not published."""
    shown = versions.get((case.name, case.version or (case.last_version if drafts else 0)))
    awaiting = versions.get((case.name, case.awaiting)) if drafts else None
    return pb.Case(
        name=case.name,
        event=case.event,
        type=case.type,
        organisation=case.organisation,
        version=version_pb(shown) if shown else None,
        awaiting=version_pb(awaiting) if awaiting else None,
        retired_at=time_pb(case.retired_at),
        retired_reason=case.retired_reason,
        helped=case.helped,
        did_not_help=case.did_not_help,
        etag=case.revision,
    )
