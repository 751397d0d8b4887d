"""Who leaves a post leaves its work to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.management import stated, texts
from services.management.model import Explanation
from services.management.worklists import store_assign
from services.management.worklists.model_assign import put_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.identity.v1.directory_pb2 import Person
    from quintet.identity.v1.facts_pb2 import PersonChanged
    from services.management.model import Event

# Facts and audit entries of one transaction are limited.
HELD_EVENTS_MAX = 5_000
ACTOR = "services/management"

log = structlog.get_logger()


class Leavers:
    """What this node does when somebody's posts change."""

    def __init__(self, node: str, zones: Callable[[], ZoneTree]) -> None:
        self._node = node
        self._zones = zones

    async def person_changed(self, tx: Tx, fact: Fact, message: PersonChanged) -> None:
        """Put back the events that a person had by a post that they do not hold any more."""
        if fact.received_from:
            return
        person = message.person
        held = await store_assign.lock_held(tx.conn, self._node, person.name, limit=HELD_EVENTS_MAX)
        if len(held) == HELD_EVENTS_MAX:
            log.warning("worklists.holds_too_many", person=person.name, limit=HELD_EVENTS_MAX)
        for event in held:
            if self._still_holds(person, event):
                continue
            inputs = {"person": person.name, "organisation": event.assigned_as, "zone": event.zone}
            explanation = Explanation("rules/post-ended", *texts.POST_ENDED.fill(**inputs), inputs)
            after, step = put_back(event, actor=ACTOR, now=tx.now, explanation=explanation)
            await store_assign.assign(tx.conn, after, step)
            stated.assigned(tx, event, after, step)

    def _still_holds(self, person: Person, event: Event) -> bool:
        tree = self._zones()
        return not person.disabled and any(
            post.organisation == event.assigned_as and (post.zone == tree.root or tree.covers(post.zone, event.zone))
            for post in person.posts
        )
