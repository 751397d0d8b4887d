"""A warning told through all channels, in the transaction that changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from google.protobuf.json_format import MessageToDict

from libs.ids import new_id
from libs.zones import ZoneTree
from quintet.management.v1 import channels_pb2, facts_pb2
from services.management.warnings import model_cap, store_cap, store_receipts, store_warnings, store_webhooks
from services.management.warnings.convert_warnings import in_force_pb
from services.management.warnings.model_cap import Area, Message, MessageType, Sent
from services.management.warnings.model_warning import Change

if TYPE_CHECKING:
    from libs.canonical import JsonValue
    from libs.tx import Tx
    from services.management.warnings.model_warning import Content, PublicWarning

_KINDS = {
    Change.PUBLISHED: MessageType.ALERT,
    Change.UPDATED: MessageType.UPDATE,
    Change.ENDED: MessageType.CANCEL,
}


@dataclass(frozen=True, slots=True)
class Announcer:
    """Tells lists, webhooks, CAP feed and other services. `node` is the node's id, `title` its name for people."""

    node: str
    title: str
    zones: Callable[[], ZoneTree]

    async def tell(self, tx: Tx, warning: PublicWarning, change: Change) -> None:
        """Store a warning that was just published, updated or ended, and tell it."""
        content = warning.content
        if content is None:
            raise ValueError(f"{warning.name} was never published")
        await store_warnings.put(tx.conn, warning)
        await self._say(tx, warning, content, change)
        await self._notify(tx, warning, content, change)
        seen = in_force_pb(warning)
        if change is Change.ENDED:
            tx.publish(facts_pb2.PublicWarningEnded(warning=seen), zone=warning.zone, key=warning.name)
            return
        due_at = tx.now + timedelta(minutes=content.acknowledge_minutes)
        await store_receipts.ask(tx.conn, warning.name, content.recipients, warning.revision, due_at)
        tx.publish(facts_pb2.PublicWarningPublished(warning=seen), zone=warning.zone, key=warning.name)

    async def _say(self, tx: Tx, warning: PublicWarning, content: Content, change: Change) -> None:
        """Write the message of the Common Alerting Protocol."""
        before = await store_cap.of(tx.conn, warning.name)
        number = len(before) + 1
        # "zones/a/publicWarnings/b" as "a.b": a CAP identifier holds neither blanks nor commas.
        _, zone, _, own = warning.name.split("/")
        identifier = f"{self.node}.{zone}.{own}.{number}"
        message = Message(
            identifier=identifier,
            sender=self.node,
            sender_name=self.title,
            sent_at=tx.now,
            kind=_KINDS[change],
            content=content,
            areas=tuple(self._area(zone) for zone in content.zones),
            before=tuple(Sent(kept.identifier, kept.sent_at) for kept in before),
            ending=warning.ending if change is Change.ENDED else None,
        )
        said = content.headline
        text = model_cap.rendered(message)
        kept = store_cap.Kept(warning.name, number, identifier, said.zh, said.en, tx.now, text)
        await store_cap.keep(tx.conn, kept)

    def _area(self, zone: str) -> Area:
        record = self.zones().record(zone)
        return Area(zone, record.names, record.boundary) if record else Area(zone)

    async def _notify(self, tx: Tx, warning: PublicWarning, content: Content, change: Change) -> None:
        tree = self.zones()
        kin = {code for zone in content.zones for code in (*tree.codes(zone), *tree.path(zone))}
        for webhook in await store_webhooks.concerned(tx.conn, content.organisations, sorted(kin)):
            delivery = new_id()
            notice = channels_pb2.WebhookNotice(
                delivery=delivery, node=self.node, change=change, warning=in_force_pb(warning)
            )
            told: JsonValue = MessageToDict(notice)
            body = json.dumps(told, ensure_ascii=False, sort_keys=True).encode()
            await store_webhooks.enqueue(tx.conn, UUID(delivery), webhook, body, tx.now)
