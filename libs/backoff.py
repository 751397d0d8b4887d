"""Waiting longer after each failure, up to a bound, with chance so that replicas do not return in step."""

import asyncio
import random


class Backoff:
    """Delays of `first_s`, doubled at each failure up to `max_s`, each shortened by up to a half by chance."""

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._failures = 0

    def next_s(self) -> float:
        """Count one more failure and return how long to wait, in seconds."""
        delay_s = delay(self._failures, self._first_s, self._max_s)
        self._failures += 1
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - nothing to guess

    async def wait(self) -> None:
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """Forget the failures: contact was made."""
        self._failures = 0


def delay(failures: int, first_s: float, max_s: float) -> float:
    """Return the wait after `failures` earlier failures in seconds, without chance."""
    # 2**64 is far beyond any bound in use; capping the exponent keeps the float finite after days of failures.
    return float(min(max_s, first_s * 2.0 ** min(failures, 64)))
