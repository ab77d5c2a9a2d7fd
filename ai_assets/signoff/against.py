"""Holding the chain against checkpoints that somebody else has: a file, a folder, a bucket, a Git repository."""

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.errors import SourceUnavailable
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.documents.source import Source, without_credentials
from ai_assets.signoff import audit, authority, checkpoints, keys
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import NoCheckpointThere, WitnessFailed
from ai_assets.signoff.checkpoints import LocatedNote
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.signoff.witness_kinds import GIT_TIMEOUT_S, NOTE_SUFFIX
from ai_assets.storage.stores import Stores

LONGEST_NOTE = 1 << 16
"""Bytes of a file in a folder or a bucket; what is longer is none."""


@dataclass(frozen=True, kw_only=True)
class WitnessComparison:
    """The chain is an extension of each checkpoint, but for what was lost in restores that it tells of."""

    place: str
    records: int
    """In the chain."""
    notes: int
    """Checkpoints of this chain that the witness holds."""
    newest: int
    """Records of the newest of them."""
    others: int
    """Checkpoints of other chains there."""
    lost: tuple[tuple[int, str], ...]
    """Checkpoints of records that were lost in a restore: how many records, and what the chain says of that restore."""


def compare(stores: Stores, place: str) -> WitnessComparison:
    """Raises ChainRolledBack or ChainRewritten where the chain is not an extension of what the witness holds."""
    found = list(notes_at(place))
    with stores.state.read() as connection:
        trust = keys.trust_of(connection)
        name = checkpoints.origin(trust.chain) if trust else None
        ours = [held for held in found if held.note.origin == name]
        if not ours:
            raise NoCheckpointThere(without_credentials(place), name, sorted({held.note.origin for held in found}))
        roots, _ = checkpoints.roots(connection, [held.note.size for held in ours])
        restores = list(_restores(connection))
        lost = {
            held: record
            for held in ours if roots.get(held.note.size) != held.note.root
            for record in restores if _tells_of(record, held.note)
        }  # fmt: skip
        records = checkpoints.require_extends(connection, [held for held in ours if held not in lost])
    return WitnessComparison(
        place=without_credentials(place),
        records=records,
        notes=len(ours),
        newest=max(held.note.size for held in ours),
        others=len(found) - len(ours),
        lost=tuple((held.note.size, f"{record.name}: {record.subject['reason']}") for held, record in lost.items()),
    )


def ours_at(stores: Stores, place: str) -> list[SignedNote]:
    """The checkpoints there that are of this chain, by who may sign them."""
    found = list(notes_at(place))
    with stores.state.read() as connection:
        return [held.note for held in found if checkpoints.is_trusted(connection, held)]


def _restores(connection: sa.Connection) -> Iterator[Record]:
    """Records of restores that were made on purpose, by who had the key for that."""
    known = authority.of(connection)
    for record in audit.select(connection, actions=["restored"]):
        known.require_signed(record)
        yield record


def _tells_of(record: Record, note: SignedNote) -> bool:
    """Whether the restore went back from where the note is of: after what was kept, up to what was known to be lost."""
    kept, lost = record.subject.get("records"), record.subject.get("lost")
    return isinstance(kept, int) and isinstance(lost, int) and kept < note.size <= lost


def notes_at(place: str) -> Iterator[LocatedNote]:
    """Every checkpoint there, of whatever chain."""
    path = Path(place).expanduser()
    if path.is_file():
        return _of_texts([(path, path.read_bytes())])
    if path.is_dir() and (_is_repository(path) or _is_repository(path / ".git")):
        return _of_texts(_in_repository(place, path))
    if path.is_dir() or place.startswith("s3://"):
        return _of_texts(_in_source(place))
    if "://" in place or place.endswith(".git"):
        return _of_texts(_in_clone(place))
    raise WitnessFailed(place, "there is no such file or folder, and it is no s3:// address or Git repository")


def _of_texts(texts: Iterable[tuple[object, bytes]]) -> Iterator[LocatedNote]:
    for where, data in texts:
        yield from (LocatedNote(note, where) for note in SignedNote.all_in(data.decode("utf-8", "replace")))


def _in_source(place: str) -> Iterator[tuple[object, bytes]]:
    source = Source.at(place)
    try:
        for file in source.list([f"**/*{NOTE_SUFFIX}", "**/*.txt"], []):
            if file.size <= LONGEST_NOTE:
                with source.open(file.path) as stream:
                    yield f"{without_credentials(place).rstrip('/')}/{file.path}", stream.read()
    except SourceUnavailable as error:
        raise WitnessFailed(without_credentials(place), str(error).rstrip(".")) from error


def _is_repository(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir()


def _in_clone(place: str) -> Iterator[tuple[object, bytes]]:
    with TemporaryFolder("git") as folder:
        _git(place, folder, "clone", "--quiet", "--bare", "--", place, "notes")
        yield from _in_repository(place, folder / "notes")


def _in_repository(place: str, path: Path) -> Iterator[tuple[object, bytes]]:
    """Of every commit that can be reached, so that a note is found which a later commit took away."""
    names: dict[str, str] = {}
    for line in _git(place, path, "rev-list", "--objects", "--all").decode("utf-8", "replace").splitlines():
        blob, _, name = line.partition(" ")
        if name.endswith(NOTE_SUFFIX):
            names[blob] = name
    rest = _git(place, path, "cat-file", "--batch", given="\n".join(names).encode()) if names else b""
    while rest:
        head, _, rest = rest.partition(b"\n")
        blob, _, size = head.decode().split(" ")
        yield f"{without_credentials(place)}:{names[blob]}", rest[: int(size)]
        rest = rest[int(size) + 1 :]


def _git(place: str, folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """Without a terminal to ask for a password on."""
    shown = without_credentials(place)
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, input=given, capture_output=True,
                              timeout=GIT_TIMEOUT_S, start_new_session=True, check=True)  # fmt: skip
    except FileNotFoundError as error:
        raise WitnessFailed(shown, "git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise WitnessFailed(shown, f"git takes longer than {GIT_TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode("utf-8", "replace").replace(place, shown).split())
        raise WitnessFailed(shown, f"git {arguments[0]}: {said[:300]}") from error
    return done.stdout
