"""Certificates of the link: renewed in mid-stream, ended while their holder or their issuer was away, and revoked.

While these scenarios run, the city issues for half a minute only.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from cryptography import x509

from e2e.faults.conftest import Bench
from e2e.faults.federation import CITY, DISTRICT, PARTNER, approve_again, until_linked
from e2e.faults.ledger import Ledger
from e2e.faults.nodes import FEDERATION, FaultNode, patiently
from libs.clock import SystemClock
from libs.db import Pool
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet_sdk import Client, new_request_id

LIFE_S = 30.0
# Longer than any that the city issues in this file.
LONG = timedelta(hours=1)
RENEWALS = 2
# What "within seconds" means on a machine that has other work, too.
ENDED_WITHIN_S = 10.0
# A renewal that failed is tried again after a minute at most.
RENEWED_WITHIN_S = 240.0
STRETCH_S = 3.0
EXPIRED = "CERTIFICATE_EXPIRED"


@dataclass(frozen=True)
class Holder:
    """The district as the holder of a certificate of the city, with its database."""

    node: FaultNode
    database: Pool

    async def certificate(self) -> x509.Certificate | None:
        """The certificate with which it calls the city; None when it has none."""
        async with self.database.acquire() as connection:
            found = await connection.fetchval("SELECT certificate FROM federation.peers WHERE node = $1", CITY)
        return x509.load_pem_x509_certificate(found.encode()) if found else None

    async def ends_at(self) -> datetime:
        """When its present certificate ends."""
        found = await self.certificate()
        assert found is not None
        return found.not_valid_after_utc

    async def until_long(self, *, is_long: bool) -> None:
        """Return when its certificate is one of the usual life, or a short one."""

        async def there() -> bool:
            found = await self.certificate()
            return found is not None and (found.not_valid_after_utc - SystemClock().now() > LONG) == is_long

        await eventually(there, within_s=RENEWED_WITHIN_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def holder(bench: Bench) -> AsyncIterator[Holder]:
    """A district whose certificates live for LIFE_S only."""
    city, district = bench.federation.city, bench.federation.district
    async with district.database() as database:
        found = Holder(district, database)
        await city.configure(certificate_hours=f"{LIFE_S / 3600}")
        await _revoke(city, DISTRICT)
        await approve_again(city, DISTRICT)
        await found.until_long(is_long=False)
        await _until_linked(city, DISTRICT)
        yield found
        await city.configure()
        await found.until_long(is_long=True)
        await _until_linked(city, DISTRICT)


async def test_certificates_are_renewed_in_mid_stream(bench: Bench, holder: Holder) -> None:
    async with bench.scenario(f"certificate of {DISTRICT} renewed in mid-stream") as doing:
        seen: set[int] = set()
        while len(seen) <= RENEWALS:
            found = await holder.certificate()
            assert found is not None
            seen.add(found.serial_number)
            await doing(bench.work(seconds=STRETCH_S))


async def test_a_certificate_ends_while_its_node_is_away(bench: Bench, holder: Holder) -> None:
    async with bench.scenario(f"certificate of {DISTRICT} expired while away") as doing:
        await holder.node.stop()
        # Whenever its last one was issued, it has ended then.
        ends_at = SystemClock().now() + timedelta(seconds=LIFE_S)
        await doing(bench.work(events=0, numbers=0))
        await _passed(ends_at)
        await holder.node.start_again()
        await doing(bench.work())
        await _until_linked(bench.federation.city, DISTRICT)


async def test_a_certificate_ends_while_its_issuer_is_away(bench: Bench, holder: Holder) -> None:
    city = bench.federation.city
    async with bench.scenario(f"certificate of {DISTRICT} expired, renewal impossible") as doing:
        await city.rest(FEDERATION)
        # What needs the city's own federation service waits until it is back.
        await doing(bench.work(directives=0, transfers=0))
        await _passed(await holder.ends_at())
        async with holder.node.client() as client:

            async def alarmed() -> bool:
                return EXPIRED in await _alarms(client, CITY)

            await eventually(alarmed, within_s=RENEWED_WITHIN_S)
            city.wake(FEDERATION)
            await _until_linked(city, DISTRICT)
            await doing(bench.work())

            async def calm() -> bool:
                return EXPIRED not in await _alarms(client, CITY)

            await eventually(calm, within_s=RENEWED_WITHIN_S)


@pytest.mark.parametrize(("issuer", "of"), [(CITY, DISTRICT), (PARTNER, CITY)])
async def test_a_revoked_certificate_ends_the_live_stream(bench: Bench, issuer: str, of: str) -> None:
    node = bench.federation.node(issuer)
    async with bench.scenario(f"certificate of {of} revoked by {issuer}") as doing:
        working = asyncio.create_task(bench.work(transfers=0, seconds=STRETCH_S))
        await _revoke(node, of)
        async with node.client() as client:

            async def ended() -> bool:
                request = pb.GetPeerRequest(name=f"peers/{of}")
                return not (await patiently(lambda: client.federation.GetPeer(request))).peer.connected

            await eventually(ended, within_s=ENDED_WITHIN_S)
        await doing(working)
        # All of this is kept where it was stated: nothing passes any more.
        waits = await bench.work(transfers=0)
        await doing(_done(waits))
        assert not (await bench.reconciler.compare(waits)).ok
        await approve_again(node, of)
        await _until_linked(node, of)
        await doing(bench.work())


async def _done(ledger: Ledger) -> Ledger:
    return ledger


async def _revoke(node: FaultNode, peer: str) -> None:
    async with node.client() as client:
        request = pb.RevokeCertificateRequest(
            name=f"peers/{peer}", reason="a laptop is gone", request_id=new_request_id()
        )
        await patiently(lambda: client.federation.RevokeCertificate(request))


async def _until_linked(node: FaultNode, peer: str) -> None:
    async with node.client() as client:
        await until_linked(client, peer, within_s=RENEWED_WITHIN_S)


async def _passed(moment: datetime) -> None:
    async def past() -> bool:
        return SystemClock().now() > moment

    await eventually(past, within_s=2 * LIFE_S)


async def _alarms(client: Client, peer: str) -> list[str]:
    request = pb.GetPeerRequest(name=f"peers/{peer}")
    return list((await patiently(lambda: client.federation.GetPeer(request))).peer.alarms)
