"""What somebody gets who asks a node's edge for something other than its API; the services are stand-ins."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric

from gateway.adapters import AdapterServer, build_app, jwks
from gateway.adapters.metrics import NodeMetrics
from gateway.adapters.readiness import READY
from gateway.adapters.report import queues
from gateway.adapters.tests.standin import Line, Services, peer, served, sources, zone
from gateway.adapters.texts import MESSAGES, Texts, choose_language
from libs.config import PARTS
from libs.telemetry import metrics_text
from quintet.federation.v1 import federation_pb2


@pytest.fixture
async def services() -> Services:
    made = Services()
    await made.set_serving(serving=True)
    return made


@asynccontextmanager
async def site(services: Services, /, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the adapters, on real channels and connections."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(served(services))
        app = build_app(sources(address, **changes))
        stack.push_async_callback(app.state.close)
        server = AdapterServer(app)
        stack.push_async_callback(server.stop)
        base = f"http://{await server.start()}"
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=base, trust_env=False))


async def broken() -> None:
    raise OSError("no such file: /a/place/that/nobody/needs/to/know")


# ------------------------------------------------------------------------------------------------------ keys and health


async def test_the_keys_are_a_jwk_set_that_caches_may_keep(services: Services) -> None:
    async with site(services) as client:
        answer = await client.get("/.well-known/jwks.json")
    key = {"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "kid": "k1", "use": "sig", "alg": "ES256"}
    assert answer.json() == {"keys": [key]}
    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_many_askers_make_one_question(services: Services) -> None:
    async with site(services) as client:
        for _ in range(5):
            await client.get("/.well-known/jwks.json")
    assert services.asked == 1


async def test_the_last_keys_stay_while_identity_is_away(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "JWKS_FRESH_S", 0.0)
    address = ""
    async with served(services) as found:
        address = found
        app = build_app(sources("", address=lambda _: address))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            before = await client.get("/.well-known/jwks.json")
            address = ""
            await app.state.close()
            after = await client.get("/.well-known/jwks.json")
    assert before.json()["keys"]
    assert after.json() == before.json()


async def test_without_identity_there_are_no_keys(services: Services) -> None:
    async with site(services, address=lambda _: "") as client:
        answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 503
    assert answer.json()["details"][0]["reason"] == "DEPENDENCY_AWAY"


async def test_alive_is_not_ready(services: Services) -> None:
    await services.set_serving(serving=False)
    async with site(services) as client:
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["management"]["detail"] == "management does not serve yet"
    assert answer.json()["parts"]["postgres"]["ready"] is True


async def test_ready_when_everything_answers(services: Services) -> None:
    async with site(services) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert list(answer.json()["parts"]) == [*PARTS, "postgres", "nats"]
    assert b'quintet_ready{part="nats"} 1.0' in metrics_text()


async def test_what_is_broken_is_named_without_its_details(services: Services) -> None:
    async with site(services, probes={"postgres": broken}) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["postgres"]["detail"] == "cannot be asked (OSError)"
    assert READY.labels("postgres")._value.get() == 0


# ------------------------------------------------------------------------------------------------------ the status page


def busy(services: Services) -> None:
    services.peers = [
        peer("sf-d6", federation_pb2.PEER_KIND_CHILD, title="District 6", zone="us-ca-sf-d6", connected=True),
        peer(
            "beijing",
            federation_pb2.PEER_KIND_PARTNER,
            title="<b>北京市</b>",
            backlog=1284,
            backlog_bytes=2_345_678,
            lanes=[
                federation_pb2.LaneStatus(lane="control"),
                federation_pb2.LaneStatus(lane="facts", backlog=1280),
                federation_pb2.LaneStatus(lane="bulk", backlog=4),
            ],
            last_error="refused",
            alarms=["BACKLOG_HIGH", "NEW_ONE"],
        ),
    ]
    services.contracts = 2
    services.zones = [zone("us-ca-sf", "sf", 12, 2, filed=3, closed=7), zone("us-ca-sf-d6", "sf-d6", 5, 0, closed=5)]


async def test_the_page_shows_node_services_peers_and_counters_in_english(services: Services) -> None:
    busy(services)
    async with site(services) as client:
        answer = await client.get("/", headers={"accept-language": "en-GB,en;q=0.9,zh;q=0.1"})
    page = _words(answer.text)
    assert answer.headers["content-language"] == "en"
    for text in ("City of San Francisco", "Ready", "Management", "Serving", "PostgreSQL", "Events by zone"):
        assert text in page
    assert "Contracts in force 2" in page
    assert "Peers connected 1 of 2" in page
    assert "District 6 sf-d6 Child us-ca-sf-d6 Connected 0" in page
    assert re.search(
        r"Down 1,284 facts 1,280 rows 4 2.3 MB 4 min ago 3 min ago in 8[89] d backlog high ?, NEW_ONE refused", page
    )
    assert "Alarms of links 2" in page
    assert "us-ca-sf sf 12 2 10 3 7" in page
    assert "Total 17 2 15 3 12" in page
    # What comes from elsewhere is text, never markup.
    assert "<b>北京市" not in answer.text
    assert services.tokens[0].startswith("Bearer ")


async def test_the_page_speaks_chinese(services: Services) -> None:
    busy(services)
    async with site(services) as client:
        by_header = await client.get("/", headers={"accept-language": "zh-Hans-CN,zh;q=0.9,en;q=0.8"})
        by_link = await client.get("/?lang=zh-CN", headers={"accept-language": "en"})
    for answer in (by_header, by_link):
        page = _words(answer.text)
        assert '<html lang="zh-CN">' in answer.text
        for text in (
            "节点状态",
            "就绪",
            "一网统管",
            "分区域事件",
            "立案",
            "结案",
            "伙伴城市",
            "已断开",
            "积压偏高",
            "事实 1,280",
        ):
            assert text in page


async def test_the_page_says_what_cannot_be_had(services: Services) -> None:
    servers = [Line("postgres", "restarting", 4, "exited with code 1"), Line("nats")]
    changes: dict[str, Any] = {
        "address": lambda _: "",
        "services": list,
        "probes": {"postgres": broken},
        "servers": lambda: servers,
    }
    async with site(services, **changes) as client:
        page = _words((await client.get("/")).text)
        found = (await client.get("/status.json")).json()
    assert "Not ready" in page
    assert "Identity Away identity is not running" in page
    assert "PostgreSQL Restarting 4" in page
    assert page.count("Cannot be asked for now.") >= 2  # peers and counters
    assert found["ready"] is False
    assert found["peers"] is None
    assert found["services"][0] == {
        "name": "identity",
        "ready": False,
        "state": "",
        "detail": "identity is not running",
        "restarts": 0,
        "failure": "",
        "since": None,
    }


async def test_the_same_for_programs(services: Services) -> None:
    busy(services)
    async with site(services) as client:
        found = (await client.get("/status.json")).json()
    assert found["node"]["id"] == "sf"
    assert found["node"]["started"].endswith("Z")
    assert found["contracts"] == {"active": 2, "more": False}
    assert [line["node"] for line in found["peers"]] == ["sf-d6", "beijing"]
    assert found["peers"][1]["backlog_bytes"] == 2_345_678
    assert found["peers"][1]["backlog_by_lane"] == {"control": 0, "facts": 1280, "bulk": 4}
    assert found["counters"]["total"]["by_status"] == {"filed": 3, "closed": 12}


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics"])
async def test_with_a_token_the_status_is_for_those_who_know_it(services: Services, path: str) -> None:
    async with site(services, status="token", status_token="right") as client:
        answers = [
            await client.get(path),
            await client.get(path, auth=("status", "wrong")),
            await client.get(path, headers={"authorization": "Basic !"}),
            await client.get(path, headers={"authorization": "Bearer right"}),
        ]
        assert (await client.get(path, auth=("status", "right"))).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
    assert [answer.status_code for answer in answers] == [401] * 4
    assert answers[0].headers["www-authenticate"].startswith("Basic ")
    assert "San Francisco" not in "".join(answer.text for answer in answers)


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("[::1]:8080", True),
        ("node.example", False),
        ("127.0.0.1.node.example", False),
        ("", False),
        ("[", False),
    ],
)
async def test_the_local_status_is_for_this_machine_by_its_own_names(services: Services, host: str, seen: bool) -> None:
    async with site(services, status="local", status_token="right") as client:
        bare = await client.get("/status.json", headers={"host": host})
        with_token = await client.get("/status.json", headers={"host": host}, auth=("status", "right"))
    assert bare.status_code == (200 if seen else 401)
    assert with_token.status_code == 200


# --------------------------------------------------------------------------------------------- the API to read, metrics


async def test_the_api_is_described_and_can_be_read_without_any_other_host(services: Services) -> None:
    async with site(services) as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
        loaded = [await client.get(path) for path in re.findall(r'(?:src|href)="([^"]+)"', page.text)]
    assert "/v1/requests" in document["paths"]
    assert [answer.status_code for answer in loaded] == [200] * len(loaded)
    assert {answer.headers["content-type"].partition(";")[0] for answer in loaded} >= {"text/css", "text/javascript"}
    assert "http://" not in page.text
    assert "https://" not in page.text


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/nothing", "/static/status.css", "/docs/assets/index.css"])
async def test_every_answer_carries_the_headers_that_protect_browsers(services: Services, path: str) -> None:
    async with site(services) as client:
        headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "'unsafe-inline'" not in headers["content-security-policy"] or path == "/docs"
    assert headers["cache-control"]


async def test_what_is_not_there_is_refused_as_the_api_refuses(services: Services) -> None:
    async with site(services) as client:
        missing, wrong = await client.get("/nothing"), await client.post("/healthz")
        outside = await client.get("/static/%2e%2e/app.py")
    assert (missing.status_code, missing.json()["details"][0]["reason"]) == (404, "NO_SUCH_METHOD")
    assert (wrong.status_code, wrong.json()["details"][0]["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert outside.status_code == 404


async def test_metrics_of_other_processes_stand_beside_our_own(services: Services) -> None:
    other = Services()
    text = '# TYPE quintet_outbox_backlog gauge\nquintet_outbox_backlog{part="delivery"} 7\n# TYPE up gauge\nup 1\n'

    async def serve_metrics(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    server = AdapterServer(serve_metrics)
    addresses = {"delivery": await server.start(), "sharing": "127.0.0.1:1"}
    async with site(other, metrics=NodeMetrics(lambda: addresses).collect) as client:
        answer = await client.get("/metrics")
        found = (await client.get("/status.json")).json()
    await server.stop()
    assert 'quintet_outbox_backlog{part="delivery"} 7.0' in answer.text
    assert "\nup 1" not in answer.text
    assert answer.text.count("# TYPE quintet_outbox_backlog gauge") == 1
    assert {line["part"]: line["outbox"] for line in found["queues"]}["delivery"] == 7


# ---------------------------------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("", "en;q=0.5, zh-TW;q=0.7", "zh-CN"),
        ("", "fr, de;q=0.9", "en"),
        ("", "zh;q=0, en;q=0.1", "en"),
        ("", "zh;q=nonsense", "en"),
        ("en", "zh-CN", "en"),
        ("fr", "zh-CN", "zh-CN"),
        ("zh", "", "zh-CN"),
    ],
)
def test_the_reader_gets_the_language_that_they_prefer(asked: str, accepted: str, chosen: str) -> None:
    assert choose_language(asked, accepted) == chosen


def test_a_message_that_lacks_a_language_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "messages.toml"
    path.write_text('[status]\ntitle = { en = "Node" }\n')
    with pytest.raises(ValueError, match=r"status.title must be in en and zh-CN"):
        Texts(path)


def test_every_message_of_the_templates_exists() -> None:
    template = (MESSAGES.parent / "templates" / "status.html").read_text()
    texts = Texts()
    for key in re.findall(r'words\.say\(["\']([a-z_.]+)["\'][,)]', template):
        assert texts.say("zh-CN", key, time="", timezone="", seconds="", count="", total="", age="", lane="")


async def test_people_see_that_evidence_cannot_be_kept(services: Services) -> None:
    metric = Metric("quintet_evidence_store", "", "gauge")
    for state, value in (("ok", 1), ("no_bucket", 0), ("ok", 0), ("no_bucket", 1)):  # two processes
        metric.add_sample("quintet_evidence_store", {"kind": "bucket", "state": state}, value)

    async def metrics() -> list[Metric]:
        return [metric]

    async with site(services, metrics=metrics) as client:
        pages = [await client.get("/", params={"lang": language}) for language in ("en", "zh")]
        found = (await client.get("/status.json")).json()
    assert "Evidence (bucket) Away the bucket does not exist" in _words(pages[0].text)
    assert "证据存储（对象存储） 不可用 存储桶不存在" in _words(pages[1].text)
    assert [(line["name"], line["ready"]) for line in found["servers"]][-1] == ("evidence_bucket", False)
    assert found["ready"] is True


def test_queues_come_in_the_order_of_the_parts() -> None:
    metric = Metric("quintet_inbox_dead", "", "counter")
    for part, value in (("sharing", 2), ("identity", 1)):
        metric.add_sample("quintet_inbox_dead_total", {"part": part}, value)
    assert [(line.part, line.dead) for line in queues([metric])] == [("identity", 1), ("sharing", 2)]


def _words(page: str) -> str:
    """The text of a page, with single blanks."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)).split())
