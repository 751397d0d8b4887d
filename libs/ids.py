"""Identifiers that sort by the time of their making, so that indexes grow at one end."""

import secrets
import time
from threading import Lock

# RFC 9562, section 5.7: 48 bits of milliseconds, version, 12 bits, variant, 62 bits of chance. The 12 bits hold the
# fraction of the millisecond (method 3 of section 6.2).
_FRACTION_STEPS = 4096
_NS_PER_MS = 1_000_000
_VERSION = 0x7
_VARIANT = 0b10

# Crockford's alphabet: no i, l, o, u, hard to misread, and in the order of ASCII.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SHORT_CHARS = 12
_SHORT_COUNTER_BITS = 18
_SHORT_EPOCH_MS = 1_577_836_800_000  # 2020-01-01; 42 bits of milliseconds last until 2159


class _Ticks:
    """Numbers from the clock that only ever grow, also when the clock is set back or read twice within one step."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = Lock()

    def next(self, tick: int) -> int:
        with self._lock:
            self._last = max(tick, self._last + 1)
            return self._last


_long_ticks = _Ticks()
_short_ticks = _Ticks()


def new_id() -> str:
    """Return a UUID version 7, in lower case with dashes: unique everywhere, in order of making within a process."""
    now_ns = time.time_ns()
    tick = (now_ns // _NS_PER_MS) * _FRACTION_STEPS + (now_ns % _NS_PER_MS) * _FRACTION_STEPS // _NS_PER_MS
    tick = _long_ticks.next(tick)
    ms, fraction = divmod(tick, _FRACTION_STEPS)
    value = (ms << 80) | (_VERSION << 76) | (fraction << 64) | (_VARIANT << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_id() -> str:
    """Return 12 characters of base 32 in the order of making, short enough to read out.

    Unique within a process. Two processes that make ids in the same millisecond collide once in 262,144 times, so the
    column needs a unique constraint; what must be unique without one takes `new_id`.
    """
    ms = time.time_ns() // _NS_PER_MS - _SHORT_EPOCH_MS
    value = _short_ticks.next((ms << _SHORT_COUNTER_BITS) | secrets.randbits(_SHORT_COUNTER_BITS))
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(5 * (_SHORT_CHARS - 1), -1, -5))
