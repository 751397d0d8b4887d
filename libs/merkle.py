"""Merkle trees after RFC 9162, section 2: roots, inclusion proofs, consistency proofs, and their verification.

Pure functions over SHA-256. The hash of a leaf is SHA-256(0x00 || entry), of a node SHA-256(0x01 || left || right), the
root of the empty tree SHA-256 of nothing. A tree is not held in memory: the makers of proofs ask for the hashes of its
full subtrees by (level, index): level 0 are the leaves, and the node (l, i) covers leaves i * 2^l up to (i + 1) * 2^l.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Place = tuple[int, int]
# The hash of the full subtree at (level, index).
Hashes = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """A tree that only grows: its size and the hashes of its largest full subtrees, from left to right."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """Return the tree with the hash of one more leaf."""
        kept, carried = list(self.hashes), leaf
        size = self.size
        while size & 1:
            carried = node_hash(kept.pop(), carried)
            size >>= 1
        return Frontier(self.size + 1, (*kept, carried))

    def root(self) -> bytes:
        """Return the root."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over the hashes of leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    return frontier.root()


def root(size: int, hashes: Hashes) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range(0, size, hashes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, hashes: Hashes) -> list[bytes]:
    """Return the path from leaf `index`, counted from 0, to the root of the first `size` leaves (section 2.1.3.1).

    Raises ValueError when the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    first, last = 0, size
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            path.append(_range(middle, last, hashes))
            last = middle
        else:
            path.append(_range(first, middle, hashes))
            first = middle
    return path[::-1]


def consistency_proof(old: int, new: int, hashes: Hashes) -> list[bytes]:
    """Return the proof that the first `new` leaves begin with the first `old` leaves (section 2.1.4.1).

    Raises ValueError unless 0 <= old <= new. The proof is empty when old is 0 or new.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not contain one of {old}")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    first, last = 0, new
    whole = True
    while last != old:
        middle = first + _split(last - first)
        if old <= middle:
            path.append(_range(middle, last, hashes))
            last = middle
        else:
            path.append(_range(first, middle, hashes))
            first = middle
            whole = False
    if not whole:
        path.append(_range(first, last, hashes))
    return path[::-1]


def places(maker: Callable[[Hashes], object]) -> list[Place]:
    """Return the subtrees whose hashes a maker of a root or proof asks for, so that they can be read at once."""
    asked: dict[Place, None] = {}

    def note(level: int, index: int) -> bytes:
        asked[level, index] = None
        return bytes(HASH_BYTES)

    maker(note)
    return list(asked)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the hash of a leaf stands at `index` of the tree with this size and root (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for step in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and hmac.compare_digest(found, root)


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the tree (new, new_root) begins with the tree (old, old_root) (section 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old in {0, new}:
        expected = EMPTY_ROOT if old == 0 else new_root
        return not path and hmac.compare_digest(old_root, expected)
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    of_old = of_new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            of_old, of_new = node_hash(step, of_old), node_hash(step, of_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            of_new = node_hash(of_new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and hmac.compare_digest(of_old, old_root) and hmac.compare_digest(of_new, new_root)


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range(first: int, last: int, hashes: Hashes) -> bytes:
    """Return the root over leaves `first` up to but not `last`, a range that is a subtree of some tree."""
    size = last - first
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return hashes(level, first >> level)
    middle = first + _split(size)
    return node_hash(_range(first, middle, hashes), _range(middle, last, hashes))
