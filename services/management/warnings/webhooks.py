"""Tells webhooks what is to be told, again and again for about a day, and then gives it to people to decide about."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import httpx
import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from libs.backoff import delay
from libs.inbox_store import Taken
from libs.turns import every
from quintet.fact.v1.fact_pb2 import Fact
from quintet.management.v1.facts_pb2 import WebhookDeliveryDue
from services.management.warnings import store_webhooks
from services.management.warnings.webhook_address import AddressError, resolved

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from libs.tx import Transactions, Tx
    from services.management.warnings.store_webhooks import Delivery

POLL_S = 1.0
DELIVERIES_AT_ONCE_MAX = 20
ANSWER_TIMEOUT_S = 10.0
# A delivery that was claimed by a replica which died is due again after this.
CLAIM_S = 60.0
RETRY_DELAY_FIRST_S = 10.0
RETRY_DELAY_MAX_S = 3 * 3600.0
# With the delays above the last attempt is made about a day after the first.
ATTEMPTS_MAX = 17
_SUCCESS = range(200, 300)

log = structlog.get_logger()


class Signature:
    """Signs bodies with the node's key: a JWS (RFC 7515) whose content is detached, EdDSA (RFC 8037)."""

    def __init__(self, key: Callable[[], Ed25519PrivateKey]) -> None:
        """`key` gives the node's key of the moment, which may change while the node runs."""
        self._key = key

    def jwk(self) -> str:
        """Return the public key with which bodies that are signed now verify."""
        public, kid = _public(self._key())
        return json.dumps({**public, "alg": "EdDSA", "kid": kid, "use": "sig"}, separators=(",", ":"))

    def of(self, body: bytes) -> str:
        key = self._key()
        _, kid = _public(key)
        header = _b64(json.dumps({"alg": "EdDSA", "kid": kid}, separators=(",", ":")).encode())
        signed = f"{header}.{_b64(body)}".encode()
        return f"{header}..{_b64(key.sign(signed))}"


def _public(key: Ed25519PrivateKey) -> tuple[dict[str, str], str]:
    """Return the public key as a JWK and its thumbprint of RFC 7638, over just these members in this order."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _b64(key.public_key().public_bytes_raw())}
    return jwk, _b64(hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest())


class WebhookSender:
    """Background work that replicas share: each claims what is due."""

    def __init__(self, transactions: Transactions, signature: Signature, *, private: bool) -> None:
        """`private` allows addresses inside private networks, and http."""
        self._transactions = transactions
        self._signature = signature
        self._private = private

    async def run(self) -> None:
        """Send every POLL_S until cancelled."""
        await every(POLL_S, self._send_all, failed="webhooks.send_failed")

    async def _send_all(self) -> None:
        while await self.send() == DELIVERIES_AT_ONCE_MAX:
            pass

    async def send(self) -> int:
        """Try what is due now, at most DELIVERIES_AT_ONCE_MAX, and return how many that were."""
        until = timedelta(seconds=CLAIM_S)
        due = await self._transactions.run(
            lambda tx: store_webhooks.claim(tx.conn, tx.now, tx.now + until, DELIVERIES_AT_ONCE_MAX)
        )
        async with asyncio.TaskGroup() as group:
            for delivery in due:
                group.create_task(self._deliver(delivery))
        return len(due)

    async def _deliver(self, delivery: Delivery) -> None:
        error = await self._post(delivery)
        if not error:
            await self._transactions.run(lambda tx: store_webhooks.done(tx.conn, delivery.id))
            return
        log.warning("webhooks.refused", webhook=delivery.webhook, attempts=delivery.attempts, error=error)
        await self._transactions.run(partial(self._failed, delivery, error))

    async def _failed(self, delivery: Delivery, error: str, tx: Tx) -> None:
        if delivery.attempts < ATTEMPTS_MAX:
            delay_s = delay(delivery.attempts - 1, RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
            await store_webhooks.postpone(tx.conn, delivery, error, tx.now + timedelta(seconds=delay_s))
            return
        due = WebhookDeliveryDue(webhook=delivery.webhook, delivery=str(delivery.id), body=delivery.body)
        time = Timestamp()
        time.FromDatetime(tx.now)
        # One letter per delivery, also when it is retried and given up again.
        letter = Fact(
            id=str(uuid5(delivery.id, "letter")),
            type=due.DESCRIPTOR.full_name,
            node=self._transactions.node,
            zone=tx.zone,
            key=delivery.webhook,
            time=time,
            data=due.SerializeToString(),
        )
        taken = Taken(UUID(letter.id), letter.type, letter.key, letter.SerializeToString())
        await store_webhooks.give_up(tx.conn, delivery, taken, error)
        tx.audit("management.webhooks.give_up", delivery.webhook, delivery=str(delivery.id), error=error)

    async def _post(self, delivery: Delivery) -> str:
        """Return what went wrong, "" for nothing."""
        try:
            target = await resolved(delivery.url, private=self._private)
        except AddressError as error:
            return str(error)
        address = f"[{target.address}]" if ":" in target.address else target.address
        url = target.url._replace(netloc=f"{address}:{target.port}", fragment="").geturl()
        headers = {
            "host": target.url.netloc.rpartition("@")[2],
            "content-type": "application/json",
            "user-agent": "quintet",
            "quintet-delivery": str(delivery.id),
            "quintet-signature": self._signature.of(delivery.body),
        }
        try:
            async with (
                asyncio.timeout(ANSWER_TIMEOUT_S),
                # The environment's proxies would resolve the name anew; a redirect would lead past the check.
                httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=ANSWER_TIMEOUT_S) as http,
                http.stream(
                    "POST",
                    url,
                    content=delivery.body,
                    headers=headers,
                    extensions={"sni_hostname": target.host},
                ) as answer,
            ):
                return "" if answer.status_code in _SUCCESS else f"answered {answer.status_code}"
        except TimeoutError:
            return f"no answer within {ANSWER_TIMEOUT_S:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__


class WebhookLetters:
    """Takes up a dead letter that somebody retries."""

    async def due(self, tx: Tx, _fact: Fact, message: WebhookDeliveryDue) -> None:
        """Have it told again, from the first attempt."""
        await store_webhooks.enqueue(tx.conn, UUID(message.delivery), message.webhook, message.body, tx.now)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
