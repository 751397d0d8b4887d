"""A running demo as its users see it: nodes with a base URL, accounts with a password, and nothing from inside.

with federation.node("sf").signed_in("resident.01") as resident:
    resident.post("/v1/requests", {"type": "eventTypes/graffiti", ...})
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx

from demo.nodes import SPECS, Node, kill_tree
from deploy.testing import BUSY, SIGN_INS_AGAIN_MAX

CALL_TIMEOUT_S = 30.0
WAIT_S = 60.0
POLL_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refused:
    """How a node refused a call: the HTTP status and the reason of the ErrorInfo."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls a node's REST API. The answers are JSON as it came."""

    http: httpx.Client

    def get(self, path: str, **query: Any) -> Any:
        return _accepted(self.http.get(path, params=query))

    def post(self, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Any:
        return _accepted(self.http.post(path, json=body or {}, headers=headers))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return _accepted(self.http.put(path, json=body))

    def refused(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Refused:
        """Make a call that must not be answered, and say how it was refused."""
        answer = self.http.request(method, path, json=body)
        assert answer.is_error, f"{method} {path} was answered: {answer.text}"
        info = next(detail for detail in answer.json()["details"] if detail["@type"].endswith("ErrorInfo"))
        return Refused(answer.status_code, info["reason"])

    def follow(self, request: str, done: Callable[[Any], Any], within_s: float = WAIT_S) -> Any:
        """The request as soon as it is as wanted."""

        def look() -> Any:
            found = self.get(f"/v1/{request}")["request"]
            return found if done(found) else None

        return until(f"{request} as wanted", look, within_s)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One node from outside."""

    id: str
    url: str
    passwords: Mapping[str, str]

    @contextmanager
    def anonymous(self) -> Iterator[Caller]:
        with httpx.Client(base_url=self.url, timeout=CALL_TIMEOUT_S, trust_env=False) as http:
            yield Caller(http)

    @contextmanager
    def signed_in(self, login: str, password: str = "") -> Iterator[Caller]:
        """Signed in, by default with the password that the demo gave the account."""
        with self.anonymous() as caller:
            credentials = {"login": login, "password": password or self.passwords[login]}
            answer = caller.http.post("/v1/sessions:signIn", json=credentials)
            for _ in range(SIGN_INS_AGAIN_MAX):
                if answer.status_code not in BUSY:
                    break
                answer = caller.http.post("/v1/sessions:signIn", json=credentials)
            signed_in = _accepted(answer)
            caller.http.headers["authorization"] = f"Bearer {signed_in['tokens']['accessToken']}"
            yield caller


@dataclass(slots=True)
class Federation:
    """The demo's nodes, by id."""

    build: Path
    _restarted: dict[str, Node] = field(default_factory=dict)

    def node(self, name: str) -> Gateway:
        found = json.loads((self.build / "accounts.json").read_text())["nodes"][name]
        return Gateway(name, found["url"], found["accounts"])

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """SIGKILL for all processes of a node; at the end of the block it is started again and ready."""
        folder = self.build / "nodes" / name
        if before := self._restarted.get(name):
            before.kill()
        else:
            kill_tree(int((folder / "pid").read_text()))
        node = Node(next(spec for spec in SPECS if spec.id == name), folder)
        try:
            yield
        finally:
            self._restarted[name] = node
            asyncio.run(node.start())

    def stop_restarted(self) -> None:
        """Stops the nodes that the demo itself no longer watches."""
        for node in self._restarted.values():
            asyncio.run(node.stop())
        self._restarted.clear()


def until(what: str, look: Callable[[], T | None], within_s: float = WAIT_S) -> T:
    """What `look` returns as soon as it returns something true; AssertionError, naming it, when it does not in time."""
    deadline = monotonic() + within_s
    while not (found := look()):
        assert monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        sleep(POLL_S)
    return found


def _accepted(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()
