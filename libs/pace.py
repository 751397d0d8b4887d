"""Rounds of work in a steady flow: a little apart, so that more is done in each; what comes alone is done at once.

A round costs a transaction and a few messages whether it is about one fact or a hundred. A part that took up each fact
as it came would spend a busy machine's time on rounds.
"""

from __future__ import annotations

import asyncio

REST_MIN_S = 0.01
# What a fact waits at most, once at each part that takes it up, while others come before and after it.
REST_MAX_S = 0.04


class Pace:
    """How long one worker rests between its rounds: longer, up to REST_MAX_S, as long as each finds several to do."""

    def __init__(self) -> None:
        self._rest_s = REST_MIN_S

    async def rest(self, done: int) -> None:
        """Come here after a round in which so many were done, and which left none."""
        self._rest_s = min(2 * self._rest_s, REST_MAX_S) if done > 1 else REST_MIN_S
        await asyncio.sleep(self._rest_s)
