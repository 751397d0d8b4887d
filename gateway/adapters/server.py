"""The adapters' own HTTP server: uvicorn on the loopback interface, inside the node's process."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
BACKLOG = 128
REQUESTS_MAX = 256
KEEP_ALIVE_S = 305  # longer than the edge keeps a connection, so that it never sends on one that we are closing
STOP_GRACE_S = 3
START_POLL_S = 0.01


class AdapterServer:
    """Serves one application. Signals are the node's to handle."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=REQUESTS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_GRACE_S,
            ws="none",
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self, port: int = 0, preferred: int = 0) -> str:
        """Listens on the port, or with 0 on the preferred one if it is free, else on any. Returns host:port.

        OSError when the port is taken.
        """
        listener = _listener(port, preferred)
        self._serving = asyncio.create_task(self._server.serve([listener]), name="adapter")
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(START_POLL_S)
        if self._serving.done():
            listener.close()
            await self._serving
            raise OSError("the adapter server ended at its start")
        return f"{HOST}:{listener.getsockname()[1]}"

    async def stop(self) -> None:
        """Lets requests end within STOP_GRACE_S. Safe to call at any time, and twice."""
        serving, self._serving = self._serving, None
        if serving is not None:
            self._server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listener(port: int, preferred: int) -> socket.socket:
    for candidate in (port,) if port or not preferred else (preferred, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.bind((HOST, candidate))
            listener.listen(BACKLOG)
            return listener
        listener.close()
    raise OSError(f"port {port} of {HOST} is taken")
