"""The recorded service requests that the demo files: the city's 311 cases as they stand, dirt and all."""

import csv
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from demo.generated import generated_rows

SF311_FILE = "sf311.csv.gz"
CITY = "us-ca-sf"
POTRERO_HILL = "us-ca-sf-d10-potrero-hill"
DISTRICTS = frozenset(str(number) for number in range(1, 12))
NO_ADDRESS = "Not associated with a specific address"
EXTERNAL_PREFIX = "sf311:"

# Who a "General Request" is for, as the type of the enquiry; anybody else's are enquiry-other.
_ENQUIRIES = {
    "MTA": "transport",
    "DPT": "transport",
    "TAXI COMMISSION": "transport",
    "311CUSTOMERSERVICECENTER": "customer-service",
    "CITY ATTORNEY": "claims",
    "COUNTY CLERK": "county-clerk",
    "TT COLLECTOR": "tax",
    "ASSESSOR RECORDER": "assessor",
    "PUBLIC WORKS": "public-works",
    "RPD": "parks",
    "PUC": "utilities",
    "DPH": "health",
    "HUMAN SERVICES AGENCY": "health",
    "AGING ADULT SERVICES": "health",
    "ANIMAL CARE CONTROL": "health",
    "PLANNING": "planning",
    "BUILDING INSPECTION": "planning",
    "RENT BOARD": "planning",
    "SFPD": "public-safety",
    "FIRE DEPARTMENT": "public-safety",
    "DISTRICT ATTORNEY": "public-safety",
    "SHERIFF": "public-safety",
    "OCC": "public-safety",
    "HUMAN RESOURCES": "personnel",
}
# (category, complaint type) -> event type; the complaint type "" stands for all others of the category.
_TYPES = {
    ("Sewer Issues", "Flooding"): "sewer-flooding",
    ("Sewer Issues", "Odor"): "sewer-odour",
    ("Sewer Issues", ""): "sewer-other",
    ("311 External Request", "Graffiti"): "graffiti",
    ("311 External Request", "Garbage"): "litter",
    ("311 External Request", "Trees"): "tree",
    ("311 External Request", ""): "street-furniture",
    ("SFHA Requests", "Glazier"): "housing-glazing",
    ("SFHA Requests", ""): "housing-repair",
    ("MUNI Feedback", ""): "transit-feedback",
    ("Noise Report", "traffic"): "noise-traffic",
    ("Noise Report", ""): "noise-other",
    ("Street Defects", ""): "street-defect",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded request. Texts are as recorded; closed is None while it is open."""

    key: str
    created: datetime
    closed: datetime | None
    category: str
    kind: str
    descriptor: str
    notes: str
    address: str
    district: str
    neighbourhood: str
    source: str
    latitude: float
    longitude: float

    @property
    def external_id(self) -> str:
        return f"{EXTERNAL_PREFIX}{self.key}"

    @property
    def event_type(self) -> str:
        return type_of(self.category, self.kind)

    @property
    def zone(self) -> str:
        """The zone that the record names: the neighbourhood with a node of its own, the district, else the city."""
        if self.district == "10" and self.neighbourhood == "Potrero Hill":
            return POTRERO_HILL
        return f"{CITY}-d{self.district}" if self.district in DISTRICTS else CITY

    @property
    def dirt(self) -> tuple[str, ...]:
        """What is wrong with the record itself."""
        found = []
        if self.closed is not None and self.closed < self.created:
            found.append("CLOSED_BEFORE_CREATED")
        if (self.latitude, self.longitude) == (0.0, 0.0):
            found.append("COORDINATES_ZERO")
        if self.district and self.district not in DISTRICTS:
            found.append("DISTRICT_UNKNOWN")
        return tuple(found)


def type_of(category: str, kind: str) -> str:
    """The id of the event type of a category and complaint type; every pair has one."""
    if category.startswith("General Request"):
        return f"enquiry-{_ENQUIRIES.get(category.removeprefix('General Request - ').strip(), 'other')}"
    return _TYPES.get((category, kind.strip())) or _TYPES.get((category, "")) or "other"


@dataclass(frozen=True, slots=True)
class Records:
    """All recorded requests in the order in which they were created; real is False for the generated sample."""

    rows: tuple[Record, ...]
    real: bool


def read_records(data: Path) -> Records:
    """The real records, or a generated sample of the same shape where the folder does not hold them."""
    path = data / SF311_FILE
    if not path.exists():
        return Records(_ordered(map(_record, generated_rows())), real=False)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as table:
        return Records(_ordered(map(_record, csv.DictReader(table))), real=True)


def _ordered(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: (record.created, record.key)))


def _record(row: Mapping[str, str]) -> Record:
    return Record(
        key=row["unique_key"],
        created=_time(row["created_date"]),
        closed=_time(row["closed_date"]) if row["closed_date"] else None,
        category=row["category"],
        kind=row["complaint_type"],
        descriptor=row["descriptor"],
        notes=row["status_notes"].strip(),
        address=row["incident_address"],
        district=row["supervisor_district"],
        neighbourhood=row["neighborhood"],
        source=row["source"],
        latitude=float(row["latitude"] or 0),
        longitude=float(row["longitude"] or 0),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
