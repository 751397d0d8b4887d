"""Declarative files of a node, read into the messages of the public API. Pure but for reading the files.

A folder holds YAML files with sections (`zones`, `organisations`, ...) in any number and division; `include` adds files
that several nodes share. docs/loading.md explains them to those who write them. Everything is checked before anything
is loaded: a key that nobody knows is refused, as a misspelt limit must not silently become the default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from deploy.lines import child, line_of
from quintet.identity.v1.directory_pb2 import Organisation, Person, Role, ServiceAccount, Zone
from quintet.management.v1.calendars_pb2 import Calendar
from quintet.management.v1.catalogue_pb2 import ComponentType
from quintet.management.v1.follow_ups_pb2 import FollowUpPolicy
from quintet.management.v1.indicators_pb2 import Indicator
from quintet.management.v1.loops_pb2 import PutLoopRequest
from quintet.management.v1.management_pb2 import EventType
from quintet.management.v1.plans_pb2 import Plan
from quintet.management.v1.scorecards_pb2 import PutScorecardDefinitionRequest
from quintet.options.v1.options_pb2 import rules
from quintet.perception.v1.perception_pb2 import Device, DeviceModel, Rule
from quintet.sharing.v1.sharing_pb2 import Product

INCLUDE = "include"
ROUTES = "routes"
SERVICE_ITEMS = "service_items"
DEPARTMENT = "department"
LOOPS = "loops"
SCORECARDS = "scorecards"
INCLUDES_MAX = 50

# The sections, in the order in which they are loaded: what is referred to comes first.
KINDS: Mapping[str, type[Message]] = {
    "zones": Zone,
    "organisations": Organisation,
    "roles": Role,
    "people": Person,
    "service_accounts": ServiceAccount,
    "calendars": Calendar,
    LOOPS: PutLoopRequest,
    "event_types": EventType,
    "component_types": ComponentType,
    "device_models": DeviceModel,
    "devices": Device,
    "rules": Rule,
    "products": Product,
    "indicators": Indicator,
    "plans": Plan,
    "follow_up_policies": FollowUpPolicy,
    SCORECARDS: PutScorecardDefinitionRequest,
}
# Sections of files that go to the node as the texts that they are, and the field of the request for the text.
_TEXTS = {LOOPS: "definition", SCORECARDS: "source"}
# Types that a department deals with, and the field that says with whom it has people where.
_ROUTED = {"event_types": "routes", "component_types": "owners"}
_PREFIXES = {
    "service_accounts": "serviceAccounts",
    "event_types": "eventTypes",
    "component_types": "componentTypes",
    "device_models": "deviceModels",
    "follow_up_policies": "followUpPolicies",
}


class DeclarationError(ValueError):
    """A file says something that cannot be: where (file, line, entry and field) and what is wrong.

    `line` counts from 1, 0 when what is wrong is the file.
    """

    def __init__(self, file: Path, where: str, problem: str, line: int = 0) -> None:
        place = f"{file}:{line}" if line else str(file)
        super().__init__(f"{place}: {where}: {problem}" if where else f"{place}: {problem}")
        self.line = line
        self.file = file
        self.where = where
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a section: its message, and where it stands, for whoever must correct it."""

    section: str
    file: Path
    name: str
    message: Message
    node: yaml.Node | None = None

    def refused(self, field_path: str, problem: str) -> DeclarationError:
        """The error for an entry that the node refused. `field_path` is as the node gave it."""
        where = f"{self.section} {self.name}"
        line = line_of(self.node, field_path)
        return DeclarationError(self.file, f"{where}, {field_path}" if field_path else where, problem, line)


@dataclass(slots=True)
class Declared:
    """All that a folder declares. `entries` has every section of KINDS, zones with parents before children."""

    folder: Path
    entries: dict[str, list[Entry]] = field(default_factory=lambda: {section: [] for section in KINDS})
    service_items: str = ""

    def names(self, section: str) -> list[str]:
        return [entry.name for entry in self.entries[section]]


@dataclass(slots=True)
class _Raw:
    """One entry before conversion."""

    section: str
    file: Path
    index: int
    content: dict[str, Any]
    node: yaml.Node | None

    def wrong(self, where: str, problem: str, path: str = "") -> "DeclarationError":
        return DeclarationError(self.file, where, problem, line_of(self.node, path))


def read_folder(folder: Path) -> Declared:
    """Read all `*.yaml` of a folder and what they include. DeclarationError for the first thing that is wrong."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise DeclarationError(folder, "", "has no *.yaml file")
    declared = Declared(folder)
    raws: list[_Raw] = []
    routes: dict[str, Any] = {}
    seen: set[Path] = set()
    queue = [path.resolve() for path in files]
    while queue:
        path = queue.pop(0)
        if path in seen:
            continue
        seen.add(path)
        if len(seen) > INCLUDES_MAX:
            raise DeclarationError(path, INCLUDE, f"more than {INCLUDES_MAX} files")
        document, root = _parse(path)
        queue += _included(path, document.pop(INCLUDE, []))
        _routes(path, document.pop(ROUTES, {}), routes)
        declared.service_items = _service_items(path, document.pop(SERVICE_ITEMS, {})) or declared.service_items
        for section in _TEXTS:
            names = _file_names(path, section, document.pop(section, []))
            declared.entries[section] += [_text(path, section, name, child(root, section)) for name in names]
        raws += _raws(path, document, root)
    _convert_all(declared, raws, routes)
    return declared


def _parse(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        text = path.read_text()
        document, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise DeclarationError(path, "", "is included, but does not exist") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DeclarationError(path, "", f"is not YAML: {error}", mark.line + 1 if mark else 0) from error
    if document is None:
        return {}, None
    if not isinstance(document, dict):
        raise DeclarationError(path, "", "must hold sections, such as `zones:`")
    return document, root


def _included(path: Path, names: object) -> list[Path]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(path, INCLUDE, "must be a list of paths")
    return [(path.parent / name).resolve() for name in names]


def _routes(path: Path, content: object, routes: dict[str, Any]) -> None:
    if not isinstance(content, dict):
        raise DeclarationError(path, ROUTES, "must map a department to a list of routes")
    for department, found in content.items():
        if not isinstance(found, list):
            raise DeclarationError(path, f"{ROUTES} {department}", "must be a list of {zone, organisation}")
        if department in routes:
            raise DeclarationError(path, f"{ROUTES} {department}", "is given twice")
        routes[department] = found


def _service_items(path: Path, content: object) -> str:
    if content == {}:
        return ""
    if not isinstance(content, dict) or set(content) != {"csv"} or not isinstance(content["csv"], str):
        raise DeclarationError(path, SERVICE_ITEMS, "must be {csv: file name}")
    return str(content["csv"])


def _file_names(path: Path, section: str, names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(path, section, "must be a list of paths of files, one for each of them")
    return names


def _text(path: Path, section: str, name: str, node: yaml.Node | None) -> Entry:
    """A loop or scorecard goes to the node as the text of its file: the node reads it, and names faults by line."""
    file = (path.parent / name).resolve()
    try:
        text = file.read_text()
    except OSError as error:
        raise DeclarationError(path, section, f"{name}: {error.strerror}", line_of(node)) from error
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DeclarationError(file, "", f"is not YAML: {error}", mark.line + 1 if mark else 0) from error
    called = found.get("name") if isinstance(found, dict) else None
    message = KINDS[section](**{_TEXTS[section]: text})
    if isinstance(message, PutScorecardDefinitionRequest):
        # The request says whose text it is; the node checks that the text says the same.
        if not isinstance(called, str):
            raise DeclarationError(file, f"{section}, name", "is required: scorecardDefinitions/{id}", 1)
        message.name = called
    return Entry(section, file, str(called or name), message)


def _raws(path: Path, document: Mapping[str, Any], root: yaml.Node | None) -> list[_Raw]:
    found: list[_Raw] = []
    for section, entries in document.items():
        if section not in KINDS:
            known = ", ".join([*KINDS, ROUTES, SERVICE_ITEMS, INCLUDE])
            line = line_of(root, str(section))
            raise DeclarationError(path, str(section), f"is not a known section; there are {known}", line)
        if not isinstance(entries, list):
            raise DeclarationError(path, section, "must be a list of entries", line_of(root, section))
        for index, content in enumerate(entries):
            node = child(child(root, section), str(index))
            if not isinstance(content, dict):
                raise DeclarationError(path, f"{section}[{index}]", "must be a mapping with an id", line_of(node))
            found.append(_Raw(section, path, index, dict(content), node))
    return found


def _convert_all(declared: Declared, raws: list[_Raw], routes: Mapping[str, Any]) -> None:
    names: dict[str, Path] = {}
    for raw in raws:
        entry = _convert(raw, routes)
        if entry.name in names:
            raise raw.wrong(f"{raw.section} {entry.name}", f"is declared in {names[entry.name]} too")
        names[entry.name] = raw.file
        declared.entries[raw.section].append(entry)
    declared.entries["zones"] = _parents_first(declared.entries["zones"])


def _convert(raw: _Raw, routes: Mapping[str, Any]) -> Entry:
    content = raw.content
    identifier = content.pop("id", None)
    where = f"{raw.section}[{raw.index}]"
    if not isinstance(identifier, str) or not identifier:
        raise raw.wrong(where, "needs an id (text; numbers in quotes)", "id")
    where = f"{raw.section} {identifier}"
    if "name" in content:
        raise raw.wrong(f"{where}, name", "is made of the id; leave it out", "name")
    if raw.section in _ROUTED:
        _resolve_routes(raw, where, routes)
    content["name"] = _name(raw, where, identifier)
    message = KINDS[raw.section]()
    filled = _Filler(raw, where).message(content, cast("Descriptor", message.DESCRIPTOR), "")
    try:
        json_format.ParseDict(filled, message)
    except json_format.ParseError as error:
        raise raw.wrong(where, str(error)) from error
    return Entry(raw.section, raw.file, content["name"], message, raw.node)


def _name(raw: _Raw, where: str, identifier: str) -> str:
    if raw.section == "devices":
        zone = raw.content.pop("zone", None)
        if not isinstance(zone, str):
            raise raw.wrong(f"{where}, zone", "is required")
        return f"zones/{zone}/devices/{identifier}"
    return f"{_PREFIXES.get(raw.section, raw.section)}/{identifier}"


def _resolve_routes(raw: _Raw, where: str, routes: Mapping[str, Any]) -> None:
    """A shared file says whose a type is; the node says where that department has its people."""
    department = raw.content.pop(DEPARTMENT, None)
    if department is None:
        return
    key = _ROUTED[raw.section]
    if key in raw.content:
        raise raw.wrong(f"{where}, {DEPARTMENT}", f"cannot stand beside {key}", DEPARTMENT)
    if department not in routes:
        raise raw.wrong(f"{where}, {DEPARTMENT}", f"no file has {ROUTES} for {department!r}", DEPARTMENT)
    raw.content[key] = routes[department]


def _parents_first(zones: list[Entry]) -> list[Entry]:
    """Zones in an order in which each one's parent comes before it, or is not among them."""
    left = {entry.name: entry for entry in zones}
    ordered: list[Entry] = []
    while left:
        ready = [entry for entry in left.values() if getattr(entry.message, "parent", "") not in left]
        if not ready:
            first = next(iter(left.values()))
            raise first.refused("parent", "the parents make a circle")
        ordered += ready
        for entry in ready:
            del left[entry.name]
    return ordered


class _Filler:
    """Turns what people write into the JSON form of a message: short enum names, short references, known keys only."""

    def __init__(self, raw: _Raw, where: str) -> None:
        self._raw = raw
        self._where = where

    def message(self, content: object, descriptor: Descriptor, path: str) -> dict[str, Any]:
        if not isinstance(content, Mapping):
            raise self._wrong(path, "must be a mapping")
        filled: dict[str, Any] = {}
        for key, value in content.items():
            found = descriptor.fields_by_name.get(str(key))
            if found is None:
                known = ", ".join(item.name for item in descriptor.fields)
                raise self._wrong(f"{path}{key}", f"is not a known key; there are {known}")
            filled[found.name] = self._field(value, found, f"{path}{key}")
        return filled

    def _field(self, value: object, found: FieldDescriptor, path: str) -> object:
        if found.message_type is not None and found.message_type.GetOptions().map_entry:
            return value
        if found.is_repeated:
            if not isinstance(value, list):
                raise self._wrong(path, "must be a list")
            return [self._one(item, found, f"{path}[{index}]") for index, item in enumerate(value)]
        return self._one(value, found, path)

    def _one(self, value: object, found: FieldDescriptor, path: str) -> object:
        if found.message_type is not None:
            return self.message(value, found.message_type, f"{path}.")
        if found.enum_type is not None:
            return self._enum(value, [item.name for item in found.enum_type.values], path)
        if found.type == FieldDescriptor.TYPE_STRING:
            if not isinstance(value, str):
                raise self._wrong(path, f"must be text, got {value!r}; put it in quotes")
            return _referred(value, found)
        return value

    def _enum(self, value: object, names: list[str], path: str) -> str:
        prefix = names[0].removesuffix("UNSPECIFIED")
        for name in (str(value), f"{prefix}{str(value).upper()}"):
            if name in names[1:]:
                return name
        short = ", ".join(name.removeprefix(prefix).lower() for name in names[1:])
        raise self._wrong(path, f"must be one of {short}, got {value!r}")

    def _wrong(self, path: str, problem: str) -> DeclarationError:
        return self._raw.wrong(f"{self._where}, {path.rstrip('.')}", problem, path)


def _referred(value: str, found: FieldDescriptor) -> str:
    """A reference may be written without its collection: `handler` for `roles/handler`."""
    if not value or "/" in value:
        return value
    rule = found.GetOptions().Extensions[rules]
    pattern = rule.resource or (rule.pattern if rule.pattern.startswith("zones/") else "")
    collection, _, rest = pattern.partition("/")
    return f"{collection}/{value}" if collection and "/" not in rest else value
