"""Merkle trees: the published vectors of RFC 6962 (the same tree as RFC 9162), and properties for all sizes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import merkle

# The vectors of the Certificate Transparency reference implementation, which its successors and RFC 9162 keep.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {(0, 1): [], (0, 8): [A, B, C], (5, 8): [D, E, ROOTS[4]], (2, 3): [ROOTS[2]], (1, 5): [ROOTS[1], B, D]}
CONSISTENCY = {(1, 1): [], (1, 8): [A, B, C], (6, 8): [F, E, ROOTS[4]], (2, 5): [B, D]}
LEAVES = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES]
SIZE_MAX = 200
MANY = [merkle.leaf_hash(number.to_bytes(2)) for number in range(SIZE_MAX)]

sizes = st.integers(0, SIZE_MAX)
spoiled = st.integers(0, 255)


def hashes(leaves: list[bytes]) -> merkle.Hashes:
    return lambda level, index: by_definition(leaves[index << level : (index + 1) << level])


def by_definition(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash, word for word as section 2.1.1 defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert merkle.root_of(LEAVES[:size]).hex() == ROOTS[size]
    assert merkle.root(size, hashes(LEAVES)).hex() == ROOTS[size]


@pytest.mark.parametrize(("place", "path"), INCLUSION.items())
def test_inclusion_proofs_are_the_published_ones(place: tuple[int, int], path: list[str]) -> None:
    index, size = place
    made = merkle.inclusion_proof(index, size, hashes(LEAVES))
    assert [step.hex() for step in made] == path
    assert merkle.verify_inclusion(LEAVES[index], index, size, made, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("pair", "path"), CONSISTENCY.items())
def test_consistency_proofs_are_the_published_ones(pair: tuple[int, int], path: list[str]) -> None:
    old, new = pair
    made = merkle.consistency_proof(old, new, hashes(LEAVES))
    assert [step.hex() for step in made] == path
    assert merkle.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), made)


@given(sizes)
def test_a_frontier_has_the_root_of_the_definition(size: int) -> None:
    assert merkle.root_of(MANY[:size]) == merkle.root(size, hashes(MANY)) == by_definition(MANY[:size])


@given(st.data(), spoiled)
def test_inclusion_holds_for_the_leaf_and_for_nothing_else(data: st.DataObject, spoil: int) -> None:
    size = data.draw(st.integers(1, SIZE_MAX))
    index = data.draw(st.integers(0, size - 1))
    root = by_definition(MANY[:size])
    path = merkle.inclusion_proof(index, size, hashes(MANY))
    assert merkle.verify_inclusion(MANY[index], index, size, path, root)
    other = data.draw(st.integers(-1, SIZE_MAX))
    if other != index:
        assert not merkle.verify_inclusion(MANY[index], other, size, path, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, path, root)
    assert not merkle.verify_inclusion(MANY[index], index, size, [*path, bytes(32)], root)
    assert not merkle.verify_inclusion(MANY[index], index, size, path, bytes(32))
    if path:
        at = spoil % len(path)
        assert not merkle.verify_inclusion(MANY[index], index, size, path[:at] + path[at + 1 :], root)
        assert not merkle.verify_inclusion(MANY[index], index, size, [*path[:at], bytes(32), *path[at + 1 :]], root)


@given(sizes, sizes, spoiled)
def test_consistency_holds_for_a_tree_that_grew_and_for_no_other(one: int, another: int, spoil: int) -> None:
    old, new = sorted((one, another))
    roots = by_definition(MANY[:old]), by_definition(MANY[:new])
    path = merkle.consistency_proof(old, new, hashes(MANY))
    assert merkle.verify_consistency(old, new, *roots, path)
    assert not merkle.verify_consistency(old, new, *roots, [*path, bytes(32)])
    assert not merkle.verify_consistency(old, new, bytes(32), roots[1], path)
    if old:
        assert not merkle.verify_consistency(old, new, roots[0], bytes(32), path)
        # A tree that was rewritten before its old end cannot be shown to continue it.
        rewritten = [bytes(32), *MANY[1:new]]
        forged = merkle.consistency_proof(old, new, hashes(rewritten))
        assert not merkle.verify_consistency(old, new, roots[0], by_definition(rewritten), forged)
    if path:
        at = spoil % len(path)
        assert not merkle.verify_consistency(old, new, *roots, path[:at] + path[at + 1 :])
        assert not merkle.verify_consistency(old, new, *roots, [*path[:at], bytes(32), *path[at + 1 :]])
    if old < new:
        assert not merkle.verify_consistency(new, old, roots[1], roots[0], path)


def test_what_is_no_part_of_the_tree_has_no_proof() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="no leaf"):
            merkle.inclusion_proof(index, size, hashes(MANY))
    with pytest.raises(ValueError, match="does not contain"):
        merkle.consistency_proof(6, 5, hashes(MANY))


@given(sizes, sizes)
def test_a_proof_asks_for_few_subtrees(one: int, another: int) -> None:
    old, new = sorted((one, another))
    asked = merkle.places(lambda get: merkle.consistency_proof(old, new, get))
    assert len(asked) == len(set(asked)) <= 2 * SIZE_MAX.bit_length()
    assert all((index + 1) << level <= new for level, index in asked)
