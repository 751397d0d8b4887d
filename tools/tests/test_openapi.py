import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tools import protoc
from tools.openapi import OpenApiError, document_text
from tools.openapi.raw import RawAnswer, RawRoute

SAMPLE = Path(__file__).with_name("sample.proto").read_text()
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]


def document_of(proto: str, folder: Path, *raw_routes: RawRoute) -> Any:
    protoc.copy_imports()
    (folder / "sample.proto").write_text(proto)
    out = folder / "out.binpb"
    protoc.run_protoc(
        ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"],
        ["sample.proto", *protoc.IMPORTED_PROTOS],
        (folder, protoc.PROTO_ROOT, protoc.IMPORTED_ROOT),
    )
    return json.loads(document_text(out.read_bytes(), raw_routes))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return document_of(SAMPLE, tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def thing(document: Any) -> Any:
    return document["components"]["schemas"]["quintet.sample.v1.Thing"]


def test_the_document_is_valid_openapi(document: Any) -> None:
    validate(document)


def test_the_document_in_the_tree_is_valid_openapi() -> None:
    validate(json.loads((protoc.ROOT / "gateway" / "openapi.json").read_text()))


def test_routes_of_bytes_are_described_from_a_list(tmp_path: Path) -> None:
    raw = RawRoute(
        operation="FetchThing",
        verb="get",
        template="/v1/{name=zones/*/things/*}/content",
        method="quintet.sample.v1.SampleService.GetThing",
        description="FetchThing gives it as it is. It takes a while.",
        query=("filter.only_colour",),
        headers=("Range",),
        answers=(RawAnswer("200", "Its bytes.", media_types=("image/png",), headers=("ETag",)),),
    )
    document = document_of(SAMPLE, tmp_path, raw)
    validate(document)
    found = document["paths"]["/v1/zones/{zone}/things/{thing}/content"]["get"]
    assert (found["operationId"], found["summary"]) == ("SampleService_FetchThing", "FetchThing gives it as it is")
    assert [(each["name"], each["in"]) for each in found["parameters"]] == [
        ("zone", "path"),
        ("thing", "path"),
        ("filter.onlyColour", "query"),
        ("Range", "header"),
    ]
    assert found["responses"]["200"]["content"] == {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    assert set(found["responses"]) == {"200", "400", "401", "403", "default"}
    assert (found["security"], found["x-permission"]) == (BEARER, "sample.things.read")
    taken = replace(raw, template="/v1/{name=zones/*/things/*}")
    with pytest.raises(OpenApiError, match="is taken by another method"):
        document_of(SAMPLE, tmp_path, taken)
    with pytest.raises(OpenApiError, match=r"there is no method quintet\.sample\.v1\.SampleService\.Nothing"):
        document_of(SAMPLE, tmp_path, replace(raw, method="quintet.sample.v1.SampleService.Nothing"))


def test_the_same_protos_make_the_same_bytes(tmp_path: Path, document: Any) -> None:
    assert json.dumps(document_of(SAMPLE, tmp_path)) == json.dumps(document)


def test_every_route_is_a_path_and_internal_methods_have_none(document: Any) -> None:
    routes = {(path, verb) for path, verbs in document["paths"].items() for verb in verbs}
    assert routes == {
        ("/v1/things", "get"),
        ("/v1/things:watch", "post"),
        ("/v1/zones/{zone}/things/{thing}", "get"),
        ("/v1/zones/{zone}/things/{thing}", "put"),
        ("/v1/zones/{zone}/things/{thing}:announce", "post"),
    }


def test_access_becomes_security_and_permission(document: Any) -> None:
    path = document["paths"]["/v1/zones/{zone}/things/{thing}"]
    assert (path["get"]["security"], path["get"]["x-permission"]) == (BEARER, "sample.things.read")
    assert (path["get"]["x-permission-zone-field"], path["get"]["x-deadline-s"]) == ("name", 7)
    assert (path["put"]["security"], path["put"].get("x-permission")) == (BEARER, None)
    announce = document["paths"]["/v1/zones/{zone}/things/{thing}:announce"]["post"]
    assert announce["security"] == []
    assert "401" not in announce["responses"]


def test_fields_outside_path_and_body_are_query_parameters(document: Any) -> None:
    path = document["paths"]["/v1/zones/{zone}/things/{thing}"]
    assert [(p["name"], p["in"]) for p in path["get"]["parameters"]] == [
        ("zone", "path"),
        ("thing", "path"),
        ("readMask", "query"),
        ("filter.onlyColour", "query"),
    ]
    assert [p["name"] for p in path["put"]["parameters"]] == ["zone", "thing", "requestId"]
    second = document["paths"]["/v1/things"]["get"]
    assert second["operationId"] == "SampleService_GetThing_2"
    assert {p["name"]: p.get("required", False) for p in second["parameters"]}["name"] is True


def test_a_body_leaves_out_what_the_path_says(document: Any) -> None:
    verbs = document["paths"]["/v1/zones/{zone}/things/{thing}"]
    body = verbs["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert "name" not in body["properties"]
    assert body["required"] == ["colours"]
    announce = document["paths"]["/v1/zones/{zone}/things/{thing}:announce"]["post"]
    properties = announce["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert list(properties) == ["text"]


def test_a_stream_is_one_object_per_line(document: Any) -> None:
    answer = document["paths"]["/v1/things:watch"]["post"]["responses"]["200"]
    assert "$ref" in answer["content"]["application/json"]["schema"]
    assert answer["description"].endswith("One JSON object per line, as they come.")


def test_errors_are_google_rpc_status(document: Any) -> None:
    content = document["components"]["responses"]["Error"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/google.rpc.Status"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("pageSize", {"type": "integer", "format": "int32", "minimum": 0, "maximum": 1000}),
        ("data", {"type": "string", "contentEncoding": "base64"}),
        ("madeAt", {"type": "string", "format": "date-time"}),
        ("code", {"type": "string", "maxLength": 2, "pattern": "^(?:[a-z]{2})?$"}),
        ("password", {"type": "string", "format": "password"}),
        ("owner", {"type": "string", "x-personal": True}),
        ("detail", {"type": "object"}),
        ("maybe", {"type": ["boolean", "null"]}),
        ("weight", {"type": "number", "format": "double", "minimum": 0.5}),
    ],
)
def test_fields_follow_the_json_mapping_and_their_rules(thing: Any, field: str, expected: dict[str, Any]) -> None:
    schema = dict(thing["properties"][field])
    schema.pop("description")
    assert schema == expected


def test_required_fields_are_required_and_not_empty(thing: Any) -> None:
    assert thing["required"] == ["name", "colours"]
    assert thing["properties"]["name"]["minLength"] == 1
    assert thing["properties"]["name"]["pattern"].startswith("^(?:zones/[A-Za-z0-9]")
    colours = thing["properties"]["colours"]
    assert (colours["minItems"], colours["maxItems"]) == (1, 3)


def test_64_bit_integers_are_strings_and_say_their_bounds_in_words(thing: Any) -> None:
    assert thing["properties"]["big"]["type"] == "string"
    assert thing["properties"]["big"]["description"] == "big is big. At least 1."
    assert thing["properties"]["counts"]["additionalProperties"]["type"] == "string"
    assert thing["properties"]["counts"]["maxProperties"] == 9


def test_comments_use_the_names_of_json(thing: Any) -> None:
    assert thing["properties"]["pageSize"]["description"] == "pageSize is a size."


def test_a_choice_is_described_and_a_presence_bit_is_not(thing: Any) -> None:
    assert thing["description"] == "Thing is a thing. At most one of left, right is set."


def test_enums_are_names_with_their_comments(document: Any) -> None:
    colour = document["components"]["schemas"]["quintet.sample.v1.Colour"]
    assert colour["enum"] == ["COLOUR_UNSPECIFIED", "COLOUR_RED"]
    assert "- COLOUR_RED is red." in colour["description"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("option (quintet.options.v1.access) = {signed_in: true};", "", "PutThing declares no access"),
        ("{internal: true}", "{public: true}", "Hidden has no google.api.http route"),
        ('get: "/v1/things"', 'post: "/v1/things:watch"', "is taken by another method"),
        ("{signed_in: true}", "{internal: true}", "PutThing is internal or for peers and must have no REST route"),
        ("{thing.name=", "{thing.title=", "has no field title"),
        ('resource: "zones/{zone}/things/{thing}"', 'resource: "zones/{area}/things/{thing}"', "under two names"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in SAMPLE
    with pytest.raises(OpenApiError, match=message):
        document_of(SAMPLE.replace(before, after, 1), tmp_path)
