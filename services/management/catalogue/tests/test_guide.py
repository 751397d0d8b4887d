"""docs/management.md says all that a platform team can write, in both languages."""

from __future__ import annotations

import pytest

from quintet.management.v1 import calendars_pb2, catalogue_pb2, management_pb2, plans_pb2
from services.management.loop_yaml import ACTION_KEYS, LOOP_KEYS, PERMISSIONS
from services.management.tests.samples import FOLDER

DOCS = FOLDER.parents[1] / "docs"
# What is said of every message elsewhere, and what nobody writes.
LEFT_OUT = {"name", "version"}
MESSAGES = (
    management_pb2.EventType,
    catalogue_pb2.ComponentType,
    calendars_pb2.Calendar,
    calendars_pb2.SpecialDays,
    plans_pb2.Plan,
    plans_pb2.PlanStep,
)


@pytest.mark.parametrize("page", ["management.md", "management.zh-CN.md"])
def test_every_key_is_explained(page: str) -> None:
    text = (DOCS / page).read_text()
    fields = {field.name for message in MESSAGES for field in message.DESCRIPTOR.fields} - LEFT_OUT
    missing = [key for key in sorted({*LOOP_KEYS, *ACTION_KEYS, *PERMISSIONS, *fields}) if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize("page", ["management.md", "management.zh-CN.md"])
def test_every_example_is_named(page: str) -> None:
    text = (DOCS / page).read_text()
    examples = DOCS / "examples" / "management"
    files = sorted(path.relative_to(DOCS) for path in examples.rglob("*.yaml"))
    assert [file for file in files if f"({file})" not in text] == []
