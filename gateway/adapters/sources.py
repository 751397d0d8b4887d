"""What the adapters are told by the node that runs them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from prometheus_client import Metric

from libs.tokens import ServiceSigner

# Returns when the thing asked works; raises what stands in the way otherwise.
Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Who the node is. zone is a zone code, timezone an IANA name, started is UTC."""

    id: str
    name: str
    zone: str
    timezone: str
    version: str
    started: datetime


class Watched(Protocol):
    """A server or a service as its supervisor sees it; failure is the last one, since is UTC."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def restarts(self) -> int: ...
    @property
    def failure(self) -> str: ...
    @property
    def since(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """address gives host:port of a part, or "" while it is not known; services lists those that run in this process.

    probes are asked, with the health of every service, whether the node is ready. metrics collects those of all
    processes that can be reached. status ("public", "local" or "token") and status_token say who may see the status
    page and the metrics (see security.may_see_status).
    """

    node: NodeFacts
    signer: ServiceSigner
    address: Callable[[str], str]
    servers: Callable[[], Sequence[Watched]]
    services: Callable[[], Sequence[Watched]]
    probes: Mapping[str, Probe]
    metrics: Callable[[], Awaitable[Iterable[Metric]]]
    status: str
    status_token: str
