from pathlib import Path

import pytest

from deploy.declared import DeclarationError, read_folder
from quintet.identity.v1.directory_pb2 import ZONE_KIND_DISTRICT, Person, Zone
from quintet.management.v1.loops_pb2 import PutLoopRequest
from quintet.management.v1.management_pb2 import EventType
from quintet.management.v1.scorecards_pb2 import PutScorecardDefinitionRequest
from quintet.perception.v1.perception_pb2 import LEVEL_II, Device, Rule

DEMO = Path(__file__).resolve().parents[1] / "demo"


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def fault(folder: Path) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        read_folder(folder)
    return caught.value


@pytest.mark.parametrize("node", ["sf", "sf-d6", "sf-d10", "sf-potrero-hill", "beijing"])
def test_the_demo_declares_what_can_be_read(node: str) -> None:
    declared = read_folder(DEMO / node)
    assert declared.entries["zones"]
    assert declared.entries["people"]


def test_short_forms_become_the_messages_of_the_api(tmp_path: Path) -> None:
    write(
        tmp_path,
        "all.yaml",
        """
zones:
  - {id: a-1, parent: a, kind: district, title: {zh: 一区, en: One}, aliases: ["1"]}
  - {id: a, kind: city}
people:
  - {id: officer.a, login: officer.a, posts: [{role: duty_officer, zone: a, organisation: centre}]}
devices:
  - {id: s1, zone: a-1, model: station, point: {latitude: 1.5, longitude: 2}}
rules:
  - {id: r, zone: a, indicator: pm25, comparison: above, raise_at: 150, clear_at: 115, level: ii, event_type: smog}
""",
    )
    declared = read_folder(tmp_path)
    assert declared.names("zones") == ["zones/a", "zones/a-1"]
    zone, person = declared.entries["zones"][1].message, declared.entries["people"][0].message
    device, rule = declared.entries["devices"][0].message, declared.entries["rules"][0].message
    assert isinstance(zone, Zone)
    assert (zone.parent, zone.kind, list(zone.aliases)) == ("zones/a", ZONE_KIND_DISTRICT, ["1"])
    assert isinstance(person, Person)
    assert (person.posts[0].role, person.posts[0].organisation) == ("roles/duty_officer", "organisations/centre")
    assert isinstance(device, Device)
    assert (device.name, device.model) == ("zones/a-1/devices/s1", "deviceModels/station")
    assert isinstance(rule, Rule)
    assert (rule.level, rule.event_type, rule.zone) == (LEVEL_II, "eventTypes/smog", "a")


def test_a_shared_type_goes_to_the_department_of_the_node(tmp_path: Path) -> None:
    write(
        tmp_path,
        "common/types.yaml",
        "event_types:\n  - {id: smog, department: air, deadline: {minutes: 9}}\n",
    )
    write(
        tmp_path,
        "node/routes.yaml",
        "include: [../common/types.yaml]\nroutes:\n  air: [{zone: a, organisation: bureau}]\n",
    )
    declared = read_folder(tmp_path / "node")
    kind = declared.entries["event_types"][0].message
    assert isinstance(kind, EventType)
    assert [(route.zone, route.organisation) for route in kind.routes] == [("a", "organisations/bureau")]
    write(tmp_path, "node/routes.yaml", "include: [../common/types.yaml]\n")
    assert fault(tmp_path / "node").where == "event_types smog, department"


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("zones:\n  - {id: a, kind: city, colour: red}", "zones a, colour", "not a known key"),
        ("zones:\n  - {id: a, kind: city, title: {fr: un}}", "zones a, title.fr", "not a known key"),
        ("zones:\n  - {id: a, kind: village}", "zones a, kind", "must be one of city, district"),
        ("zones:\n  - {kind: city}", "zones[0]", "needs an id"),
        ("zones:\n  - {id: 1, kind: city}", "zones[0]", "needs an id"),
        ("zones:\n  - {id: a, kind: city, aliases: [10]}", "zones a, aliases[0]", "put it in quotes"),
        ("zones:\n  - {id: a, kind: city, aliases: '10'}", "zones a, aliases", "must be a list"),
        ("zones:\n  - {id: a, kind: city, name: zones/a}", "zones a, name", "leave it out"),
        ("zones:\n  - {id: a, kind: city}\n  - {id: a, kind: city}", "zones zones/a", "declared in"),
        ("zones: [{id: a, kind: city, parent: b}, {id: b, kind: city, parent: a}]", "zones zones/a, parent", "circle"),
        ("zones: {a: 1}", "zones", "must be a list"),
        ("zone:\n  - {id: a}", "zone", "not a known section"),
        ("devices:\n  - {id: s, model: m}", "devices s, zone", "is required"),
        ("event_types:\n  - {id: t, deadline: {minutes: soon}}", "event_types t", "minutes"),
        ("include: nothing.yaml", "include", "must be a list"),
        ("include: [nothing.yaml]", "", "does not exist"),
        ("routes:\n  air: bureau", "routes air", "must be a list"),
        ("loops: loop.yaml", "loops", "must be a list of paths"),
        ("service_items: items.csv", "service_items", "must be {csv"),
        ("zones: [", "", "is not YAML"),
        ("- zones", "", "must hold sections"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, where: str, problem: str) -> None:
    write(tmp_path, "node.yaml", text)
    found = fault(tmp_path)
    assert found.where == where
    assert problem in found.problem
    assert str(found).startswith(str(found.file))


def test_what_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        "node.yaml",
        """zones:
  - {id: a, kind: city}
event_types:
  - id: smog
    deadline: {minutes: 9}
    merge:
      radius: 5
""",
    )
    found = fault(tmp_path)
    assert (found.where, found.line) == ("event_types smog, merge.radius", 7)
    assert str(found).startswith(f"{tmp_path / 'node.yaml'}:7: event_types smog, merge.radius: ")
    # What the node itself refuses it names in the JSON spelling, from the message on.
    write(tmp_path, "node.yaml", (tmp_path / "node.yaml").read_text().replace("radius", "radius_m"))
    (entry,) = read_folder(tmp_path).entries["event_types"]
    assert entry.refused("eventType.merge.radiusM", "too far").line == 7
    assert entry.refused("eventType.loop", "is not there").line == 4


def test_loops_and_scorecards_are_the_texts_of_files(tmp_path: Path) -> None:
    write(tmp_path, "node/types.yaml", "loops: [../common/loop.yaml]\n")
    assert fault(tmp_path / "node").problem == "../common/loop.yaml: No such file or directory"
    text = "# ours\nname: loops/ours\n"
    write(tmp_path, "common/loop.yaml", text)
    (entry,) = read_folder(tmp_path / "node").entries["loops"]
    assert isinstance(entry.message, PutLoopRequest)
    assert (entry.name, entry.message.definition) == ("loops/ours", text)
    write(tmp_path, "node/types.yaml", "loops: [../common/loop.yaml]\nscorecards: [../common/card.yaml]\n")
    assert fault(tmp_path / "node").line == 2
    write(tmp_path, "common/card.yaml", "title: {}\n")
    assert fault(tmp_path / "node").where == "scorecards, name"
    card = "name: scorecardDefinitions/ours\n"
    write(tmp_path, "common/card.yaml", card)
    (entry,) = read_folder(tmp_path / "node").entries["scorecards"]
    assert entry.message == PutScorecardDefinitionRequest(name="scorecardDefinitions/ours", source=card)
    write(tmp_path, "common/loop.yaml", "name: [")
    assert fault(tmp_path / "node").file == tmp_path / "common" / "loop.yaml"


def test_a_folder_without_declarations_is_refused(tmp_path: Path) -> None:
    assert "no *.yaml" in fault(tmp_path).problem
