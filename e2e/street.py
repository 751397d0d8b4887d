"""Stories of the street: people of the city and of the street, and how what a resident reports comes to a crew."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from secrets import token_hex
from typing import Any
from uuid import uuid4

from e2e.federation import Caller, Federation

STREET = "sf-potrero-hill"
CREW = "organisations/potrero-hill.public-works"
People = dict[str, Caller]


@contextmanager
def people_of(federation: Federation, *, city: Mapping[str, str], street: Mapping[str, str]) -> Iterator[People]:
    """People by what the story calls them, signed in at the city and at the street with these logins."""
    with ExitStack() as stack:
        yield {
            called: stack.enter_context(federation.node(node).signed_in(login))
            for node, logins in (("sf", city), (STREET, street))
            for called, login in logins.items()
        }


def reported(people: People, words: str, place: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Let the resident report something, somewhere if not at a place; return the request, and its event."""
    report = {
        "type": "eventTypes/graffiti",
        "description": words,
        "place": place or {"address": f"{token_hex(6)} Street", "zoneHint": "Potrero Hill"},
        "requestId": str(uuid4()),
    }
    request = people["resident"].post("/v1/requests", report)["request"]
    event = str(people["resident"].follow(request["name"], lambda found: found["event"])["event"])
    return request, event


def with_the_crew(people: People, words: str) -> tuple[str, str]:
    """Let the resident report something; return the request, and its event once it is with the crew of the street."""
    request, event = reported(people, words)
    people["officer"].post(f"/v1/{event}:advance", {"action": "file", "reason": "is a matter for us"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch", "reason": "as routed"})
    return request["name"], event
