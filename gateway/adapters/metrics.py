"""The metrics of all processes of a node on one page: this one's, and those that the services write to runtime.json."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import httpx
import structlog
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.adapters.cached import Cached

# What every process says of itself (memory, garbage collection) means nothing once mixed: each has its own port for it.
OURS = "quintet_"
SCRAPE_TIMEOUT_S = 1.0
SCRAPE_FRESH_S = 2.0

log = structlog.get_logger(__name__)


class NodeMetrics:
    """others gives host:port of the metrics of services that run in processes of their own, by part."""

    def __init__(self, others: Callable[[], Mapping[str, str]]) -> None:
        self._others = others
        self._scraped = Cached(self._scrape_all, SCRAPE_FRESH_S)

    async def collect(self) -> Iterable[Metric]:
        """Each metric once. A process that cannot be asked is left out."""
        found: dict[str, Metric] = {metric.name: _copy(metric) for metric in REGISTRY.collect()}
        for metric in await self._scraped.get():
            known = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            known.samples += metric.samples
        return found.values()

    async def _scrape_all(self) -> list[Metric]:
        others = self._others()
        if not others:
            return []
        async with httpx.AsyncClient(timeout=SCRAPE_TIMEOUT_S, trust_env=False) as client:
            pages = await asyncio.gather(*(_scrape(client, part, address) for part, address in others.items()))
        return [metric for page in pages for metric in page]


async def _scrape(client: httpx.AsyncClient, part: str, address: str) -> list[Metric]:
    try:
        answer = await client.get(f"http://{address}/metrics")
        text = answer.raise_for_status().text
        return [metric for metric in text_string_to_metric_families(text) if metric.name.startswith(OURS)]
    except (httpx.HTTPError, ValueError) as error:
        log.debug("metrics.missing", part=part, error=repr(error))
        return []


def _copy(metric: Metric) -> Metric:
    copied = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copied.samples = list(metric.samples)
    return copied
