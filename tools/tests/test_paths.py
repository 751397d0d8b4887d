import pytest

from tools.openapi.paths import SEGMENT_PATTERN, expand, singular
from tools.openapi.source import OpenApiError, Rules

NO_RULES = Rules()


def names(template: str, rules: Rules = NO_RULES) -> tuple[str, list[str]]:
    path = expand(template, lambda _: rules)
    return path.text, [parameter.name for parameter in path.parameters]


def test_a_resource_name_becomes_one_parameter_per_wildcard() -> None:
    assert names("/v1/{name=zones/*/events/*}:advance") == (
        "/v1/zones/{zone}/events/{event}:advance",
        ["zone", "event"],
    )


def test_the_resource_rule_names_the_parameters() -> None:
    rules = Rules(resource="serviceAccounts/{service_account}")
    assert names("/v1/{name=serviceAccounts/*}", rules) == (
        "/v1/serviceAccounts/{serviceAccount}",
        ["serviceAccount"],
    )


def test_a_resource_rule_of_another_shape_does_not_name_them() -> None:
    assert names("/v1/{name=zones/*}", Rules(resource="zones/{zone}/events/{event}"))[1] == ["zone"]


def test_a_variable_without_segments_keeps_its_name() -> None:
    assert names("/v1/peers/{peer_id}/link") == ("/v1/peers/{peerId}/link", ["peerId"])


def test_a_nested_field_is_reported_as_bound() -> None:
    assert expand("/v1/{zone.name=zones/*}", lambda _: NO_RULES).fields == ("zone.name",)


def test_a_pattern_over_the_whole_name_is_cut_to_the_segment() -> None:
    path = expand("/v1/{name=zones/*}", lambda _: Rules(pattern="zones/[a-z]{1,9}"))
    assert path.parameters[0].pattern == "^(?:[a-z]{1,9})$"


@pytest.mark.parametrize("pattern", ["zones/[a-z]+/events/[a-z]+", "[a-z/]+", ""])
def test_a_pattern_that_cannot_be_cut_leaves_the_common_one(pattern: str) -> None:
    path = expand("/v1/{name=zones/*}", lambda _: Rules(pattern=pattern))
    assert path.parameters[0].pattern == f"^(?:{SEGMENT_PATTERN})$"


def test_two_segments_of_one_name_are_refused() -> None:
    with pytest.raises(OpenApiError, match=r"both be called \{zone\}"):
        names("/v1/{from=zones/*}/to/{to=zones/*}")


def test_any_number_of_segments_is_refused() -> None:
    with pytest.raises(OpenApiError, match="any number of segments"):
        names("/v1/{name=files/**}")


@pytest.mark.parametrize(
    ("collection", "member"),
    [("zones", "zone"), ("people", "person"), ("policies", "policy"), ("deviceModels", "deviceModel")],
)
def test_singular(collection: str, member: str) -> None:
    assert singular(collection) == member
