"""Resource names: "zones/us-ca-sf/events/01j9" parsed and built by patterns such as "zones/{zone}/events/{event}"."""

import re
from functools import lru_cache

from libs.errors import Invalid

# One part of a name, as the comment of `Rules.resource` in options.proto promises.
PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
PATTERNS_CACHED_MAX = 512

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PART = re.compile(PART, re.ASCII)


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a name pattern, with one named group per placeholder.

    Raises ValueError for a pattern that is no name pattern; patterns are constants, so that is a programming error.
    """
    fixed = _PLACEHOLDER.split(pattern)
    if not all(re.fullmatch(r"[A-Za-z0-9/:_-]*", text) for text in fixed[::2]) or not pattern:
        raise ValueError(f"not a resource name pattern: {pattern!r}")
    return re.compile("".join(text if i % 2 == 0 else f"(?P<{text}>{PART})" for i, text in enumerate(fixed)), re.ASCII)


def parse(name: str, pattern: str, *, field: str = "name") -> dict[str, str]:
    """Return the parts of `name` by placeholder. Raises Invalid naming `field` when the name is not of the pattern."""
    match = compiled(pattern).fullmatch(name)
    if match is None:
        raise Invalid(field, f"must be a resource name like {pattern}")
    return match.groupdict()


def build(pattern: str, **parts: str) -> str:
    """Return the name with all placeholders of the pattern filled. Raises Invalid for a part that no name can hold."""
    for part, value in parts.items():
        if not _PART.fullmatch(value):
            raise Invalid(part, "must be 1 to 128 letters, digits, dots, underscores and hyphens")
    return pattern.format(**parts)
