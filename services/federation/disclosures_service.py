"""FederationService, the part about disclosures: a person sees their own, a steward those of a person they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import disclosures_store
from services.federation.disclosures import Disclosures, message_of

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx

LIST_DEFAULT = 50
LIST_MAX = 500


class DisclosuresHandler:
    """What the methods about disclosures do."""

    def __init__(self, transactions: Transactions, disclosures: Disclosures) -> None:
        self._transactions = transactions
        self._disclosures = disclosures

    async def mine(self, request: pb.ListMyDisclosuresRequest) -> pb.ListMyDisclosuresResponse:
        person = self._disclosures.person(current_caller().subject)
        found, token = await self._page(person, request.page_size, request.page_token)
        return pb.ListMyDisclosuresResponse(disclosures=found, next_page_token=token)

    async def of(self, request: pb.ListDisclosuresRequest) -> pb.ListDisclosuresResponse:
        """Each look stands in the audit log, with the keyed hash of the person."""
        person = self._disclosures.person(request.subject)
        found, token = await self._page(person, request.page_size, request.page_token)

        async def note(tx: Tx) -> None:
            tx.audit("federation.disclosures.read", "disclosures", person=person.hex(), disclosures=len(found))

        await self._transactions.run(note)
        return pb.ListDisclosuresResponse(disclosures=found, next_page_token=token)

    async def _page(self, person: bytes, page_size: int, page_token: str) -> tuple[list[pb.Disclosure], str]:
        size = paging.size(page_size, default=LIST_DEFAULT, most=LIST_MAX)
        of = f"disclosures {person.hex()}"
        after = paging.after(page_token, int, of=of)
        rows = await self._transactions.read(
            lambda conn: disclosures_store.page(conn, person, after[0] if after else None, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row[0],), of=of)
        return [_shown(kept) for _, kept in page], token


def _shown(kept: disclosures_store.Kept) -> pb.Disclosure:
    shown = message_of(kept.disclosed, kept.count)
    shown.first_time.FromDatetime(kept.first_at)
    shown.last_time.FromDatetime(kept.last_at)
    return shown
