"""How the node is doing, gathered for the status page and `/status.json`. What cannot be had is said to be missing."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import Metric

from gateway.adapters.cached import Cached
from gateway.adapters.client import NodeClient
from gateway.adapters.readiness import Readiness, Verdict
from gateway.adapters.sources import NodeFacts, Sources, Watched
from libs.channel import RemoteFaultError
from libs.config import PARTS
from libs.errors import DomainError
from quintet.federation.v1 import federation_pb2
from quintet.management.v1 import management_pb2

REPORT_FRESH_S = 2.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A service or a server. state is its supervisor's word, "" when it runs in a process of its own."""

    name: str
    ready: bool | None
    state: str
    detail: str
    restarts: int
    failure: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class PeerLine:
    """backlog is in envelopes, of all lanes and by lane; backlog_bytes in bytes, of all lanes."""

    node: str
    title: str
    kind: str
    state: str
    zone: str
    connected: bool
    backlog: int
    backlog_bytes: int
    backlog_by_lane: Mapping[str, int]
    oldest_unacknowledged: datetime | None
    last_contact: datetime | None
    certificate_expires_at: datetime | None
    last_error: str
    alarms: Sequence[str]


@dataclass(frozen=True, slots=True)
class ZoneLine:
    """The events of one zone alone; by_status is what is counted by status."""

    zone: str
    node: str
    requests: int
    events: int
    merged: int
    by_status: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counters:
    zones: Sequence[ZoneLine]
    total: ZoneLine


@dataclass(frozen=True, slots=True)
class Contracts:
    """more says that there are further ones than were counted."""

    active: int
    more: bool


@dataclass(frozen=True, slots=True)
class QueueLine:
    """What waits in one service, in facts and seconds. dead counts since the start of the service's process."""

    part: str
    outbox: int
    outbox_age_s: float
    behind: int
    waiting: int
    waiting_age_s: float
    dead: int


@dataclass(frozen=True, slots=True)
class Report:
    """time and all other times are UTC. None: could not be asked for now."""

    node: NodeFacts
    time: datetime
    ready: bool
    services: Sequence[Part]
    servers: Sequence[Part]
    peers: Sequence[PeerLine] | None
    counters: Counters | None
    contracts: Contracts | None
    queues: Sequence[QueueLine] | None


class Reporter:
    """Gathers at most once every REPORT_FRESH_S."""

    def __init__(self, sources: Sources, client: NodeClient, readiness: Readiness) -> None:
        self._sources = sources
        self._client = client
        self._readiness = readiness
        self._reports = Cached(self._gather, REPORT_FRESH_S)

    async def get(self) -> Report:
        return await self._reports.get()

    async def _gather(self) -> Report:
        answers, peers, counters, contracts, metrics = await asyncio.gather(
            self._readiness.get(),
            _or_none(self._client.peers()),
            _or_none(self._client.counters()),
            _or_none(self._client.active_contracts()),
            _or_none(self._sources.metrics()),
        )
        return Report(
            node=self._sources.node,
            time=datetime.now(UTC),
            ready=answers.ready,
            services=_parts(PARTS, answers.parts, self._sources.services()),
            servers=[*_servers(answers.parts, self._sources.servers()), *evidence_stores(metrics or ())],
            peers=None if peers is None else [_peer(peer) for peer in peers],
            counters=None if counters is None else _counters(counters),
            contracts=None if contracts is None else Contracts(*contracts),
            queues=None if metrics is None else queues(metrics),
        )


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except (DomainError, RemoteFaultError, OSError):
        return None  # the page says so; why is in the readiness and in the logs of the services


def _parts(names: Iterable[str], verdicts: Mapping[str, Verdict], watched: Sequence[Watched]) -> list[Part]:
    by_name = {item.name: item for item in watched}
    return [_part(name, verdicts.get(name), by_name.get(name)) for name in names]


def _servers(verdicts: Mapping[str, Verdict], watched: Sequence[Watched]) -> list[Part]:
    """Those that are supervised here, and those elsewhere that the readiness asks about."""
    names = [item.name for item in watched]
    return _parts([*names, *(name for name in verdicts if name not in {*PARTS, *names})], verdicts, watched)


def _part(name: str, verdict: Verdict | None, watched: Watched | None) -> Part:
    return Part(
        name=name,
        ready=verdict.ready if verdict else None,
        state=str(watched.state) if watched else "",
        detail=verdict.detail if verdict else "",
        restarts=watched.restarts if watched else 0,
        failure=watched.failure if watched else "",
        since=watched.since if watched else None,
    )


def _peer(peer: federation_pb2.Peer) -> PeerLine:
    return PeerLine(
        node=peer.node,
        title=peer.title,
        kind=_word(federation_pb2.PeerKind.Name(peer.kind), "PEER_KIND_"),
        state=_word(federation_pb2.PeerState.Name(peer.state), "PEER_STATE_"),
        zone=peer.zone,
        connected=peer.connected,
        backlog=peer.backlog,
        backlog_bytes=peer.backlog_bytes,
        backlog_by_lane={lane.lane: lane.backlog for lane in peer.lanes},
        oldest_unacknowledged=_time(peer, "oldest_unacknowledged"),
        last_contact=_time(peer, "last_contact"),
        certificate_expires_at=_time(peer, "certificate_expires_at"),
        last_error=peer.last_error,
        alarms=list(peer.alarms),
    )


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _time(peer: federation_pb2.Peer, field: str) -> datetime | None:
    if field not in {found.name for found, _ in peer.ListFields()}:
        return None
    moment: datetime = getattr(peer, field).ToDatetime(UTC)
    return moment


def _counters(found: management_pb2.GetCountersResponse) -> Counters:
    return Counters([_zone(zone) for zone in found.zones], _zone(found.total))


def _zone(found: management_pb2.ZoneCounters) -> ZoneLine:
    by_status = dict(found.by_status)
    return ZoneLine(found.zone, found.node, found.requests, found.events, found.merged, by_status)


def evidence_stores(metrics: Iterable[Metric]) -> list[Part]:
    """Where management keeps evidence, when it does: as bad as the worst that one of its processes finds.

    The node does its other work without it, so that it has no say in whether the node is ready.
    """
    kinds: dict[str, str] = {}
    for metric in metrics:
        for sample in metric.samples:
            if sample.name == "quintet_evidence_store" and sample.value:
                kind, state = sample.labels["kind"], sample.labels["state"]
                if kinds.get(kind, "ok") == "ok":
                    kinds[kind] = state
    return [
        Part(f"evidence_{kind}", state == "ok", "", "" if state == "ok" else f"store_{state}", 0, "", None)
        for kind, state in sorted(kinds.items())
    ]


_QUEUES = {
    "quintet_outbox_backlog": "outbox",
    "quintet_outbox_backlog_age_seconds": "outbox_age_s",
    "quintet_inbox_behind": "behind",
    "quintet_inbox_waiting": "waiting",
    "quintet_inbox_waiting_age_seconds": "waiting_age_s",
    "quintet_inbox_dead_total": "dead",
}


def queues(metrics: Iterable[Metric]) -> list[QueueLine]:
    """What the services measure of their outboxes and inboxes; only those that have measured something."""
    found: dict[str, dict[str, float]] = {}
    for metric in metrics:
        for sample in metric.samples:
            column = _QUEUES.get(sample.name)
            if column is not None:
                found.setdefault(sample.labels["part"], {})[column] = sample.value
    return [_queue(part, found[part]) for part in PARTS if part in found]


def _queue(part: str, values: Mapping[str, float]) -> QueueLine:
    def count(column: str) -> int:
        return int(values.get(column, 0))

    return QueueLine(
        part=part,
        outbox=count("outbox"),
        outbox_age_s=values.get("outbox_age_s", 0.0),
        behind=count("behind"),
        waiting=count("waiting"),
        waiting_age_s=values.get("waiting_age_s", 0.0),
        dead=count("dead"),
    )
