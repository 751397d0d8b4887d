"""Warnings in force as other systems take them; management is a stand-in."""

from xml.etree import ElementTree as ET

import pytest

from gateway.adapters.tests.standin import Services, ago
from gateway.adapters.tests.test_adapters import services, site  # noqa: F401 - a fixture
from quintet.management.v1 import channels_pb2

ATOM = "{http://www.w3.org/2005/Atom}"
NAME = "zones/us-ca-sf-d10/publicWarnings/w1/capMessages/2"


def warned() -> channels_pb2.CapMessage:
    message = channels_pb2.CapMessage(name=NAME, identifier="sf.us-ca-sf-d10.w1.2", xml="<alert/>")
    message.headline.zh, message.headline.en = "暴雨预警", "Heavy rain & more"
    message.sent_at.FromDatetime(ago())
    return message


@pytest.mark.parametrize(
    ("language", "title", "headline"),
    [
        ("zh-CN", "生效中的预警：City of San Francisco", "暴雨预警"),
        ("en", "Warnings in force: City of San Francisco", "Heavy rain & more"),
    ],
)
async def test_the_feed_leads_to_the_documents(
    services: Services,  # noqa: F811 - the fixture
    language: str,
    title: str,
    headline: str,
) -> None:
    services.warnings = [warned()]
    async with site(services) as client:
        answer = await client.get("/feeds/warnings.atom", params={"zone": "us-ca-sf-d10", "lang": language})
        assert answer.headers["content-type"] == "application/atom+xml; charset=utf-8"
        feed = ET.fromstring(answer.text)  # noqa: S314 - our own document
        assert feed.findtext(f"{ATOM}title") == title
        [entry] = feed.findall(f"{ATOM}entry")
        assert entry.findtext(f"{ATOM}title") == headline
        assert entry.findtext(f"{ATOM}updated") == feed.findtext(f"{ATOM}updated")
        link = entry.find(f"{ATOM}link")
        assert link is not None
        document = await client.get(link.attrib["href"])
    assert (document.text, document.headers["content-type"]) == ("<alert/>", "application/cap+xml; charset=utf-8")


async def test_a_quiet_city_has_an_empty_feed(services: Services) -> None:  # noqa: F811 - the fixture
    async with site(services) as client:
        feed = ET.fromstring((await client.get("/feeds/warnings.atom")).text)  # noqa: S314 - our own document
    assert feed.findall(f"{ATOM}entry") == []
    assert feed.findtext(f"{ATOM}id") == "urn:quintet:sf:warnings:us-ca-sf"


async def test_what_is_not_there_is_not_found(services: Services) -> None:  # noqa: F811 - the fixture
    async with site(services) as client:
        wrong = await client.get("/feeds/warnings.atom", params={"zone": "../x"})
        missing = await client.get("/feeds/cap/us-ca-sf/w9/1.xml")
        odd = await client.get("/feeds/cap/us-ca-sf/w9/one.xml")
    assert (wrong.status_code, wrong.json()["details"][0]["reason"]) == (400, "FIELD_INVALID")
    assert (missing.status_code, missing.json()["details"][0]["reason"]) == (404, "CAP_MESSAGE_NOT_FOUND")
    assert odd.status_code == 404
