"""Loops as protos."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from quintet.common.v1 import common_pb2
from quintet.management.v1 import loops_pb2 as pb
from services.management.convert import time_pb
from services.management.loop_yaml import LoopError

if TYPE_CHECKING:
    from services.management.catalogue.store_loops import LoopVersion
    from services.management.model_loop import Action, Loop


def loop_pb(found: LoopVersion) -> pb.Loop:
    """Return a loop; of one that this release of the software cannot read, what stands beside its text."""
    kept = pb.Loop(
        name=found.name,
        version=found.version,
        shipped=found.shipped,
        changed_by=found.changed_by,
        changed_at=time_pb(found.changed_at),
    )
    with suppress(LoopError):
        kept.MergeFrom(_read(found.loop))
    return kept


def _read(loop: Loop) -> pb.Loop:
    return pb.Loop(
        title=common_pb2.LocalText(zh=loop.title_zh, en=loop.title_en),
        initial=loop.initial,
        states=loop.states,
        open_states=loop.open_states,
        joint_states=loop.joint_states,
        routes_at_once=loop.routes_at_once,
        actions=[_action_pb(action) for action in loop.actions],
    )


def _action_pb(action: Action) -> pb.LoopAction:
    found = pb.LoopAction(
        action=action.action,
        title=common_pb2.LocalText(zh=action.title_zh, en=action.title_en),
        to=action.target,
        permission=action.permission,
        needs_reason=action.needs_reason,
        needs_organisation=action.needs_organisation,
        voids=action.voids,
        reopens=action.reopens,
        on_request_only=action.on_request_only,
        exception=action.exception,
        needs_evidence=action.needs_evidence,
        needs_photos=action.needs_photos,
    )
    getattr(found, "from").extend(action.sources)  # a keyword in Python
    return found
