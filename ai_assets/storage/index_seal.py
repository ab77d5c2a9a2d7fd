"""What a version of the search index consists of: every file that it needs, with size and SHA-256.

LanceDB names the files of a version in that version's manifest: data files by name, indexes by their UUID, files of
deleted rows by their number. A file that the manifest does not name is of another version. Whatever lies in a folder
that this version of LanceDB does not have counts as needed. `tests/test_index_seal.py` shows that a version is whole
with the files of its seal alone.
"""

import uuid
from collections.abc import Iterator, Mapping

from ai_assets.base.plural import plural
from ai_assets.storage.index_place import BRANCHES, SealedFile, TableFiles

Seal = Mapping[str, SealedFile]
"""By path below the folder of the table, or of the branch, that the version is of."""

VERSIONS, INDEXES = "_versions", "_indices"
ELSEWHERE = frozenset((VERSIONS, "_refs", "_transactions", BRANCHES))
"""Tags, which publication and retention change; what writers were about to do; other versions."""
LARGEST = 2**64 - 1
"""LanceDB counts file names of versions down from it, so that the newest is listed first."""


def as_recorded_seal(sealed: Seal) -> dict[str, list[int | str]]:
    return {name: [file.size, file.sha256, *filter(None, [file.etag])] for name, file in sealed.items()}


def seal(files: TableFiles, version: int, known: Seal | None = None) -> dict[str, SealedFile]:
    """Of a version that is complete. Files that are known, or were hashed before, are not read again."""
    found = {name: files.facts(name, (known or {}).get(name)) for name in _needed(files, version)}
    return {name: facts for name, facts in found.items() if facts is not None}


def first_difference(files: TableFiles, version: int, sealed: Seal) -> str | None:
    """What of the version is not as it was sealed, in words; None where all is.

    A file that is gone is no difference: LanceDB cannot read the version then, and says so. The version's own manifest
    must be there, since it is what names the others.
    """
    manifest = manifest_name(version)
    if manifest not in sealed:
        return f"its seal has no {manifest}"
    if not files.holds(manifest):
        return f"{manifest} is gone"
    for name, then in sorted(sealed.items()):
        if (found := files.facts(name, then)) is None:
            continue
        if found.size != then.size:
            return f"{name} has {plural(found.size, 'byte')} and had {then.size:,}"
        if found.sha256 != then.sha256:
            return f"{name} has the SHA-256 {found.sha256[:12]} and had {then.sha256[:12]}"
    for name in _beside(files, version, sealed):
        return f"{name} was not there"
    return None


def missing(files: TableFiles, sealed: Seal) -> list[str]:
    """Files of the seal that are gone."""
    return sorted(name for name in sealed if not files.holds(name))


def _beside(files: TableFiles, version: int, sealed: Seal) -> Iterator[str]:
    """Files where LanceDB might take them for the version's own."""
    for folder in sorted({name.rpartition("/")[0] for name in sealed if name.startswith(f"{INDEXES}/")}):
        yield from (name for name in sorted(files.names(folder)) if name not in sealed)
    for name in (f"{VERSIONS}/{version}.manifest", f"{VERSIONS}/d{version}.manifest"):
        if files.holds(name):  # the names that other versions of LanceDB give
            yield name


def _needed(files: TableFiles, version: int) -> Iterator[str]:
    manifest = manifest_name(version)
    named = files.read(manifest)
    yield manifest
    for name in sorted(files.names()):
        kind, *rest = name.split("/")
        if kind not in ELSEWHERE and _is_named(kind, rest, named):
            yield name


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


def manifest_name(version: int) -> str:
    return f"{VERSIONS}/{LARGEST - version}.manifest"
