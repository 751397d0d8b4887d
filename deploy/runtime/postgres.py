"""A PostgreSQL server from the wheel, for one node: initialised once, durable, reached through passwords only."""

import shutil
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from deploy.runtime.account import give
from deploy.runtime.files import write_private
from deploy.runtime.leftovers import FolderLock, end_leftovers
from deploy.runtime.ports import LOOPBACK, free_port
from deploy.runtime.postgres_home import Home, find_home
from deploy.runtime.process import Program, ServerFailed, ServerStatus, Supervised, run_to_end
from libs.config import PARTS
from libs.state import Secrets, login_dsn

ADMIN = "admin"
DATABASE = "quintet"
PORT_DEFAULT = 5432
PORT_TRIES = 5
INIT_TIMEOUT_S = 120.0
# Connections that one part's role may hold over all its replicas; the rest is for the administrator and for tools.
ROLE_CONNECTIONS_MAX = 20
ADMIN_CONNECTIONS_MAX = 20
READY_LINE = 7

# Five nodes share a laptop: memory is kept small, processes few. Durability is PostgreSQL's own default, spelt out.
SETTINGS = {
    "max_connections": len(PARTS) * ROLE_CONNECTIONS_MAX + ADMIN_CONNECTIONS_MAX,
    "shared_buffers": "64MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "effective_cache_size": "512MB",
    "huge_pages": "off",
    "io_method": "sync",
    "autovacuum_max_workers": 2,
    "max_worker_processes": 4,
    "max_parallel_workers_per_gather": 0,
    "max_logical_replication_workers": 0,
    "jit": "off",
    "wal_level": "replica",
    "max_wal_size": "256MB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "5min",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # Neither values nor statements: both may hold what people entrusted to the node.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": 0,
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": 60,
    "client_connection_check_interval": "10s",
}
# Passwords for everybody, through the socket and from this machine only.
HBA = f"""local all all scram-sha-256
host all all {LOOPBACK}/32 scram-sha-256
"""
# The same, and from the networks that this machine is on itself: for a server in a container of its own.
HBA_NETWORK = HBA + "host all all samenet scram-sha-256\n"


class PostgresServer:
    """One server on one state folder. port: None for the Unix socket only, 0 for a free port on `host` as well.

    durable=False is for tests, whose data nobody misses after a power cut.
    """

    def __init__(
        self, state: Path, secrets: Secrets, *, port: int | None = None, host: str = LOOPBACK, durable: bool = True
    ) -> None:
        self._host = host
        self._state = state
        self._secrets = secrets
        self._wanted_port = port
        self._port = PORT_DEFAULT
        self._durable = durable
        self._home: Home | None = None
        self._lock: FolderLock | None = None
        self._server = Supervised("postgres", self._plan, self._ready)

    def dsn(self, database: str = DATABASE) -> str:
        """The DSN of a database, without user and password: `libs.state.login_dsn` puts those in."""
        return f"postgresql:///{database}?host={quote(str(self._placed().socket), safe='/')}&port={self._port}"

    @property
    def port(self) -> int | None:
        """The TCP port, or None when only the socket is open."""
        return None if self._wanted_port is None else self._port

    def admin_dsn(self, database: str = "postgres") -> str:
        """The superuser's DSN with its password: for preparing databases, never for services."""
        return login_dsn(self.dsn(database), ADMIN, self._secrets.get("postgres-admin"))

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self._placed().data

    def status(self) -> ServerStatus:
        return self._server.status()

    async def start(self, preferred_port: int = 0) -> None:
        """Initialises the data on the first start. AlreadyRunning, ServerFailed or RuntimeError when it cannot run."""
        base = self._state.resolve() / "postgres"
        self._lock = await FolderLock.take(base)
        try:
            self._home = find_home(self._state)
            await self._end_leftovers()
            await self._initialise()
            await self._start_on_port(preferred_port)
        except BaseException:
            self._lock.release()
            raise

    async def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back, everything committed is on disk."""
        await self._server.stop()
        if self._lock is not None:
            self._lock.release()

    async def _start_on_port(self, preferred: int) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            if self._wanted_port is not None:
                self._port = self._wanted_port or free_port(preferred)
            try:
                await self._server.start()
            except ServerFailed as failure:
                if self._wanted_port != 0 or tries_left == 0 or "Address already in use" not in failure.tail:
                    raise
            else:
                return
            preferred = 0

    async def _initialise(self) -> None:
        home = self._placed()
        if (home.data / "PG_VERSION").exists():
            return
        # Made beside and moved at the end: a half-made folder must not pass for data.
        new = home.data.with_name("data.new")
        _fresh_folder(new, home)
        password_file = home.data.with_name("password")
        write_private(password_file, self._secrets.get("postgres-admin") + "\n", home.account)
        command = (
            *(str(home.programs / "initdb"), "-D", str(new), "-U", ADMIN, f"--pwfile={password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        )
        try:
            program = Program("initdb", command, new, self._log_path(), home.account)
            await run_to_end(program, INIT_TIMEOUT_S)
        finally:
            password_file.unlink()
        new.rename(home.data)
        home.initialised.touch()

    async def _plan(self) -> Program:
        home = self._placed()
        await self._end_leftovers()
        write_private(home.data / "postgresql.conf", self._settings(home), home.account)
        write_private(home.data / "pg_hba.conf", HBA if self._host == LOOPBACK else HBA_NETWORK, home.account)
        return Program(
            name="postgres",
            command=(str(home.programs / "postgres"), "-D", str(home.data)),
            folder=home.data,
            log=self._log_path(),
            account=home.account,
            # Immediate shutdown: the server ends its own processes at once, and recovers at the next start.
            death_signal=signal.SIGQUIT,
            stop_signal=signal.SIGINT,
        )

    async def _end_leftovers(self) -> None:
        """After this no server works on the data, so its lock files are stale, whomever their numbers name by now."""
        home = self._placed()
        await end_leftovers(home.data, "postgres", signal.SIGQUIT)
        await end_leftovers(home.data.with_name("data.new"), "initdb", signal.SIGKILL)
        await end_leftovers(home.data.with_name("data.new"), "postgres", signal.SIGKILL)
        for stale in (home.data / "postmaster.pid", *home.socket.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)

    async def _ready(self, pid: int) -> bool:
        """The server says so itself in its lock file, whose first line is its process."""
        with suppress(FileNotFoundError):
            lines = (self._placed().data / "postmaster.pid").read_text().splitlines()
            return len(lines) > READY_LINE and lines[0] == str(pid) and lines[READY_LINE].strip() == "ready"
        return False

    def _settings(self, home: Home) -> str:
        settings = SETTINGS | {
            "fsync": "on" if self._durable else "off",
            "listen_addresses": "" if self._wanted_port is None else self._host,
            "port": self._port,
            "unix_socket_directories": str(home.socket),
        }
        return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())

    def _log_path(self) -> Path:
        return self._state.resolve() / "log" / "postgres.log"

    def _placed(self) -> Home:
        if self._home is None:
            raise RuntimeError("PostgreSQL has not been started")
        return self._home


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _fresh_folder(folder: Path, home: Home) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    give(home.account, folder)
