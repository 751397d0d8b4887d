from pathlib import Path

import pytest

from tools import gen, protoc

NAME = f"{gen.PYTHON_OUT}/sample/v1/sample_pb2.py"


def test_install_writes_what_differs_and_removes_what_is_no_longer_made(tmp_path: Path) -> None:
    assert gen.install({NAME: b"one", gen.OPENAPI_OUT: b"{}"}, tmp_path) == sorted([NAME, gen.OPENAPI_OUT])
    assert gen.install({NAME: b"two", gen.OPENAPI_OUT: b"{}"}, tmp_path) == [NAME]
    assert gen.install({gen.OPENAPI_OUT: b"{}"}, tmp_path) == [NAME]
    assert not (tmp_path / NAME).exists()


def test_differences_name_the_file_and_the_lines() -> None:
    lines = gen.differences({NAME: b"a\nnew\n"}, {NAME: b"a\nold\n"})
    assert "-old" in lines
    assert "+new" in lines
    assert any(NAME in line for line in lines)


def test_differences_name_missing_stale_and_binary_files() -> None:
    made = {"made.py": b"", "descriptors.binpb": b"\xff\xfe"}
    present = {"stale.py": b"", "descriptors.binpb": b"\xff"}
    assert gen.differences(made, present) == [
        "binary file descriptors.binpb differs",
        "made.py: missing from the tree",
        "stale.py: no longer made",
    ]


def test_no_differences_when_the_tree_is_current() -> None:
    assert gen.differences({NAME: b"a"}, {NAME: b"a"}) == []


def test_protoc_refuses_a_broken_proto_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "broken.proto").write_text('syntax = "proto3"; message {}')
    with pytest.raises(protoc.ProtocError, match=r"broken\.proto"):
        protoc.run_protoc([f"--descriptor_set_out={tmp_path / 'out'}"], ["broken.proto"], (tmp_path,))
