"""What types, zones and organisations are called by people, in both languages; their codes where nothing is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.reports import store_titles
from services.management.reports.model_findings import Title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.fact.v1.fact_pb2 import Fact
    from quintet.identity.v1.facts_pb2 import OrganisationChanged
    from services.management.analysis.store_counts import Known


def titled(zh: str, en: str, otherwise: str) -> Title:
    """Return a title; where one language lacks it that of the other, and `otherwise` where both do."""
    return Title(zh or en or otherwise, en or zh or otherwise)


def type_title(known: Mapping[str, Known], name: str) -> Title:
    """Return what a type of events is called."""
    found = known.get(name)
    return titled(found.zh, found.en, name) if found else Title(name, name)


def zone_title(tree: ZoneTree, code: str) -> Title:
    """Return what a zone is called."""
    record = tree.record(code)
    names = record.names if record else ()
    return titled(names[0], names[-1], code) if names else Title(code, code)


class OrganisationTitles:
    """Keeps what identity, here and in the tiers below, says organisations are called."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def organisation_changed(self, tx: Tx, fact: Fact, message: OrganisationChanged) -> None:
        organisation = message.organisation
        title = Title(organisation.title.zh, organisation.title.en)
        await store_titles.put(tx.conn, organisation.name, title, node=fact.node, own=fact.node == self._node)
