"""Whether the node can do its work now: every part of it is asked."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from prometheus_client import Gauge

from gateway.adapters.cached import Cached
from gateway.adapters.sources import Probe
from libs.channel import RemoteFaultError
from libs.errors import DomainError

# Anybody may ask: the parts are asked at most this often.
READY_FRESH_S = 1.0
PROBE_TIMEOUT_S = 3.0

READY = Gauge("quintet_ready", "1 while the part of the node answers, else 0.", ["part"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """One part. detail says what is wrong, without addresses or anything secret; seconds is how long asking took."""

    ready: bool
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answers:
    """One verdict per part, in the order in which they were given; time is when they were asked, UTC."""

    time: datetime
    parts: Mapping[str, Verdict]

    @property
    def ready(self) -> bool:
        return all(verdict.ready for verdict in self.parts.values())


class Readiness:
    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = dict(probes)
        self._answers = Cached(self._ask_all, READY_FRESH_S)

    async def get(self) -> Answers:
        """Never raises: a part that cannot be asked is not ready."""
        return await self._answers.get()

    async def _ask_all(self) -> Answers:
        time = datetime.now(UTC)
        verdicts = await asyncio.gather(*(_ask(probe) for probe in self._probes.values()))
        found = dict(zip(self._probes, verdicts, strict=True))
        for name, verdict in found.items():
            READY.labels(name).set(verdict.ready)
        return Answers(time, found)


async def _ask(probe: Probe) -> Verdict:
    started = monotonic()
    detail = ""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe()
    except TimeoutError:
        detail = f"no answer within {PROBE_TIMEOUT_S:.0f} s"
    except DomainError as error:
        detail = error.message
    except (RemoteFaultError, OSError, RuntimeError) as error:
        # Their words may name files and addresses.
        detail = f"cannot be asked ({type(error).__name__})"
    return Verdict(not detail, detail, round(monotonic() - started, 4))
