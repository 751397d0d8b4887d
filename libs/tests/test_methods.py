import pytest

from libs.methods import DEADLINE_DEFAULT_S, STREAM_DEADLINE_DEFAULT_S, PolicyError, _check, _zone_reader, methods_of
from libs.tests import sample
from libs.tests.sample import Request, Response
from quintet.options.v1.options_pb2 import Access


def test_methods_and_their_limits() -> None:
    methods = methods_of([sample.SAMPLE])
    assert len(methods) == len(sample.SAMPLE.methods)
    deadlines = {path.rpartition("/")[2]: method.deadline_s for path, method in methods.items()}
    assert (deadlines["Read"], deadlines["Open"]) == (1.0, DEADLINE_DEFAULT_S)
    assert deadlines["Watch"] == STREAM_DEADLINE_DEFAULT_S


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(PolicyError, match="Forgotten: declares no access"):
        methods_of([sample.SAMPLE, sample.UNDECLARED])


@pytest.mark.parametrize(
    "access",
    [
        Access(),
        Access(public=True, signed_in=True),
        Access(public=True, permission="a.b.c"),
        Access(permission="a.b"),
        Access(permission="A.b.c"),
        Access(internal=True, signed_in=True),
        Access(internal=True),
        Access(zone_field="zone", signed_in=True),
        Access(peer=True, permission="a.b.c"),
    ],
)
def test_declarations_that_contradict_themselves(access: Access) -> None:
    with pytest.raises(ValueError, match=r"permission"):
        _check(access)


@pytest.mark.parametrize("path", ["nothing", "thing", "thing.nothing", "things.zone", "count", "thing.zone.more", ""])
def test_zone_fields_are_text_fields(path: str) -> None:
    with pytest.raises(ValueError, match="not a text field"):
        _zone_reader(Request.DESCRIPTOR, path)


def test_zones_are_read_from_codes_and_names() -> None:
    assert _zone_reader(Request.DESCRIPTOR, "thing.zone")(Request(thing={"zone": "us-ca-sf"})) == "us-ca-sf"
    read = _zone_reader(Request.DESCRIPTOR, "event_name")
    assert read(Request(event_name="zones/us-ca-sf/events/1")) == "us-ca-sf"
    assert read(Request()) == ""


def test_responses_of_another_type_are_not_sent() -> None:
    method = methods_of([sample.SAMPLE])["/quintet.sample.v1.SampleService/Open"]
    assert method.encode(Response(text="x")) == Response(text="x").SerializeToString()
    with pytest.raises(TypeError):
        method.encode(Request())
