"""Claims about the Merkle tree: it is that of RFC 6962, by its published vectors and by another implementation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from ai_assets.signoff.merkle import EMPTY, Frontier, Tree, consistent, included, leaf_hash

# Of the reference implementation (google/certificate-transparency, merkle_tree_test).
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [bytes.fromhex(text) for text in (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]  # fmt: skip
SIZES = st.integers(min_value=1, max_value=70)


def tree_of(size: int) -> Tree:
    return Tree(leaf_hash(b"%d" % number) for number in range(size))


def theirs_of(size: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries([b"%d" % number for number in range(size)])
    return tree


def test_roots_are_the_published_ones() -> None:
    tree = Tree(map(leaf_hash, LEAVES))
    assert [tree.root(size) for size in range(1, 9)] == ROOTS
    assert tree.root(0) == Frontier().root() == EMPTY


@dataclass(frozen=True)
class Published:
    id: str
    path: Callable[[Tree], list[bytes]]
    expected: tuple[str, ...]


PATHS = [
    Published("leaf 0 of 8", lambda tree: tree.inclusion(0, 8), (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    )),
    Published("leaf 5 of 8", lambda tree: tree.inclusion(5, 8), (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    )),
    Published("leaf 2 of 3", lambda tree: tree.inclusion(2, 3), (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    )),
    Published("1 to 1", lambda tree: tree.consistency(1, 1), ()),
    Published("6 to 8", lambda tree: tree.consistency(6, 8), (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    )),
    Published("2 to 5", lambda tree: tree.consistency(2, 5), (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    )),
]  # fmt: skip


@pytest.mark.parametrize("case", PATHS, ids=lambda case: case.id)
def test_proofs_are_the_published_ones(case: Published) -> None:
    assert case.path(Tree(map(leaf_hash, LEAVES))) == [bytes.fromhex(text) for text in case.expected]


@given(size=SIZES)
def test_roots_are_those_of_another_implementation(size: int) -> None:
    assert tree_of(size).root() == theirs_of(size).get_root()


@given(size=SIZES, data=st.data())
def test_inclusion_proofs_are_those_of_another_implementation(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    theirs = theirs_of(size).prove_inclusion(index + 1)
    assert tree_of(size).inclusion(index) == theirs.path[1:]


def subproof(first: int, leaves: Sequence[bytes], *, known: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2, word for word. (pymerkle proves the same by other hashes.)"""
    size = len(leaves)
    if first == size:
        return [] if known else [Tree(leaves).root()]
    split = max(2**power for power in range(size) if 2**power < size)
    left, right = leaves[:split], leaves[split:]
    if first <= split:
        return [*subproof(first, left, known=known), Tree(right).root()]
    return [*subproof(first - split, right, known=False), Tree(left).root()]


@given(size=SIZES, data=st.data())
def test_consistency_proofs_are_those_of_the_rfc_and_fit_the_roots_of_another_implementation(
    size: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, size))
    theirs, path = theirs_of(size), tree_of(size).consistency(first)
    assert path == subproof(first, [leaf_hash(b"%d" % number) for number in range(size)], known=True)
    assert consistent(first, theirs.get_root(first), size, theirs.get_root(size), path)


@given(size=SIZES)
def test_a_frontier_grows_to_the_same_roots(size: int) -> None:
    tree, grown = tree_of(size), Frontier()
    for number in range(size):
        grown = grown.add(leaf_hash(b"%d" % number))
        assert grown.root() == tree.root(number + 1)


@given(size=SIZES)
def test_the_frontier_before_the_last_leaf_proves_the_last_leaf(size: int) -> None:
    before = Frontier()
    for number in range(size - 1):
        before = before.add(leaf_hash(b"%d" % number))
    assert list(before.parts[::-1]) == tree_of(size).inclusion(size - 1)


@given(size=SIZES, data=st.data())
def test_an_inclusion_proof_proves_its_leaf_and_no_other(size: int, data: st.DataObject) -> None:
    tree, index = tree_of(size), data.draw(st.integers(0, size - 1))
    leaf, path, root = leaf_hash(b"%d" % index), tree.inclusion(index), tree.root()
    assert included(leaf, index, size, path, root)
    assert not included(leaf_hash(b"another"), index, size, path, root)
    assert not included(leaf, index, size, path, leaf_hash(b"another"))
    assert not included(leaf, index, size, [*path, leaf], root)
    assert not included(leaf, size, size, path, root)
    for place in range(len(path)):
        assert not included(leaf, index, size, [*path[:place], leaf, *path[place + 1 :]], root)
        assert not included(leaf, index, size, path[:place] + path[place + 1 :], root)


@given(size=SIZES, data=st.data())
def test_a_consistency_proof_proves_an_extension_and_nothing_else(size: int, data: st.DataObject) -> None:
    tree, first = tree_of(size), data.draw(st.integers(1, size))
    path, old, new = tree.consistency(first), tree.root(first), tree.root()
    assert consistent(first, old, size, new, path)
    assert not consistent(first, leaf_hash(b"another"), size, new, path)
    assert not consistent(first, old, size, leaf_hash(b"another"), path)
    assert not consistent(first, old, size, new, [*path, old])
    assert not consistent(0, old, size, new, path)
    assert not consistent(size + 1, old, size, new, path)
    for place in range(len(path)):
        assert not consistent(first, old, size, new, [*path[:place], b"\0" * 32, *path[place + 1 :]])


REFUSED = [
    ("an index beyond the end", lambda: tree_of(3).inclusion(3)),
    ("a size that is not there", lambda: tree_of(3).root(4)),
    ("a beginning of nothing", lambda: tree_of(3).consistency(0)),
    ("a beginning longer than all", lambda: tree_of(3).consistency(4)),
    ("a frontier with a part too few", lambda: Frontier(3, (EMPTY,))),
]


@pytest.mark.parametrize("asked", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_is_refused(asked: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        asked()
