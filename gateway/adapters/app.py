"""The routes of the adapters."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.adapters import feeds
from gateway.adapters.answers import refusal
from gateway.adapters.client import NodeClient
from gateway.adapters.evidence import EvidenceFiles
from gateway.adapters.jwks import JWKS_MAX_AGE_S, Jwks
from gateway.adapters.page import StatusPage
from gateway.adapters.readiness import Readiness
from gateway.adapters.report import Reporter
from gateway.adapters.security import CHALLENGE, SecurityHeaders, may_see_status
from gateway.adapters.sources import Probe, Sources
from gateway.adapters.texts import Texts, choose_language
from libs.channel import RemoteFaultError
from libs.config import PARTS
from libs.errors import DomainError, Invalid, NotFound

STATIC = Path(__file__).with_name("static")
OPENAPI = Path(__file__).parents[1] / "openapi.json"
OPENAPI_MAX_AGE_S = 300
GZIP_BYTES_MIN = 1_024
# Photos and documents do not get smaller, and parts of them must be parts of the same bytes.
COMPRESSION = Middleware(
    GZipMiddleware,
    minimum_size=GZIP_BYTES_MIN,
    exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/heic", "application/pdf"),
)
UNAVAILABLE = 14
INTERNAL = 13
INVALID_ARGUMENT = 3
# HTTP status: google.rpc code and reason.
_REFUSALS = {404: (5, "NO_SUCH_METHOD"), 405: (12, "METHOD_NOT_ALLOWED")}


def build_app(sources: Sources) -> Starlette:
    """The application; `await app.state.close()` closes its channels."""
    return _Adapters(sources).app


class _Adapters:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._client = client = NodeClient(sources)
        self._jwks = Jwks(client.jwks)
        self._readiness = Readiness({**{part: _health(client, part) for part in PARTS}, **sources.probes})
        self._reporter = Reporter(sources, client, self._readiness)
        self._texts = Texts()
        self._page = StatusPage(self._texts)
        self.app = Starlette(
            routes=[
                Route("/", self._status),
                Route("/status.json", self._status_json),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/.well-known/jwks.json", self._keys),
                Route("/openapi.json", self._openapi),
                Route("/feeds/warnings.atom", self._warnings),
                Route("/feeds/cap/{zone}/{warning}/{number:int}.xml", self._cap),
                *EvidenceFiles(client.as_caller).routes,
                Route("/docs", self._docs),
                Mount("/docs/assets", StaticFiles(directory=_swagger_ui())),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[Middleware(SecurityHeaders), COMPRESSION],
            exception_handlers={HTTPException: _refused, Exception: _refused},
        )
        self.app.state.close = client.close

    async def _status(self, request: Request) -> Response:
        language = choose_language(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))
        headers = {"content-language": language, "vary": "accept-language"}
        if not self._open_to(request):
            return _challenge(self._texts.say(language, "status.closed"))
        return HTMLResponse(self._page.render(await self._reporter.get(), language), headers=headers)

    async def _status_json(self, request: Request) -> Response:
        if not self._open_to(request):
            return _challenge("the status is not public\n")
        text = json.dumps(asdict(await self._reporter.get()), default=_plain, ensure_ascii=False)
        return Response(text, media_type="application/json")

    def _open_to(self, request: Request) -> bool:
        return may_see_status(request.headers, self._sources.status, self._sources.status_token)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def _readyz(self, _: Request) -> Response:
        answers = await self._readiness.get()
        parts = {name: asdict(verdict) for name, verdict in answers.parts.items()}
        time, ready = _plain(answers.time), answers.ready
        body = {"node": self._sources.node.id, "ready": ready, "time": time, "parts": parts}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        if not self._open_to(request):
            return _challenge("the metrics are not public\n")
        metrics = await self._sources.metrics()
        return Response(generate_latest(_Collected(metrics)), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _keys(self, _: Request) -> Response:
        try:
            keys = await self._jwks.get()
        except (DomainError, RemoteFaultError):
            return refusal(503, UNAVAILABLE, "DEPENDENCY_AWAY", "identity does not answer")
        caching = {"cache-control": f"public, max-age={JWKS_MAX_AGE_S}", "access-control-allow-origin": "*"}
        return Response(keys, media_type="application/json", headers=caching)

    async def _warnings(self, request: Request) -> Response:
        zone = request.query_params.get("zone", "") or self._sources.node.zone
        if not feeds.is_zone(zone):
            return refusal(400, INVALID_ARGUMENT, "FIELD_INVALID", "zone: must be the code of a zone")
        language = choose_language(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))
        try:
            messages = await self._client.cap_messages(zone)
        except (DomainError, RemoteFaultError):
            return refusal(503, UNAVAILABLE, "DEPENDENCY_AWAY", "management does not answer")
        caching = {"cache-control": f"public, max-age={feeds.FEED_MAX_AGE_S}", "vary": "accept-language"}
        text = feeds.atom(self._sources.node, zone, messages, self._texts, language)
        return Response(text, media_type=feeds.ATOM, headers=caching)

    async def _cap(self, request: Request) -> Response:
        parts = request.path_params
        name = feeds.message_name(parts["zone"], parts["warning"], str(parts["number"]))
        try:
            message = await self._client.cap_message(name)
        except (NotFound, Invalid):
            return refusal(404, 5, "CAP_MESSAGE_NOT_FOUND", "there is no such message")
        except (DomainError, RemoteFaultError):
            return refusal(503, UNAVAILABLE, "DEPENDENCY_AWAY", "management does not answer")
        caching = {"cache-control": f"public, max-age={feeds.CAP_MAX_AGE_S}, immutable"}
        return Response(message.xml, media_type=feeds.CAP, headers=caching)

    async def _openapi(self, _: Request) -> Response:
        caching = {"cache-control": f"public, max-age={OPENAPI_MAX_AGE_S}"}
        return FileResponse(OPENAPI, media_type="application/json", headers=caching)

    async def _docs(self, _: Request) -> Response:
        return FileResponse(STATIC / "docs.html", media_type="text/html")


class _Collected(Collector):
    """Metrics that were collected already, in the form that the library writes out."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _health(client: NodeClient, part: str) -> Probe:
    return lambda: client.check_health(part)


def _swagger_ui() -> Path:
    """The static files that the wheel brings. Its Python is never imported: it would ask for another framework."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel flask-swagger-ui is not installed")
    return Path(spec.origin).parent / "dist"


def _challenge(text: str) -> Response:
    return Response(text, 401, {"www-authenticate": CHALLENGE}, "text/plain; charset=utf-8")


async def _refused(_: Request, error: Exception) -> Response:
    """No such page, or not with this method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, reason = _REFUSALS.get(status, (INTERNAL, "ADAPTER_FAILED"))
    return refusal(status, code, reason, HTTPStatus(status).phrase)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} does not stand in a report")
