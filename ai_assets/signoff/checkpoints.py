"""Checkpoints of the audit chain: what it was, in a signed note. The newest are in files outside the state store.

Whoever can write everything in the store can shorten the chain or put an older store back, and its signatures still
verify. The notes beside it say how long it was and what it held; `witnesses` gives them to others.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ai_assets.base.durable import write_whole
from ai_assets.signoff import audit, authority, keys
from ai_assets.signoff.audit import GENESIS, Record
from ai_assets.signoff.audit_errors import (
    AuditBroken,
    ChainRewritten,
    ChainRolledBack,
    CheckpointUntrusted,
    KeysMissing,
    NoteUnreadable,
    NothingRecorded,
    NothingToExtend,
    SignatureInvalid,
)
from ai_assets.signoff.merkle import EMPTY, Frontier, Tree, leaf_hash
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import Stores

IN_STORE = "the state store"
SUFFIX = ".note"
KEPT = 10
"""Files; each stands for all records before it."""
KEPT_ROWS = 1_000
"""In the state store, with what witnesses answered to them."""


class LocatedNote(NamedTuple):
    """A note, and where it was found."""

    note: SignedNote
    where: object


@dataclass(frozen=True)
class TreeState:
    """The tree as it was after a record."""

    before: Frontier
    """Of the records before it: what is beside it on its way to the root."""
    record: Record

    @property
    def whole(self) -> Frontier:
        return self.before.add(leaf_hash(audit.leaf_bytes(self.record)))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    note: SignedNote
    made_at: str
    new: bool
    """Whether there were records that no checkpoint stood for."""


def origin(chain: str) -> str:
    """The name of a chain in its notes."""
    return f"ai-assets/{chain}"


def make(stores: Stores) -> Checkpoint:
    """A checkpoint of the chain as it is now. Reads only the records since the last one.

    Raises where the chain is not the one that the last checkpoint stands for, or where a new record does not stand.
    """
    kept = kept_notes(stores.home.checkpoints)
    if not kept:
        _begin(stores)
    with stores.state.read() as connection:
        start, known = require_kept(connection, kept), authority.of(connection)
        reached = start
        for after in _grown(connection, start):
            known.require_signed(after.record)
            reached = after
        if reached is None:
            raise NothingRecorded
        row, ring = _row(connection, reached.record.seq), keys.of(connection)
    if row is not None and reached is start:
        save(stores.home.checkpoints, note := _stored(row.note))
        return Checkpoint(note=note, made_at=row.made_at, new=False)
    root, size, made_at = reached.whole.root(), reached.record.seq, now()
    note = SignedNote.make(origin(ring.trust.chain), size, root, ring.public("recorder"),
                           lambda body: b64decode(ring.sign("recorder", body).signature))  # fmt: skip
    values = {"root": root.hex(), "note": note.text, "frontier": _as_text(reached.before), "made_at": made_at}
    with stores.state.write() as connection:
        upsert(connection, "checkpoints", {"size": size}, values)
        _forget_old(connection)
    save(stores.home.checkpoints, note)
    return Checkpoint(note=note, made_at=made_at, new=True)


def _begin(stores: Stores) -> None:
    """A chain that is older than its keys gets them before it gets a checkpoint."""
    with stores.state.read() as connection:
        if connection.execute(sa.text("SELECT 1 FROM audit LIMIT 1")).first() is None:
            raise NothingRecorded
        if keys.trust_of(connection) is not None:
            return
    with stores.state.write() as connection:
        audit.begin(connection)


def is_due(connection: sa.Connection, every_minutes: float, moment: str) -> bool:
    """There are records that no checkpoint stands for, and the last one is old (or from the future: a wrong clock)."""
    last = newest(connection)
    records: int | None = connection.execute(sa.text("SELECT max(seq) FROM audit")).scalar_one()
    if records is None or (last is not None and last.size == records):
        return False
    if last is None:
        return True
    try:
        age_s = (datetime.fromisoformat(moment) - datetime.fromisoformat(last.made_at)).total_seconds()
    except (ValueError, TypeError):  # somebody wrote something else there
        return True
    return not 0 <= age_s < every_minutes * 60


def newest(connection: sa.Connection) -> sa.Row[tuple[int, str, str]] | None:
    query = sa.text("SELECT size, note, made_at FROM checkpoints ORDER BY size DESC LIMIT 1")
    return connection.execute(query).one_or_none()


def require_kept(connection: sa.Connection, kept: Sequence[LocatedNote]) -> TreeState | None:
    """The chain as the newest checkpoint knew it, which it must still be; None where there is no checkpoint.

    `kept` are the files as they were before this transaction began: one that is made meanwhile may be ahead of it.
    Raises ChainRolledBack or ChainRewritten where the store is older than the files say, or another.
    """
    if not kept:
        row = newest(connection)
        kept = [LocatedNote(_stored(row.note), IN_STORE)] if row is not None else []
    if not kept:
        return None
    last = max(kept, key=lambda held: held.note.size)
    _require_trusted(connection, [last])
    if (found := _from_row(connection, last.note)) is not None:
        return found
    require_extends(connection, [held for held in kept if is_trusted(connection, held)])
    for reached in _grown(connection, None, last.note.size):
        found = reached
    return found


def require_extends(connection: sa.Connection, held: Sequence[LocatedNote]) -> int:
    """Raises unless the chain begins with what each of these notes stands for; how many records it has.

    All records are read. The narrowest range that must hold the difference is named.
    """
    _require_trusted(connection, held)
    found, count = roots(connection, [one.note.size for one in held])
    same, ordered = 0, sorted(held, key=lambda one: one.note.size)
    for one in ordered:
        if one.note.size > count:
            raise ChainRolledBack(count, ordered[-1].note.size, ordered[-1].where)
        if found[one.note.size] != one.note.root:
            raise ChainRewritten(same + 1, one.note.size, one.where)
        same = one.note.size
    return count


def require_whole(stores: Stores) -> int:
    """Every checkpoint that is kept, in files and in the store, is of this chain; how many there are."""
    kept = kept_notes(stores.home.checkpoints)
    with stores.state.read() as connection:
        held = [*kept, *_stored_notes(connection)]
        require_extends(connection, held)
    return len({one.note.size for one in held})


def trusted_keys(connection: sa.Connection, size: int) -> list[bytes]:
    """Public keys that may have signed a checkpoint of so many records."""
    known = authority.of(connection).keys.values()
    return [key.public for key in known if key.kind == "recorder"
            and key.since <= size + 1 and (key.until is None or size < key.until)]  # fmt: skip


def extension(connection: sa.Connection, since: int, size: int) -> list[str]:
    """The proof that the chain of `size` records begins with that of `since`, as C2SP witnesses take it."""
    if not 0 < since <= size:
        raise NothingToExtend(since, size)
    return [b64encode(step).decode() for step in tree(connection, size).consistency(since)]


def tree(connection: sa.Connection, size: int) -> Tree:
    """Of the first records, for proofs."""
    return Tree(leaf_hash(audit.leaf_bytes(record)) for record in _records(connection, after=0, until=size))


def accept_restored(stores: Stores, *, by: str, reason: str, lost: Iterable[SignedNote] = ()) -> Checkpoint:
    """Go on with an older store on purpose. The chain says so from then on, with how far it had come before.

    The only way in which a kept note is put away: into a folder beside the others, as evidence. `lost` are notes of
    records that are gone and that this home has no file of, such as a witness's.
    """
    folder = stores.home.checkpoints
    with stores.state.write() as connection:
        held = [*kept_notes(folder), *_stored_notes(connection), *(LocatedNote(note, "a witness") for note in lost)]
        notes = {one.note.text: one.note for one in held}.values()
        here, _ = roots(connection, [note.size for note in notes])
        gone = [note for note in notes if here.get(note.size) != note.root]
        last = max(gone, key=lambda note: note.size, default=None)
        found = connection.execute(sa.text("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")).one_or_none()
        subject: dict[str, Json] = {
            "records": found.seq if found else 0,
            "head": found.hash if found else GENESIS,
            "lost": last.size if last else None,
            "lost_root": last.root.hex() if last else None,
            "reason": reason,
        }
        audit.append(connection, by, "restored", subject)
        for note in gone:
            connection.execute(sa.text("DELETE FROM checkpoints WHERE size = :size AND root = :root"),
                               {"size": note.size, "root": note.root.hex()})  # fmt: skip
    put_away = folder / f"before-{now().replace(':', '')}"
    for note in gone:
        if (file := folder / file_name(note)).exists():
            put_away.mkdir(exist_ok=True)
            file.rename(put_away / file.name)
    return make(stores)


def kept_notes(folder: Path) -> list[LocatedNote]:
    """What the home holds of checkpoints outside of the state store."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(LocatedNote(SignedNote.read(path.read_text(encoding="utf-8")), path))
        except FileNotFoundError:
            continue  # the oldest was removed since, by a process that keeps a newer one
        except NoteUnreadable as error:
            raise NoteUnreadable(error.found, path) from error
        except (ValueError, OSError) as error:
            raise NoteUnreadable(str(error), path) from error
    return found


def save(folder: Path, note: SignedNote) -> None:
    """On the disk when this returns; the oldest files go."""
    path = folder / file_name(note)
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, note.text.encode())
    for old in sorted(folder.glob(f"*{SUFFIX}"))[:-KEPT]:
        for beside in folder.glob(f"{old.stem}*"):
            beside.unlink(missing_ok=True)


def file_name(note: SignedNote) -> str:
    return f"{note.size:012d}-{note.root.hex()[:12]}{SUFFIX}"


def _require_trusted(connection: sa.Connection, held: Iterable[LocatedNote]) -> None:
    trust = keys.trust_of(connection)
    for one in held:
        if trust is None:
            raise KeysMissing(keys.folder_of(connection) / keys.TRUST, f"{one.where} holds a checkpoint, and nothing "
                              "says which keys to believe")  # fmt: skip
        if one.note.origin != origin(trust.chain):
            raise CheckpointUntrusted(one.where, f"it is of the chain {one.note.origin}, not {origin(trust.chain)}")
        try:
            one.note.require_signed(trusted_keys(connection, one.note.size))
        except SignatureInvalid as error:
            raise CheckpointUntrusted(one.where, error.problem) from error


def is_trusted(connection: sa.Connection, held: LocatedNote) -> bool:
    try:
        _require_trusted(connection, [held])
    except CheckpointUntrusted:
        return False
    return True


def _from_row(connection: sa.Connection, note: SignedNote) -> TreeState | None:
    """The tree at that checkpoint, as the store remembers it, if that fits the note and the record that is there.

    Each record holds the hash of the one before, so the last one stands for all. None where it has to be computed.
    """
    row = _row(connection, note.size)
    record = next(_records(connection, after=note.size - 1, until=note.size), None)
    if row is None or record is None:
        return None
    try:
        parts = tuple(bytes.fromhex(part) for part in json.loads(row.frontier))
        reached = TreeState(Frontier(note.size - 1, parts), record)
    except (ValueError, TypeError):
        return None
    fits = record.computed_hash() == record.hash and reached.whole.root() == note.root
    return reached if fits else None


def _grown(connection: sa.Connection, start: TreeState | None, until: int | None = None) -> Iterator[TreeState]:
    """The tree after each record that follows, each of which must follow from the one before."""
    whole, previous = (start.whole, start.record.hash) if start else (Frontier(), GENESIS)
    for record in _records(connection, after=whole.size, until=until):
        if record.seq != whole.size + 1:
            raise AuditBroken(record.name, f"number {whole.size + 1} is missing before it")
        if record.previous_hash != previous or record.computed_hash() != record.hash:
            raise AuditBroken(record.name, "it does not follow from the record before it, or is not what was recorded")
        reached = TreeState(whole, record)
        yield reached
        whole, previous = reached.whole, record.hash


def _records(connection: sa.Connection, *, after: int, until: int | None) -> Iterator[Record]:
    query = sa.select(*audit.TABLE.c).where(audit.TABLE.c.seq > after).order_by(audit.TABLE.c.seq)
    if until is not None:
        query = query.where(audit.TABLE.c.seq <= until)
    for row in connection.execute(query).mappings():
        yield audit.read(row)


def roots(connection: sa.Connection, sizes: Iterable[int]) -> tuple[dict[int, bytes], int]:
    """The roots of the chain at these sizes, as far as it goes, and how many records it has."""
    wanted, count, found = set(sizes), 0, {0: EMPTY}
    for reached in _grown(connection, None):
        count = reached.record.seq
        if count in wanted:
            found[count] = reached.whole.root()
    return found, count


def _stored_notes(connection: sa.Connection) -> list[LocatedNote]:
    rows: Iterable[str] = connection.execute(sa.text("SELECT note FROM checkpoints ORDER BY size")).scalars()
    return [LocatedNote(_stored(note), IN_STORE) for note in rows]


def _stored(text: str) -> SignedNote:
    try:
        return SignedNote.read(text)
    except NoteUnreadable as error:
        raise NoteUnreadable(error.found, "A row of the table checkpoints") from error


def _row(connection: sa.Connection, size: int) -> sa.Row[tuple[str, str, str]] | None:
    query = sa.text("SELECT note, frontier, made_at FROM checkpoints WHERE size = :size")
    return connection.execute(query, {"size": size}).one_or_none()


def _as_text(frontier: Frontier) -> str:
    return json.dumps([part.hex() for part in frontier.parts])


def _forget_old(connection: sa.Connection) -> None:
    query = sa.text("SELECT size FROM checkpoints ORDER BY size DESC LIMIT 1 OFFSET :kept")
    oldest: int | None = connection.execute(query, {"kept": KEPT_ROWS - 1}).scalar_one_or_none()
    if oldest is not None:
        connection.execute(sa.text("DELETE FROM checkpoints WHERE size < :oldest"), {"oldest": oldest})
        connection.execute(sa.text("DELETE FROM checkpoint_witnesses WHERE size < :oldest"), {"oldest": oldest})
