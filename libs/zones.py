"""The zones of a node as a tree, and the zone that a place lies in. Pure: a change of a zone makes a new tree."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import shapely
from shapely.geometry.base import BaseGeometry

from libs.errors import Invalid

BOUNDARY_VERTICES_MAX = 50_000
# A name shorter than this is not looked for in running text: "10" would match any house number.
ADDRESS_NAME_CHARS_MIN = 4
ADDRESS_NAME_CJK_CHARS_MIN = 2

# How far each source is believed, 0 to 1. A code says the zone itself; a name may be worn by two places; a text may
# mention a place without lying in it. Any two sources that contradict each other are believed less.
CONFIDENCE_CODE = 1.0
CONFIDENCE_NAME = 0.95
CONFIDENCE_POINT = 0.9
CONFIDENCE_NEIGHBOURHOOD = 0.85
CONFIDENCE_ADDRESS = 0.5
CONFLICT_FACTOR = 0.5


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """One zone. `names` are its titles, the Chinese one first; `aliases` are other names and former codes.

    `boundary` is in WGS 84, longitude before latitude.
    """

    code: str
    parent: str = ""
    kind: str = ""
    names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    boundary: BaseGeometry | None = None
    delegated_to: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubt about a given value; becomes a `quintet.common.v1.Flag`."""

    code: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The deepest zone that what was given supports; the root with confidence 0 when nothing does."""

    zone: str
    confidence: float
    reason: str
    flags: tuple[Doubt, ...] = ()


@dataclass(slots=True)
class _Search:
    """The state of one resolution: how deep we are, how sure, why, and what spoke against it."""

    zone: str
    confidence: float = 0.0
    reason: str = "nothing given names a zone"
    flags: list[Doubt] = field(default_factory=list)

    def doubt(self, code: str, name: str, reason: str) -> None:
        self.flags.append(Doubt(code, name, reason))


class ZoneTree:
    """All zones that a node knows. `root` is the node's own zone, known even before any record is.

    Zones outside the root's subtree (of partner nodes) may be among the records; no place of ours resolves to them.
    """

    def __init__(self, records: Iterable[ZoneRecord] = (), *, root: str) -> None:
        """Raise ValueError when the parents make a circle."""
        self._records: dict[str, ZoneRecord] = {record.code: record for record in records}
        self._former = self._index_former()
        # A node's file may still name its zone by the code that it had before.
        self.root = self.canonical(root)
        self._records.setdefault(self.root, ZoneRecord(self.root))
        self._paths = {code: self._climb(code) for code in self._records}
        self._ancestors = {code: frozenset(path) for code, path in self._paths.items()}
        self._below: dict[str, list[str]] = {code: [] for code in self._records}
        for code in sorted(self._paths, key=lambda code: (len(self._paths[code]), code)):
            for ancestor in self._paths[code]:
                self._below[ancestor].append(code)
        self._names = self._index_names()
        bounded = [record for record in self._records.values() if record.boundary is not None]
        self._bounded = [record.code for record in bounded]
        self._shapes = shapely.STRtree([record.boundary for record in bounded if record.boundary is not None])

    def _climb(self, code: str) -> tuple[str, ...]:
        path: list[str] = []
        current = code
        while current in self._records:
            if current in path:
                raise ValueError(f"zones make a circle: {' > '.join([*path, current])}")
            path.append(current)
            current = self._records[current].parent
        return tuple(reversed(path))

    def _index_former(self) -> Mapping[str, frozenset[str]]:
        former: dict[str, set[str]] = {}
        for record in self._records.values():
            for alias in record.aliases:
                former.setdefault(alias.casefold(), set()).add(record.code)
        return {alias: frozenset(codes) for alias, codes in former.items()}

    def _index_names(self) -> Mapping[str, frozenset[str]]:
        names: dict[str, set[str]] = {}
        for record in self._records.values():
            for name in (*record.names, *record.aliases):
                if _plain(name):
                    names.setdefault(_plain(name), set()).add(record.code)
        return {name: frozenset(codes) for name, codes in names.items()}

    # ------------------------------------------------------------------------------------------------------- the tree

    def __contains__(self, code: str) -> bool:
        return self.canonical(code) in self._records

    def __len__(self) -> int:
        return len(self._records)

    def record(self, code: str) -> ZoneRecord | None:
        return self._records.get(self.canonical(code))

    def canonical(self, code: str) -> str:
        """Return the present code of a zone that was renamed; any other code unchanged, also one that is not known."""
        if code in self._records:
            return code
        renamed = self._former.get(code.casefold(), frozenset())
        return next(iter(renamed)) if len(renamed) == 1 else code

    def path(self, code: str) -> tuple[str, ...]:
        """Return the codes from the topmost zone down to this one; empty for a zone that is not known."""
        return self._paths.get(self.canonical(code), ())

    def covers(self, ancestor: str, code: str) -> bool:
        """Say whether `code` is `ancestor` or lies below it. A zone that is not known is covered by itself only."""
        return ancestor == code or self.canonical(ancestor) in self._ancestors.get(self.canonical(code), ())

    def descendants(self, code: str) -> tuple[str, ...]:
        """Return the zone itself and all below it, parents first; just the code itself when it is not known."""
        return tuple(self._below.get(self.canonical(code), (code,)))

    def codes(self, code: str) -> tuple[str, ...]:
        """Return `descendants` with their former codes too, as old rows carry those."""
        found = dict.fromkeys(self.descendants(code))
        for below in tuple(found):
            record = self._records.get(below)
            found.update(dict.fromkeys(record.aliases if record else ()))
        return tuple(found)

    def authority(self, code: str) -> str:
        """Return the id of the child node that the zone, or the nearest zone above it, is delegated to; "" for none."""
        for above in reversed(self.path(code)):
            if self._records[above].delegated_to:
                return self._records[above].delegated_to
        return ""

    def is_delegated(self, code: str) -> bool:
        return bool(self.authority(code))

    # ------------------------------------------------------------------------------------------------------ resolution

    def resolve(
        self,
        *,
        zone_hint: str = "",
        neighbourhood: str = "",
        address: str = "",
        latitude: float | None = None,
        longitude: float | None = None,
    ) -> Resolution:
        """Return the deepest zone below the root that the values support, with every doubt about them as a flag.

        `zone_hint` is a code or a name, coordinates are degrees in WGS 84; (0, 0) counts as not given. An earlier
        source wins over a later one that contradicts it; a later one that agrees may lead deeper. Order: the hint, the
        neighbourhood, the coordinates, the address.
        """
        search = _Search(self.root)
        self._try_hint(search, zone_hint)
        self._try(search, "neighbourhood", neighbourhood, self._named(neighbourhood), CONFIDENCE_NEIGHBOURHOOD)
        self._try_point(search, latitude, longitude)
        if not search.confidence:
            self._try(search, "address", address, self._mentioned(address), CONFIDENCE_ADDRESS)
        if not search.confidence and not any(doubt.code == "ZONE_UNKNOWN" for doubt in search.flags):
            search.doubt("ZONE_UNKNOWN", "place", "nothing given names a zone or lies in one")
        return Resolution(search.zone, round(search.confidence, 3), search.reason, tuple(search.flags))

    def _try_hint(self, search: _Search, hint: str) -> None:
        hint = hint.strip()
        code = self.canonical(hint.removeprefix("zones/"))
        if code in self._records:
            self._try(search, "zone_hint", hint, frozenset({code}), CONFIDENCE_CODE)
        elif hint:
            found = self._named(hint)
            if not found:
                search.doubt("ZONE_UNKNOWN", "zone_hint", f"{hint!r} names no known zone")
            self._try(search, "zone_hint", hint, found, CONFIDENCE_NAME)

    def _try_point(self, search: _Search, latitude: float | None, longitude: float | None) -> None:
        if latitude is None or longitude is None:
            search.doubt("COORDINATES_MISSING", "point", "no coordinates were given")
        elif not (isfinite(latitude) and isfinite(longitude) and abs(latitude) <= 90 and abs(longitude) <= 180):  # noqa: PLR2004 - degrees
            search.doubt("COORDINATES_INVALID", "point", "the coordinates are no place on Earth")
        elif latitude == 0 and longitude == 0:
            search.doubt("COORDINATES_ZERO", "point", "(0, 0) is what reporting tools write for an unknown place")
        else:
            found = self._containing(latitude, longitude)
            if not found and self._records[self.root].boundary is not None:
                search.doubt("COORDINATES_OUTSIDE", "point", f"the coordinates lie outside of {self.root}")
            self._try(search, "point", f"{latitude:g}, {longitude:g}", found, CONFIDENCE_POINT)

    def _try(self, search: _Search, source: str, value: str, candidates: frozenset[str], confidence: float) -> None:
        """Go as deep as the candidates agree with what is known already, or note that they contradict it."""
        if not candidates:
            return
        deeper = [code for code in candidates if self.covers(search.zone, code)]
        if deeper:
            zone = self._common(deeper)
            if zone != search.zone or not search.confidence:
                search.reason = f"{source} {value!r} is {'in ' if source == 'point' else ''}{zone}"
                search.confidence = min(search.confidence or confidence, confidence)
                search.zone = zone
        elif not any(self.covers(code, search.zone) for code in candidates):
            others = ", ".join(sorted(candidates))
            code = "ZONE_CONFLICT" if search.confidence else "ZONE_OUTSIDE"
            search.doubt(code, source, f"{value!r} is in {others}, which is not in {search.zone}")
            search.confidence *= CONFLICT_FACTOR

    def _common(self, codes: Iterable[str]) -> str:
        """Return the deepest zone that does not decide between codes of different branches."""
        ordered = sorted(codes, key=lambda code: (len(self._paths[code]), code))
        deepest = self._paths[ordered[-1]]
        while not all(code in deepest or deepest[-1] in self._ancestors[code] for code in ordered):
            deepest = deepest[:-1]
        return deepest[-1]

    def _named(self, name: str) -> frozenset[str]:
        return self._names.get(_plain(name), frozenset())

    def _containing(self, latitude: float, longitude: float) -> frozenset[str]:
        found = self._shapes.query(shapely.Point(longitude, latitude), predicate="intersects")
        return frozenset(self._bounded[index] for index in found)

    def _mentioned(self, address: str) -> frozenset[str]:
        """Return the zones whose names stand in a free text, as whole words where the script has words."""
        text = _plain(address)
        names = [name for name in self._names if name in text and _is_mention(name, text)]
        # "Potrero Hill" does not mention a zone called "Hill".
        whole = [name for name in names if not any(name in other for other in names if other != name)]
        found = {code for name in whole for code in self._names[name]}
        return frozenset(found.intersection(self.descendants(self.root)))


def parse_boundary(text: str, *, field: str = "boundary") -> BaseGeometry | None:
    """Return the geometry of a GeoJSON Polygon or MultiPolygon in WGS 84, None for "". Raises Invalid."""
    if not text:
        return None
    try:
        geometry = shapely.from_geojson(text)
    except (shapely.errors.GEOSException, ValueError) as error:
        raise Invalid(field, "must be a GeoJSON geometry") from error
    if geometry.geom_type not in {"Polygon", "MultiPolygon"} or geometry.is_empty:
        raise Invalid(field, "must be a GeoJSON Polygon or MultiPolygon")
    if shapely.get_num_coordinates(geometry) > BOUNDARY_VERTICES_MAX:
        raise Invalid(field, f"has more than {BOUNDARY_VERTICES_MAX} vertices")
    west, south, east, north = geometry.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):  # noqa: PLR2004 - degrees
        raise Invalid(field, "must have coordinates in degrees, longitude before latitude")
    if not geometry.is_valid:
        raise Invalid(field, f"is not a simple polygon: {shapely.is_valid_reason(geometry)}")
    return geometry


def _plain(name: str) -> str:
    """Fold case, width and spacing, so that "Potrero  hill" and "POTRERO HILL" are one name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _is_mention(name: str, text: str) -> bool:
    if not name.isascii():
        return len(name) >= ADDRESS_NAME_CJK_CHARS_MIN
    return len(name) >= ADDRESS_NAME_CHARS_MIN and bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))
