"""The partner's air: hourly readings become a data product; the city gets its rows under a contract."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.compose.nodes import ADMIN, ComposedNode
from e2e.federation import Caller

PURPOSE = "Comparison of air quality between partner cities"
ZONE = "zones/cn-110000"
STATIONS = ("tiantan", "dongsi")
FIRST_DAY = datetime(2016, 12, 1, tzinfo=UTC)
AHEAD_OF_UTC = timedelta(hours=8)
HOURS = 24

Means = dict[tuple[str, str], float]


@dataclass(slots=True)
class Air:
    """What the partner's stations measured so far, and the rows that must come of it."""

    partner: ComposedNode
    days: int = 0
    expected: Means = field(default_factory=dict)

    def measure(self, days: int) -> None:
        """Send the hourly readings of the next days, and the one after them: it says that the last day is over."""
        first, last = self.days * HOURS, (self.days + days) * HOURS
        with self.partner.gateway.signed_in(ADMIN) as admin:
            listed = admin.get(f"/v1/{ZONE}/devices", pageSize=100)["devices"]
            titles = {found["name"].rpartition("/")[2]: found["title"]["en"] for found in listed}
            for station in STATIONS:
                hours = range(first + bool(first), last + 1)  # midnight was sent with the days before
                readings = [_reading(station, hour) for hour in hours]
                answer = admin.post("/v1/readings:ingest", {"readings": readings})
                assert not answer.get("refused"), answer
                for day in range(self.days, self.days + days):
                    date = (FIRST_DAY + timedelta(days=day)).date().isoformat()
                    self.expected[titles[station], date] = sum(map(_value, range(HOURS))) / HOURS
        self.days += days


def _reading(station: str, hour: int) -> dict[str, Any]:
    time = FIRST_DAY - AHEAD_OF_UTC + timedelta(hours=hour)  # the day begins at midnight in Beijing
    device = f"{ZONE}/devices/{station}"
    return {"device": device, "indicator": "pm25", "time": time.isoformat(), "value": _value(hour)}


def _value(hour: int) -> float:
    return float(40 + hour % HOURS)


def rows(reader: Caller, product: str) -> list[Any]:
    """The rows of a product as this node holds them, its own or those received under the contract."""
    found: list[Any] = reader.post(f"/v1/products/{product}:read", {"purpose": PURPOSE, "pageSize": 100})["rows"]
    return found


def means(found: Sequence[Any]) -> Means:
    """Rows as the daily mean by station and day; none may be there twice."""
    by_day = {(row["station"], row["day"]): row["pm25_mean"] for row in found}
    assert len(by_day) == len(found), found
    return by_day
