import pytest

from libs import names
from libs.errors import Invalid

EVENT = "zones/{zone}/events/{event}"


def test_parse_and_build_are_inverse() -> None:
    name = names.build(EVENT, zone="us-ca-sf", event="2026-000123")
    assert name == "zones/us-ca-sf/events/2026-000123"
    assert names.parse(name, EVENT) == {"zone": "us-ca-sf", "event": "2026-000123"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "zones/a",
        "zones//events/1",
        "zones/a/events/1/",
        "zones/a/events/1\n",
        "zones/-/events/1",
        "zones/a/events/é",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.parse(name, EVENT, field="event")
    assert caught.value.violations == (("event", "must be a resource name like zones/{zone}/events/{event}"),)


@pytest.mark.parametrize("part", ["", "a/b", "-a", "a" * 129, "区", "a\0"])
def test_parts_that_no_name_can_hold_are_refused(part: str) -> None:
    with pytest.raises(Invalid):
        names.build("zones/{zone}", zone=part)


@pytest.mark.parametrize("pattern", ["", "zones/{Zone}", "zones/(a|b)", "zones/{zone"])
def test_patterns_are_checked(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a resource name pattern"):
        names.compiled(pattern)
