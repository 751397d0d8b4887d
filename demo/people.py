"""The accounts of the demo: passwords made at the first start, and signed-in clients."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from demo.calls import patiently
from demo.nodes import Node
from quintet_sdk import Client

ADMIN_LOGIN = "node-admin"
ADMIN_SECRET = "node-admin.password"  # noqa: S105 - the name of a file
PASSWORD_BYTES = 12
# Shown at the end, so that a newcomer can try each kind of post.
SHOWN = (
    ADMIN_LOGIN,
    "resident.01",
    "duty-officer",
    "dispatcher",
    "handler",
    "verifier",
    "supervisor",
    "leader",
    "service-officer",
    "data-steward",
    "auditor",
)


class Accounts:
    """Logins and passwords by node. Written to a file that only its owner reads, for examples and tests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passwords: dict[str, dict[str, str]] = {}
        if path.exists():
            found = json.loads(path.read_text())["nodes"]
            self._passwords = {node: dict(entry["accounts"]) for node, entry in found.items()}

    def create(self, node: str, name: str) -> str:
        """The password of a new account; `name` is its resource name."""
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        self.keep(node, name, password)
        return password

    def keep(self, node: str, name: str, password: str) -> None:
        """Remember the password of a person (under the login) or the secret of a service account (under its name)."""
        self._passwords.setdefault(node, {})[name.removeprefix("people/")] = password

    def password(self, node: str, login: str) -> str:
        return self._passwords[node][login]

    def logins(self, node: str) -> Mapping[str, str]:
        return self._passwords.get(node, {})

    def write(self, nodes: Mapping[str, Node]) -> None:
        """Write the file, with the URL of each node."""
        content: dict[str, Any] = {
            "nodes": {
                name: {"url": node.url, "zone": node.spec.zone, "accounts": dict(self.logins(name))}
                for name, node in nodes.items()
            }
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)


class Clients:
    """Signed-in clients, one per node and login, opened when they are first asked for."""

    def __init__(self, nodes: Mapping[str, Node], accounts: Accounts) -> None:
        self._nodes = nodes
        self._accounts = accounts
        self._open: dict[tuple[str, str], asyncio.Task[Client]] = {}
        self._stack = AsyncExitStack()

    async def get(self, node: str, login: str) -> Client:
        """The client of an account. Its session renews itself, also after the node was away."""
        opening = self._open.get((node, login))
        if opening is None:
            opening = self._open[node, login] = asyncio.create_task(self._sign_in(node, login))
        return await asyncio.shield(opening)

    async def _sign_in(self, node: str, login: str) -> Client:
        client = Client(self._nodes[node].url)
        self._stack.push_async_callback(client.close)
        if login == ADMIN_LOGIN:
            password = self._nodes[node].secrets.read(ADMIN_SECRET)
            self._accounts.keep(node, ADMIN_LOGIN, password)
        else:
            password = self._accounts.password(node, login)
        await patiently(lambda: client.sign_in(login, password))
        return client

    async def admin(self, node: str) -> Client:
        return await self.get(node, ADMIN_LOGIN)

    async def staff(self, node: str, post: str) -> Client:
        """The client of a post of the node, such as "dispatcher"."""
        return await self.get(node, f"{post}.{self._nodes[node].spec.suffix}")

    async def handler(self, node: str, organisation: str) -> Client:
        """The client of the handler of an organisation, given by its resource name."""
        return await self.get(node, f"handler.{organisation.removeprefix('organisations/')}")

    async def aclose(self) -> None:
        await self._stack.aclose()
