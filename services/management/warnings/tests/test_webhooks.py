"""Webhooks against a real HTTP server that fails and comes back, and addresses that may not be posted to."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from libs.deadletters import list_dead, retry_dead
from libs.errors import Forbidden, Invalid
from quintet.common.v1.common_pb2 import LocalText
from quintet.fact.v1.fact_pb2 import Fact
from quintet.management.v1 import channels_pb2 as pb
from services.management.warnings.tests.samples import ADMIN, D6, D10, OFFICER, SEWERS, WORKS, act, published
from services.management.warnings.webhook_address import AddressError, checked, is_public, resolved
from services.management.warnings.webhooks import ATTEMPTS_MAX, RETRY_DELAY_MAX_S, WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.management.warnings.tests.conftest import Centre


@dataclass
class Receiver:
    """Somebody else's server: answers with `status`, and keeps what it was sent."""

    status: int = 200
    location: str = ""
    port: int = 0
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append((headers, body))
        extra = f"location: {self.location}\r\n" if self.location else ""
        writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[str]:
    """Run a receiver; yields its URL."""
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", receiver.port)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://127.0.0.1:{receiver.port}/warnings"


def sender(centre: Centre) -> WebhookSender:
    run: Any = centre.wired.tasks["webhooks"]
    found: WebhookSender = run.__self__
    return found


async def put(centre: Centre, url: str, organisation: str = WORKS, **more: Any) -> pb.Webhook:
    webhook = pb.Webhook(name="webhooks/works", organisation=organisation, url=url, **more)
    stored: pb.Webhook = (await centre.ask("PutWebhook", pb.PutWebhookRequest(webhook=webhook), ADMIN)).webhook
    return stored


async def listed(centre: Centre) -> pb.Webhook:
    answer: pb.ListWebhooksResponse = await centre.ask("ListWebhooks", pb.ListWebhooksRequest(), ADMIN)
    [webhook] = answer.webhooks
    return webhook


def verify(headers: dict[str, str], body: bytes, jwk: str) -> None:
    """Check a detached JWS as its receiver would, with nothing but the published key."""
    key = json.loads(jwk)
    header, empty, signature = headers["quintet-signature"].split(".")
    assert empty == ""
    assert json.loads(_unb64(header)) == {"alg": "EdDSA", "kid": key["kid"]}
    payload = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    Ed25519PublicKey.from_public_bytes(_unb64(key["x"])).verify(_unb64(signature), f"{header}.{payload}".encode())


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_receiver_that_fails_and_comes_back_is_told_in_the_end(centre: Centre) -> None:
    receiver = Receiver(status=503)
    async with receiving(receiver) as url:
        webhook = await put(centre, url)
        warning = await published(centre, audience={"zones": [D10], "organisations": [WORKS]})
        assert await sender(centre).send() == 1
        assert ((await listed(centre)).waiting, (await listed(centre)).last_error) == (1, "answered 503")
        assert await sender(centre).send() == 0  # not before its time

        centre.clock.advance(timedelta(seconds=10))
        receiver.status = 204
        assert await sender(centre).send() == 1
        assert (await listed(centre)).waiting == 0
        await act(centre, "End", warning.name, ending=LocalText(zh="雨停", en="Over"))
        assert await sender(centre).send() == 1

    first, again, ended = receiver.received
    # Tried again it is the same delivery with the same body, so that the receiver can tell.
    assert first == again
    for headers, body in (first, ended):
        verify(headers, body, webhook.signing_key)
    notice = json.loads(first[1])
    assert (notice["change"], notice["warning"]["name"]) == ("published", warning.name)
    assert notice["warning"]["headline"] == {"zh": "暴雨预警", "en": "Heavy rain warning"}
    assert notice["delivery"] == first[0]["quintet-delivery"]
    told = json.loads(ended[1])
    assert (told["change"], told["warning"]["ending"]["zh"]) == ("ended", "雨停")


async def test_what_nobody_takes_is_a_dead_letter_that_somebody_retries(centre: Centre) -> None:
    receiver = Receiver()
    async with receiving(receiver) as url:
        await put(centre, url)
    await published(centre, audience={"zones": [D10], "organisations": [WORKS]})
    for _ in range(ATTEMPTS_MAX):
        assert await sender(centre).send() == 1  # nobody listens there
        centre.clock.advance(timedelta(seconds=RETRY_DELAY_MAX_S))
    assert await sender(centre).send() == 0
    found = await listed(centre)
    assert (found.waiting, found.dead, found.last_error) == (0, 1, "ConnectError")

    [letter] = await centre.transactions.read(list_dead)
    assert (letter.key, letter.attempts) == ("webhooks/works", ATTEMPTS_MAX)
    async with receiving(receiver):
        await centre.transactions.run(lambda tx: retry_dead(tx.conn, letter.fact_id))
        # As the consumer of facts does with a letter that was raised.
        await centre.take_in(Fact.FromString(letter.fact))
        assert await sender(centre).send() == 1
    assert len(receiver.received) == 1
    found = await listed(centre)
    assert (found.waiting, found.dead) == (0, 0)


async def test_only_those_concerned_are_told(centre: Centre) -> None:
    await put(centre, "http://127.0.0.1:9/", SEWERS, zones=[D6])
    await published(centre, audience={"zones": [D10], "organisations": [WORKS]})
    assert (await listed(centre)).waiting == 0
    await put(centre, "http://127.0.0.1:9/", SEWERS, zones=["us-ca-sf-d10-potrero-hill"])
    await published(centre)
    assert (await listed(centre)).waiting == 1
    await put(centre, "http://127.0.0.1:9/", SEWERS, zones=[D10], paused=True)
    await published(centre)
    assert (await listed(centre)).waiting == 1
    assert await sender(centre).send() == 0


async def test_a_redirect_leads_nowhere(centre: Centre) -> None:
    elsewhere, receiver = Receiver(), Receiver(status=307)
    async with receiving(elsewhere) as target, receiving(receiver) as url:
        receiver.location = target
        await put(centre, url)
        await published(centre, audience={"zones": [D10], "organisations": [WORKS]})
        await sender(centre).send()
    assert elsewhere.received == []
    assert (await listed(centre)).last_error == "answered 307"


async def test_webhooks_are_an_administrators(centre: Centre) -> None:
    with pytest.raises(Forbidden):
        await centre.ask("ListWebhooks", pb.ListWebhooksRequest(), OFFICER)
    with pytest.raises(Invalid) as refused:
        await put(centre, "ftp://example.org/")
    assert refused.value.violations == (("webhook.url", "must begin with https:// or http://"),)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/", "https://127.0.0.1/", "https://10.0.0.8/x", "https://[::1]/", "https://[fd00::1]/"),
        *("https://[::ffff:192.168.1.1]/", "https://[64:ff9b::a00:1]/", "https://169.254.169.254/latest"),
        *("https://user:secret@example.org/", "https:///x", "https://example.org:0/", "https://example.org:99999/"),
        *("https://0.0.0.0/", "https://100.64.0.1/", "https://bei spiel/", "file:///etc/passwd", "https://224.0.0.1/"),
    ],
)
def test_an_address_that_may_lead_inside_is_refused(url: str) -> None:
    with pytest.raises(AddressError):
        checked(url, private=False)


async def test_a_name_that_leads_inside_is_refused_when_it_is_looked_up() -> None:
    assert checked("https://localhost:8443/", private=False).hostname == "localhost"
    with pytest.raises(AddressError, match="private network"):
        await resolved("https://localhost:8443/", private=False)
    assert (await resolved("http://localhost:8080/", private=True)).port == 8080
    assert is_public(ipaddress.ip_address("93.184.216.34"))
    assert not is_public(ipaddress.ip_address("2002:a00:1::1"))
