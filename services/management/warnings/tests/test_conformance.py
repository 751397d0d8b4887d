"""No input makes a method of the centre or of plans fail, with warnings, visits and runs there to be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import conformance
from libs.tests import callers
from quintet.management.v1 import channels_pb2, indicators_pb2, plans_pb2, visits_pb2, warnings_pb2
from services.management.plans.tests.test_plans import activated
from services.management.warnings.tests.samples import CITY, D10, OFFICER, WORKS, published, put_indicator

if TYPE_CHECKING:
    from services.management.warnings.tests.conftest import Centre

MODULES = (channels_pb2, indicators_pb2, plans_pb2, visits_pb2, warnings_pb2)
SERVICES = [service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()]


async def test_no_input_makes_a_method_fail(centre: Centre) -> None:
    indicator = await put_indicator(centre)
    warning = await published(centre, audience={"zones": [D10], "organisations": [WORKS]}, acknowledgeMinutes=5)
    visit = visits_pb2.VisitDraft(who="a", where="b", why="c", assigned_to=OFFICER)
    await centre.ask("AddVisits", visits_pb2.AddVisitsRequest(name=warning.name, visits=[visit]), OFFICER)
    run = await activated(centre)
    known = {
        "name": [indicator.name, warning.name, f"{warning.name}/visits/1", f"{warning.name}/capMessages/1", run.name,
                 run.plan, "webhooks/w"],
        "parent": [f"zones/{CITY}", f"zones/{D10}"],
        "zone": [CITY, D10],
        "plan": [run.plan],
        "step": ["pumps", "close-road"],
        "recipient": [WORKS, "roles/leader"],
        "type": ["quintet.management.v1.EventOpened"],
        "field": ["event.type", "event.reports", "event.opened_at.seconds"],
        "url": ["http://127.0.0.1:9/", "https://example.org"],
    }  # fmt: skip
    token = callers.token("people/everything")
    assert await conformance.broken_by_bad_input(centre.address, SERVICES, token=token, known=known) == []
