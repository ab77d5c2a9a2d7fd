"""What a version of the search index consists of: every file that it needs, with size and SHA-256.

LanceDB names the files of a version in that version's manifest: data files by name, indexes by their UUID, files of
deleted rows by their number. A file that the manifest does not name is of another version. Whatever lies in a folder
that this version of LanceDB does not have counts as needed. `tests/test_index_seal.py` shows that a version is whole
with the files of its seal alone.
"""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from ai_assets.base.folders import files_below
from ai_assets.storage.content import DIGESTS

Seal = Mapping[str, tuple[int, str]]
"""Size and SHA-256 by path below the table's folder."""

VERSIONS, INDEXES = "_versions", "_indices"
ELSEWHERE = frozenset((VERSIONS, "_refs", "_transactions"))
"""Tags, which publication and retention change; what writers were about to do; other versions."""
LARGEST = 2**64 - 1
"""LanceDB counts file names of versions down from it, so that the newest is listed first."""


def seal(table: Path, version: int) -> dict[str, tuple[int, str]]:
    """Of a version that is complete. Files that this process has hashed before are not read again."""
    return {_name(table, path): (path.stat().st_size, DIGESTS.of(path)) for path in _needed(table, version)}


def first_difference(table: Path, version: int, sealed: Seal) -> str | None:
    """What of the version is not as it was sealed, in words; None where all is.

    A file that is gone is no difference: LanceDB cannot read the version then, and says so. The version's own manifest
    must be there, since it is what names the others.
    """
    manifest = _name(table, _manifest(table, version))
    if manifest not in sealed:
        return f"its seal has no {manifest}"
    if not (table / manifest).is_file():
        return f"{manifest} is gone"
    for name, (size, sha256) in sorted(sealed.items()):
        path = table / name
        try:
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} bytes and had {size:,}"
            if (found := DIGESTS.of(path)) != sha256:
                return f"{name} has the SHA-256 {found[:12]} and had {sha256[:12]}"
        except FileNotFoundError:
            continue
    for path in _beside(table, version, sealed):
        return f"{_name(table, path)} was not there"
    return None


def missing(table: Path, sealed: Seal) -> list[str]:
    """Files of the seal that are gone."""
    return sorted(name for name in sealed if not (table / name).is_file())


def _beside(table: Path, version: int, sealed: Seal) -> Iterator[Path]:
    """Files where LanceDB might take them for the version's own."""
    for folder in sorted({str(Path(name).parent) for name in sealed if name.startswith(f"{INDEXES}/")}):
        yield from (path for path in sorted((table / folder).glob("*")) if _name(table, path) not in sealed)
    for name in (f"{version}.manifest", f"d{version}.manifest"):
        if (table / VERSIONS / name).exists():  # the names that other versions of LanceDB give
            yield table / VERSIONS / name


def _needed(table: Path, version: int) -> Iterator[Path]:
    manifest = _manifest(table, version)
    named = manifest.read_bytes()
    yield manifest
    for path in sorted(files_below(table)):
        kind, *rest = path.relative_to(table).parts
        if kind not in ELSEWHERE and _is_named(kind, rest, named):
            yield path


def _is_named(kind: str, rest: list[str], manifest: bytes) -> bool:
    """Whether the manifest's bytes hold what names a file."""
    try:
        match kind:
            case "data":
                return rest[-1].encode() in manifest
            case "_indices":
                return uuid.UUID(rest[0]).bytes in manifest
            case "_deletions":
                return _varint(int(rest[-1].partition(".")[0].rsplit("-", 1)[1])) in manifest
    except (ValueError, IndexError):
        return True
    return True


def _varint(number: int) -> bytes:
    """As protocol buffers write it."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _manifest(table: Path, version: int) -> Path:
    return table / VERSIONS / f"{LARGEST - version}.manifest"


def _name(table: Path, path: Path) -> str:
    return path.relative_to(table).as_posix()
