"""Versions of scorecards: drafted from the facts or the version before, sealed, and checked against their seals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from libs.errors import Exhausted, NotFound, Reason
from services.management.model_loop import voided_states
from services.management.performance import (
    store_appeals,
    store_cards,
    store_counted,
    store_definitions,
    store_facts,
)
from services.management.performance.model_scorecard import EVENTS_MAX, Card, Definition, Version
from services.management.performance.model_seal import Seal, is_signed, sign
from services.management.performance.store_facts import Area

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from libs.db import Connection
    from libs.node_key import NodeKeys
    from libs.tx import Tx
    from libs.zones import ZoneTree
    from services.management.model_loop import Loop

_NO_KIND = frozenset(("", "unspecified"))


class Checked(NamedTuple):
    """What was found of the seal of a version."""

    version: Version
    content_hash: bytes
    content_differs: bool
    signature_invalid: bool
    chain_broken: bool


class Maker:
    """Makes the versions of one node's scorecards."""

    def __init__(
        self, node: str, loops: Callable[[], Iterable[Loop]], zones: Callable[[], ZoneTree], keys: NodeKeys
    ) -> None:
        """`loops` gives all loops that this node knows, `zones` the zones as they are at the moment."""
        self._node = node
        self._loops = loops
        self._zones = zones
        self._keys = keys

    async def draft(self, tx: Tx, card: Card, definition: Definition, wanted: Version) -> Version:
        """Store a version with the facts as they are now. Raises Exhausted for too many events."""
        areas = _areas(self._zones(), card.zone)
        events = await store_facts.chosen(tx.conn, card, definition, [area.code for area in areas], EVENTS_MAX + 1)
        if len(events) > EVENTS_MAX:
            text = f"more than {EVENTS_MAX} events are in the period, and no more can be scored at once"
            raise Exhausted(Reason.QUOTA, text, limit=str(EVENTS_MAX))
        made = replace(wanted, id=await store_cards.add(tx.conn, card, wanted))
        await store_facts.read(
            tx.conn, made.id, definition, events, areas, voided_states(self._loops()),
            node=self._node, as_of=made.as_of,
        )  # fmt: skip
        return await self._ruled(tx, card, definition, made)

    async def correct(self, tx: Tx, card: Card, definition: Definition, before: Version, wanted: Version) -> Version:
        """Store a version with the facts as the version before has them."""
        wanted = replace(wanted, as_of=before.as_of)
        made = replace(wanted, id=await store_cards.add(tx.conn, card, wanted))
        await store_counted.copy(tx.conn, before.id, made.id)
        return await self._ruled(tx, card, definition, made)

    async def _ruled(self, tx: Tx, card: Card, definition: Definition, made: Version) -> Version:
        """Apply the appeals that were granted, and sum up."""
        for appeal in await store_appeals.granted(tx.conn, card.id):
            place = definition.place(appeal.indicator) if appeal.indicator else None
            await store_counted.rule(tx.conn, made.id, appeal, place)
        await store_cards.put_scores(tx.conn, made.id, await store_counted.scores(tx.conn, made.id, definition))
        totals = await store_counted.totals(tx.conn, made.id, definition, self._node)
        await store_cards.put_totals(tx.conn, made.id, totals)
        return replace(made, totals=totals)

    async def publish(self, tx: Tx, card: Card, definition: Definition, draft: Version, actor: str) -> Version:
        """Seal a draft of a locked scorecard."""
        previous = await store_cards.version(tx.conn, card, card.published, drafts=False) if card.published else None
        published = replace(
            draft,
            published_by=actor,
            published_at=tx.now,
            previous_hash=previous.content_hash if previous else b"",
        )
        content_hash = await _content_hash(tx.conn, card, definition, published)
        sealed = replace(published, content_hash=content_hash, signature=sign(self._keys.present(), content_hash))
        await store_cards.seal(tx.conn, card, sealed)
        return sealed

    async def check(self, conn: Connection, card: Card, definition: Definition, last: int) -> list[Checked]:
        """Return what is found of the seals of all versions until `last`, the first one first."""
        keys = self._keys.public()
        found: list[Checked] = []
        for number in range(1, last + 1):
            version = await store_cards.version(conn, card, number, drafts=False)
            if version is None:
                break
            content_hash = await _content_hash(conn, card, definition, version)
            found.append(
                Checked(
                    version,
                    content_hash,
                    content_differs=content_hash != version.content_hash,
                    signature_invalid=not is_signed(keys, version.content_hash, version.signature),
                    chain_broken=version.previous_hash != (found[-1].version.content_hash if found else b""),
                )
            )
        return found


async def definition_of(conn: Connection, name: str, version: int = 0) -> Definition:
    """Return a version of a definition, the present one for 0. Raises NotFound."""
    found = await store_definitions.get(conn, name, version)
    if found is None:
        raise NotFound(Reason.SCORECARD_DEFINITION_NOT_FOUND, f"{name} does not exist", name=name)
    return found


async def _content_hash(conn: Connection, card: Card, definition: Definition, version: Version) -> bytes:
    seal = Seal(card, version, definition, store_cards.totals_json(version.totals))
    scores = await store_cards.scores(conn, version.id)
    for score in sorted(scores, key=lambda score: (score.kind, score.subject)):
        seal.score(score, store_cards.score_json(score))
    async for row in store_counted.every(conn, version.id):
        seal.event(row)
    return seal.content_hash


def _areas(tree: ZoneTree, zone: str) -> list[Area]:
    found: list[Area] = []
    for code in tree.codes(zone):
        path = tree.path(code)
        path = path[path.index(zone) :] if zone in path else (zone,)
        record = tree.record(code)
        kind = record.kind if record else ""
        found.append(Area(code, path, f"level-{len(path) - 1}" if kind in _NO_KIND else kind))
    return found
