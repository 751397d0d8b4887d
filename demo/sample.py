"""The fixed sample that the demo files by default: it touches every node and every kind of dirt."""

import hashlib
from collections.abc import Iterable, Sequence

from demo.records import CITY, POTRERO_HILL, Record
from demo.settings import SAMPLE_REQUESTS

# At least this many requests of SAMPLE_REQUESTS for each node below the city; of a smaller sample the same share.
QUOTAS = {POTRERO_HILL: 180, f"{CITY}-d10": 240, f"{CITY}-d6": 220}
RARE = frozenset({"CLOSED_BEFORE_CREATED", "DISTRICT_UNKNOWN"})


def choose(records: Sequence[Record], size: int = SAMPLE_REQUESTS) -> tuple[Record, ...]:
    """`size` of the records, in the order given: rare dirt, the quotas, and the rest as it comes. The same every time.

    Which records come first is decided by a hash of their keys, so that a sample of another size shares most of them.
    """
    ranked = sorted(records, key=lambda record: hashlib.sha256(record.key.encode()).digest())
    chosen = {record.key for record in ranked if RARE & set(record.dirt)}
    for zone, quota in QUOTAS.items():
        found = sum(1 for record in ranked if record.zone == zone and record.key in chosen)
        missing = quota * size // SAMPLE_REQUESTS - found
        chosen |= _keys((record for record in ranked if record.zone == zone and record.key not in chosen), missing)
    chosen |= _keys((record for record in ranked if record.key not in chosen), size - len(chosen))
    return tuple(record for record in records if record.key in chosen)


def _keys(records: Iterable[Record], count: int) -> set[str]:
    return {record.key for record, _ in zip(records, range(max(count, 0)), strict=False)}
