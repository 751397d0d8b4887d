"""What every answer of the adapters carries, and who may see how the node is doing."""

import base64
import binascii
import hmac
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page of ours loads nothing from elsewhere, is shown in no frame and sends no forms.
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI writes styles into its elements, and draws its icons from data: addresses.
DOCS_POLICY = f"{POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
DOCS_PATH = "/docs"
HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
STATUS_USER = "status"
CHALLENGE = f'Basic realm="{STATUS_USER}", charset="UTF-8"'


class SecurityHeaders:
    """Adds the headers above to every answer. What no route says of caching is not to be cached."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = DOCS_POLICY if scope["path"].rstrip("/") == DOCS_PATH else POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (*HEADERS.items(), ("content-security-policy", policy)):
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def may_see_status(headers: Headers, status: str, token: str) -> bool:
    """Whether the request may: always when the status is "public"; when it is "local", by a name of this machine alone,
    so that a page of another host, which has its own name lead here, may not; else with the token.

    The token is the password of HTTP Basic (RFC 7617), not a bearer token: browsers ask for it by themselves, and the
    edge takes every bearer token for one of identity's.
    """
    if status == "public" or (status == "local" and _names_this_machine(headers.get("host", ""))):
        return True
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return bool(token) and user == STATUS_USER and hmac.compare_digest(password.encode(), token.encode())


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
