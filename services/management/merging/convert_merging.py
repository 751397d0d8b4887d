"""Suggestions, reports and figures of merging as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import merging_pb2 as pb
from services.management.convert import component_pb, explanation_pb, place_pb, time_pb
from services.management.merging.model_suggestion import State

if TYPE_CHECKING:
    from services.management.merging.model_moving import Standing
    from services.management.merging.model_suggestion import Quality, Suggestion
    from services.management.model_merge import Match

_PREFIX = "MERGE_SUGGESTION_STATE_"
_STATES = {pb.MergeSuggestionState.Value(f"{_PREFIX}{state.name}"): state for state in State}


def state_of(state: pb.MergeSuggestionState.ValueType) -> State | None:
    """Return None for no state."""
    return _STATES.get(state)


def suggestion_pb(suggestion: Suggestion) -> pb.MergeSuggestion:
    return pb.MergeSuggestion(
        name=suggestion.name,
        event=suggestion.event,
        same_as=suggestion.same_as,
        type=suggestion.type,
        score=suggestion.score,
        explanation=explanation_pb(suggestion.explanation),
        state=pb.MergeSuggestionState.Value(f"{_PREFIX}{suggestion.state.name}"),
        suggested_at=time_pb(suggestion.suggested_at),
        decided_by=suggestion.decided_by,
        decided_at=time_pb(suggestion.decided_at),
        reason=suggestion.reason,
    )


def duplicate_pb(match: Match) -> pb.Duplicate:
    return pb.Duplicate(
        event=match.candidate.name, score=match.score, explanation=explanation_pb(match.explanation)
    )  # fmt: skip


def report_pb(event: str, report: Standing) -> pb.EventReport:
    return pb.EventReport(
        name=f"{event}/reports/{report.revision}",
        kind=report.said.kind,
        source=report.said.source,
        merged=report.merged,
        moves=report.moves,
        description=report.said.description,
        place=place_pb(report.said.place),
        occurred_at=time_pb(report.said.occurred_at),
        explanation=explanation_pb(report.explanation),
        component=component_pb(report.said.component),
    )


def quality_pb(quality: Quality) -> pb.MergeQuality:
    return pb.MergeQuality(
        type=quality.type,
        automatic=quality.automatic,
        undone=quality.undone,
        by_hand=quality.by_hand,
        suggested=quality.suggested,
        accepted=quality.accepted,
        dismissed=quality.dismissed,
        automatic_precision=quality.automatic_precision,
        suggestion_precision=quality.suggestion_precision,
    )
