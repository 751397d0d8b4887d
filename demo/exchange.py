"""The contract: San Francisco asks Beijing for three fields of a product, and gets rows until it ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from demo.air import DAYS, Air, AirStream
from demo.calls import ask, until
from demo.expected import complete_days
from demo.people import Clients
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2 as sharing
from quintet_sdk import QuintetError, new_request_id

CONSUMER = "sf"
PROVIDER = "beijing"
PRODUCT = "products/pm25-daily"
HELD_PRODUCT = "products/beijing.pm25-daily"
FIELDS = ("station", "day", "pm25_mean")
FIELD_OUTSIDE = "pm25_maximum"
PURPOSE = "Comparison of air quality between partner cities"
# Days of readings before the contract, and up to its end; the rest comes afterwards.
DAYS_BEFORE = 30
DAYS_UNTIL_END = 45
# Rows that the consumer asks for once, besides those that come by themselves.
ROWS_ASKED = 10
QUIET_S = 2.0
TIMEOUT_S = 180.0


@dataclass(slots=True)
class Exchange:
    """The negotiation and what came of it, for the reconciliation to check."""

    clients: Clients
    contract: str = ""
    refusal: str = ""
    offered: int = 0
    rows_at_end: int = 0
    # What the consumer held before the end, when it has to delete it; none when an earlier run went through this.
    held: list[Mapping[str, Any]] | None = None

    async def run(self, air: Air, stream: AirStream) -> None:
        """Bring the readings in, with the contract beginning and ending between them."""
        stream.tally.gaps = air.gaps
        ended = await self._ended_before()
        await stream.send(air.between(0, DAYS_BEFORE))
        if not ended:
            await self._until_produced(air, DAYS_BEFORE)
            await self._negotiate()
            # What is there already is sent again for a new contract. Rows written meanwhile could come twice, which is
            # right, but hard to count.
            await self._until_received(len(complete_days(air.between(0, DAYS_BEFORE))))
        await stream.send(air.between(DAYS_BEFORE, DAYS_UNTIL_END))
        if not ended:
            await self._until_produced(air, DAYS_UNTIL_END)
            await self._until_received(len(complete_days(air.between(0, DAYS_UNTIL_END))))
            await self._ask_outside()
            await self._terminate()
        await stream.send(air.between(DAYS_UNTIL_END, DAYS))
        await self._until_produced(air, DAYS)

    async def _ended_before(self) -> bool:
        """Whether an earlier run, whose data was kept, has been through all this."""
        steward = await self.clients.staff(CONSUMER, "data-steward")
        request = pb.ListContractsRequest(peer=f"peers/{PROVIDER}")
        found = (await ask(steward.federation.ListContracts, request)).contracts
        for contract in found:
            if contract.kind == pb.CONTRACT_KIND_EXCHANGE and contract.state == pb.CONTRACT_STATE_TERMINATED:
                self.contract = contract.name
                self.refusal = "FIELD_NOT_IN_CONTRACT" if contract.refused else ""
                return True
        return False

    async def _negotiate(self) -> None:
        consumer = await self.clients.staff(CONSUMER, "data-steward")
        provider = await self.clients.staff(PROVIDER, "data-steward")
        asked = pb.ListPeerProductsRequest(peer=f"peers/{PROVIDER}")
        products = (await ask(consumer.federation.ListPeerProducts, asked)).products
        self.offered = len(products)
        product = next(found for found in products if found.name == PRODUCT)
        terms = pb.Terms(
            product=PRODUCT,
            product_version=product.version,
            fields=[sharing.FieldTerms(field=name) for name in FIELDS],
            zone=product.zone,
            purpose=PURPOSE,
            retention_days=365,
            provider_contact="people/data-steward.bj",
            consumer_contact="people/data-steward.sf",
        )
        request = pb.RequestContractRequest(peer=f"peers/{PROVIDER}", terms=terms, request_id=new_request_id())
        self.contract = (await ask(consumer.federation.RequestContract, request)).contract.name
        await self._until_state(PROVIDER, pb.CONTRACT_STATE_REQUESTED)
        agree = pb.AgreeContractRequest(name=self.contract, request_id=new_request_id())
        await ask(provider.federation.AgreeContract, agree)
        await self._until_state(CONSUMER, pb.CONTRACT_STATE_AGREED)
        verify = pb.VerifyContractRequest(name=self.contract, request_id=new_request_id())
        await ask(consumer.federation.VerifyContract, verify)
        await self._until_state(PROVIDER, pb.CONTRACT_STATE_FINALIZED)
        await self._until_state(CONSUMER, pb.CONTRACT_STATE_FINALIZED)

    async def _ask_outside(self) -> None:
        """A field that the contract does not give is refused, with the reason."""
        steward = await self.clients.staff(CONSUMER, "data-steward")
        inside = pb.QueryContractRequest(name=self.contract, fields=list(FIELDS), page_size=ROWS_ASKED)
        await ask(steward.federation.QueryContract, inside)
        outside = pb.QueryContractRequest(name=self.contract, fields=[FIELD_OUTSIDE])
        try:
            await ask(steward.federation.QueryContract, outside)
        except QuintetError as error:
            self.refusal = error.reason

    async def _terminate(self) -> None:
        # Answers to questions are counted with the rows that came by themselves, but are not kept.
        self.rows_at_end = (await self._contract(CONSUMER)).rows_received - ROWS_ASKED
        await self._until_held(self.rows_at_end)
        self.held = await self._read_held()
        provider = await self.clients.staff(PROVIDER, "data-steward")
        request = pb.TerminateContractRequest(
            name=self.contract, reason="The comparison is finished.", request_id=new_request_id()
        )
        await ask(provider.federation.TerminateContract, request)
        await self._until_state(CONSUMER, pb.CONTRACT_STATE_TERMINATED)
        await self._until_held(0)

    async def _until_held(self, rows: int) -> None:
        steward = await self.clients.staff(CONSUMER, "data-steward")

        async def held() -> bool:
            found = (await ask(steward.sharing.GetProduct, sharing.GetProductRequest(name=HELD_PRODUCT))).product.rows
            return found >= rows if rows else found == 0

        await until(f"{rows} rows of {HELD_PRODUCT}", held, TIMEOUT_S)

    async def _read_held(self) -> list[Mapping[str, Any]]:
        steward = await self.clients.staff(CONSUMER, "data-steward")
        found: list[Mapping[str, Any]] = []
        request = sharing.ReadProductRequest(name=HELD_PRODUCT, purpose=PURPOSE, page_size=1000)
        while True:
            page = await ask(steward.sharing.ReadProduct, request)
            found += [MessageToDict(row) for row in page.rows]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def _contract(self, node: str) -> pb.Contract:
        steward = await self.clients.staff(node, "data-steward")
        request = pb.GetContractRequest(name=self.contract)
        return (await ask(steward.federation.GetContract, request)).contract

    async def _until_state(self, node: str, state: pb.ContractState.ValueType) -> None:
        async def there() -> bool:
            try:
                return (await self._contract(node)).state == state
            except QuintetError as error:
                if error.code.name == "NOT_FOUND":  # on its way
                    return False
                raise

        await until(f"{self.contract} to be {pb.ContractState.Name(state)} at {node}", there, TIMEOUT_S)

    async def _until_received(self, rows: int) -> None:
        async def received() -> bool:
            return (await self._contract(CONSUMER)).rows_received >= rows

        await until(f"{rows} rows under {self.contract}", received, TIMEOUT_S)

    async def _until_produced(self, air: Air, days: int) -> None:
        """Wait until the product has a row for each day that is over by the readings sent."""
        steward = await self.clients.staff(PROVIDER, "data-steward")
        expected = len(complete_days(air.between(0, days)))

        async def produced() -> bool:
            request = sharing.GetProductRequest(name=PRODUCT)
            return (await ask(steward.sharing.GetProduct, request)).product.rows >= expected

        await until(f"{expected} rows of {PRODUCT}", produced, TIMEOUT_S)
