"""Parts of a file that somebody asks for (RFC 9110, section 14): one part; who asks for several gets the whole."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to and without `end`."""

    start: int
    end: int


class UnsatisfiableError(Exception):
    """The file has none of the bytes that were asked for."""


def asked_span(header: str, size: int) -> Span | None:
    """Return what a Range header asks of a file of `size` bytes, None for the whole of it.

    A header that is not understood means the whole. Raises UnsatisfiableError.
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:  # the last so many
        if int(last) == 0:
            raise UnsatisfiableError
        return Span(max(0, size - int(last)), size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return Span(start, min(size, int(last) + 1) if last else size)
