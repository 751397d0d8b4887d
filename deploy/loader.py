"""Loads the declarative files of a node through its public API. Safe to repeat: what is already so stays untouched."""

import asyncio
import csv
import gzip
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from deploy.declared import KINDS, LOOPS, SCORECARDS, SERVICE_ITEMS, DeclarationError, Declared, Entry, read_folder
from quintet.delivery.v1.delivery_pb2 import PutServiceItemsRequest, ServiceItem
from quintet.identity.v1 import directory_pb2 as directory
from quintet.management.v1 import calendars_pb2 as calendars
from quintet.management.v1 import catalogue_pb2 as catalogue
from quintet.management.v1 import follow_ups_pb2 as follow_ups
from quintet.management.v1 import indicators_pb2 as indicators
from quintet.management.v1 import loops_pb2 as loops
from quintet.management.v1 import management_pb2 as management
from quintet.management.v1 import plans_pb2 as plans
from quintet.management.v1 import scorecards_pb2 as scorecards
from quintet.perception.v1 import perception_pb2 as perception
from quintet.sharing.v1 import sharing_pb2 as sharing
from quintet_sdk import Client, QuintetError

PUTS_AT_ONCE_MAX = 4
ITEMS_PER_PUT_MAX = 500
ATTEMPTS_MAX = 8
RETRY_DELAY_FIRST_S = 0.25
RETRY_DELAY_MAX_S = 4.0
ITEM_COLUMNS = frozenset({"department", "main_item", "name", "item_code", "task_type"})

# Given the name of a person who is new to the node, the password to set; "" for none yet.
Passwords = Callable[[str], str]
# Told the secret of a service account, which the node shows only once.
TakeSecret = Callable[[str, str], None]


@dataclass(slots=True)
class Tally:
    """What became of the entries of one section."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0

    @property
    def total(self) -> int:
        return self.created + self.changed + self.unchanged


@dataclass(slots=True)
class LoadReport:
    """What became of a folder, section by section."""

    sections: dict[str, Tally] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{section}: {tally.created} created, {tally.changed} changed, {tally.unchanged} unchanged"
            for section, tally in self.sections.items()
            if tally.total
        ]
        return "\n".join(lines) or "nothing declared"


@dataclass(frozen=True, slots=True)
class _Way:
    """How entries of one section get to the node: the call that puts one, and the call that lists what is there.

    The request has the entry in `field`; without one the entry is the request. The answer has what is there in
    `listing`; the call is named like it unless `list_call` is.
    """

    part: str
    put: str
    request: type[Message]
    field: str
    listing: str = ""
    list_request: type[Message] | None = None
    list_call: str = ""


_WAYS: Mapping[str, _Way] = {
    "zones": _Way("directory", "PutZone", directory.PutZoneRequest, "zone", "zones", directory.ListZonesRequest),
    "organisations": _Way(
        *("directory", "PutOrganisation", directory.PutOrganisationRequest, "organisation"),
        *("organisations", directory.ListOrganisationsRequest),
    ),
    "roles": _Way("directory", "PutRole", directory.PutRoleRequest, "role", "roles", directory.ListRolesRequest),
    "people": _Way(
        *("directory", "PutPerson", directory.PutPersonRequest, "person", "people", directory.ListPeopleRequest),
    ),
    "service_accounts": _Way("directory", "PutServiceAccount", directory.PutServiceAccountRequest, "service_account"),
    "calendars": _Way(
        "calendars",
        "PutCalendar",
        calendars.PutCalendarRequest,
        "calendar",
        "calendars",
        calendars.ListCalendarsRequest,
    ),
    LOOPS: _Way("loops", "PutLoop", loops.PutLoopRequest, "", "loops", loops.ListLoopsRequest),
    "event_types": _Way(
        *("management", "PutEventType", management.PutEventTypeRequest, "event_type"),
        *("event_types", management.ListEventTypesRequest),
    ),
    "component_types": _Way(
        *("component_types", "PutComponentType", catalogue.PutComponentTypeRequest, "component_type"),
        *("component_types", catalogue.ListComponentTypesRequest),
    ),
    "device_models": _Way(
        *("perception", "PutDeviceModel", perception.PutDeviceModelRequest, "device_model"),
        *("device_models", perception.ListDeviceModelsRequest),
    ),
    "devices": _Way(
        *("perception", "PutDevice", perception.PutDeviceRequest, "device"),
        *("devices", perception.ListDevicesRequest),
    ),
    "rules": _Way("perception", "PutRule", perception.PutRuleRequest, "rule", "rules", perception.ListRulesRequest),
    "products": _Way(
        "sharing", "PutProduct", sharing.PutProductRequest, "product", "products", sharing.ListProductsRequest
    ),
    "follow_up_policies": _Way("follow_ups", "PutFollowUpPolicy", follow_ups.PutFollowUpPolicyRequest, "policy"),
    "plans": _Way("plans", "PutPlan", plans.PutPlanRequest, "plan", "plans", plans.ListPlansRequest),
    "indicators": _Way(
        *("indicators", "PutIndicator", indicators.PutIndicatorRequest, "indicator"),
        *("indicators", indicators.ListIndicatorsRequest),
    ),
    SCORECARDS: _Way(
        *("scorecards", "PutScorecardDefinition", scorecards.PutScorecardDefinitionRequest, ""),
        *("definitions", scorecards.ListScorecardDefinitionsRequest, "ListScorecardDefinitions"),
    ),
}


class Loader:
    """Loads folders into the node that `client` is signed in to, with the rights of a node's administrator."""

    def __init__(
        self, client: Client, *, passwords: Passwords = lambda _: "", take_secret: TakeSecret = lambda _, __: None
    ) -> None:
        self._client = client
        self._passwords = passwords
        self._take_secret = take_secret

    async def load(self, folder: Path, *, data: Path | None = None) -> LoadReport:
        """Load a folder. `data` is where tables such as the service items are looked for, the folder itself otherwise.

        Raises DeclarationError for what the files or the node do not allow, QuintetError when the node cannot be asked.
        """
        declared = read_folder(folder)
        items = _read_items(declared, data or folder) if declared.service_items else []
        report = LoadReport()
        for section in KINDS:
            if declared.entries[section]:
                report.sections[section] = await self._section(section, declared.entries[section])
        if items:
            report.sections[SERVICE_ITEMS] = await self._items(items)
        return report

    async def _section(self, section: str, entries: list[Entry]) -> Tally:
        way = _WAYS[section]
        there = await self._names(way)
        tally = Tally()
        # A zone must find its parent there; other entries of a section do not wait for each other.
        at_once = asyncio.Semaphore(1 if section in {"zones", "organisations", "roles"} else PUTS_AT_ONCE_MAX)

        async def put(entry: Entry) -> None:
            async with at_once:
                await self._put(way, entry, entry.name in there, tally)

        try:
            async with asyncio.TaskGroup() as group:
                for entry in entries:
                    group.create_task(put(entry))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return tally

    async def _put(self, way: _Way, entry: Entry, there: bool, tally: Tally) -> None:
        request = way.request(**{way.field: entry.message}) if way.field else entry.message
        if isinstance(request, directory.PutPersonRequest) and not there:
            request.password = self._passwords(entry.name)
        call = getattr(getattr(self._client, way.part), way.put)
        try:
            answer = await _patiently(lambda: call(request))
        except QuintetError as error:
            if not way.field:  # a whole file, whose faults name its lines
                problems = "; ".join(violation.rule for violation in error.violations) or str(error)
                raise entry.refused("", problems) from error
            violation = error.violations[0] if error.violations else None
            if violation is not None:
                raise entry.refused(violation.field, violation.rule) from error
            raise entry.refused("", str(error)) from error
        if isinstance(answer, directory.PutServiceAccountResponse) and answer.secret:
            self._take_secret(entry.name, answer.secret)
            tally.created += 1
        elif not answer.changed:
            tally.unchanged += 1
        elif there or not way.listing:
            tally.changed += 1
        else:
            tally.created += 1

    async def _names(self, way: _Way) -> set[str]:
        if way.list_request is None:
            return set()
        call = getattr(getattr(self._client, way.part), _list_method(way))
        fixed: dict[str, str] = {}
        if "parent" in way.list_request.DESCRIPTOR.fields_by_name:
            fixed["parent"] = await self._own_zone()
        return {item.name async for item in _pages(call, way.list_request, way.listing, fixed)}

    async def _own_zone(self) -> str:
        answer = await _patiently(lambda: self._client.directory.ListZones(directory.ListZonesRequest(page_size=1)))
        return str(answer.zones[0].name)

    async def _items(self, items: list[ServiceItem]) -> Tally:
        tally = Tally()
        for start in range(0, len(items), ITEMS_PER_PUT_MAX):
            request = PutServiceItemsRequest(service_items=items[start : start + ITEMS_PER_PUT_MAX])
            answer = await _patiently(lambda request=request: self._client.service_items.PutServiceItems(request))
            tally.changed += answer.changed
            tally.unchanged += answer.unchanged
        return tally


def load(url: str, login: str, password: str, folder: Path, data: Path | None = None) -> int:
    """Load a folder into the node at `url`, print what became of it, and return an exit code: 0 done, 1 refused.

    New people get no password here, and the secrets of new service accounts are printed, once.
    """

    async def work() -> LoadReport:
        async with Client(url) as client:
            await client.sign_in(login, password)
            loader = Loader(client, take_secret=lambda name, secret: print(f"secret of {name}: {secret}"))
            return await loader.load(folder, data=data)

    try:
        print(asyncio.run(work()))
    except (DeclarationError, QuintetError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list_method(way: _Way) -> str:
    return way.list_call or "List" + "".join(word.capitalize() for word in way.listing.split("_"))


async def _pages(
    call: Callable[[Any], Awaitable[Any]], request: type[Message], listing: str, fixed: Mapping[str, str]
) -> AsyncIterator[Any]:
    token = ""
    while True:
        asked = request(page_token=token, **fixed)
        answer = await _patiently(lambda asked=asked: call(asked))
        for item in getattr(answer, listing):
            yield item
        token = answer.next_page_token
        if not token:
            return


async def _patiently(call: Callable[..., Awaitable[Any]]) -> Any:
    """Try again while the node says that this may help, for a bounded time."""
    delay_s = RETRY_DELAY_FIRST_S
    for attempts_left in reversed(range(ATTEMPTS_MAX)):
        try:
            return await call()
        except QuintetError as error:
            # A Put is the same when it is made again, so a deadline is no reason to give up either.
            if not (error.retryable or error.code is grpc.StatusCode.DEADLINE_EXCEEDED) or not attempts_left:
                raise
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)
    raise AssertionError("unreachable")


def _read_items(declared: Declared, data: Path) -> list[ServiceItem]:
    """Read the table of service items: columns department, main_item, name, item_code, task_type; .gz or plain."""
    path = data / declared.service_items
    items: list[ServiceItem] = []
    try:
        data_bytes = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        with io.StringIO(data_bytes.decode(), newline="") as table:
            reader = csv.DictReader(table)
            if set(reader.fieldnames or ()) != ITEM_COLUMNS:
                raise DeclarationError(path, "header", f"must be {', '.join(sorted(ITEM_COLUMNS))}")
            for line, row in enumerate(reader, start=2):
                if not row["item_code"] or not row["name"]:
                    raise DeclarationError(path, f"line {line}", "lacks item_code or name")
                items.append(_item(row))
    except OSError as error:
        raise DeclarationError(declared.folder, f"{SERVICE_ITEMS}.csv", str(error)) from error
    return items


def _item(row: Mapping[str, str]) -> ServiceItem:
    unclassified = row["main_item"] == "未分类"
    return ServiceItem(
        name=f"serviceItems/{row['item_code']}",
        title=row["name"],
        department=row["department"],
        main_item="" if unclassified else row["main_item"],
        task_type=row["task_type"],
    )
