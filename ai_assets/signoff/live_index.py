"""The live release as those find it who read the index without us: the tag `live` and the signed `live.json`.

The pointer in the state store decides. Tag and file are moved after it, and whoever finds that they are not as it says
brings them to it: the next publication or rollback, the sensor, `ai-assets publish`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError
from ai_assets.signoff import authority, keys, releases, served
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import IndexLost
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release, RollbackResult
from ai_assets.storage.digest import Json, canonical_json, sha256_hex
from ai_assets.storage.index_seal import as_recorded_seal
from ai_assets.storage.index_table import LIVE_TAG_FILE
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores

FIRST_INDEX = "live"
"""The table that others open."""
FILE = "live.json"
FORMAT = 1
_RELEASE_FILE = re.compile(r"release-[0-9a-f]{64}\.json")
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class _Pointer:
    """What readers see, by the state store and the audit chain."""

    release: Release
    record: Record
    """That made it live."""
    chain: str

    @property
    def place(self) -> tuple[str, str | None, int]:
        return self.release.index_name, self.release.index_branch, self.release.index_version

    @cached_property
    def statement(self) -> dict[str, Json]:
        release, seal = self.release, self.release.index_seal
        return {
            "ai-assets": "live release",
            "format": FORMAT,
            "chain": self.chain,
            "record": self.record.seq,
            "since": self.record.recorded_at,
            "collection": release.collection,
            "release": release.number,
            "digest": release.digest,
            "table": release.index_name,
            "branch": release.index_branch,
            "version": release.index_version,
            "files": None if seal is None else as_recorded_seal(seal),
            "release_file": release_file(self.release.content),
        }


def release_file(content: bytes) -> str:
    """Its name: `live.json` is signed and has it, so it stands for the content."""
    return f"release-{sha256_hex(content)}.json"


def difference(stores: Stores, connection: sa.Connection, collection: str, *, whole: bool = False) -> str | None:
    """What others are shown instead of the live release, in words; None where they are shown just that. LanceDB is not
    asked, so a sensor can look every few seconds; nor, unless `whole`, is the release file read."""
    pointer = _pointer(connection, collection)
    if pointer is None:
        return None
    if (said := _said(stores, connection, collection)) is None:
        return f"{FILE} is not there, or is not signed"
    if said != pointer.statement:
        if said.get("release") == pointer.release.number:
            return f"{FILE} says of release {pointer.release.number} what it is not, or less than this version says"
        return f"{FILE} names release {said.get('release')}, and release {pointer.release.number} is live"
    if whole:
        named = release_file(pointer.release.content)
        if stores.index_place(collection).kept(named).content != pointer.release.content:
            return f"{named}, which {FILE} names, is missing or altered"
    if (tagged := _tagged(stores, collection, pointer.release.index_name)) != pointer.place[1:]:
        names = "nothing" if tagged is None else f"version {tagged[1]} of {tagged[0] or 'the table itself'}"
        return f"the tag {FIRST_INDEX} names {names}, and release {pointer.release.number} is live"
    return None


def is_shown(stores: Stores, collection: str) -> bool:
    """Whether others were ever shown a release: not in a home of an earlier version."""
    return stores.index_place(collection).kept(FILE).content is not None


def show(stores: Stores, collection: str, say: Callable[[str], None] = lambda _line: None) -> None:
    """Tag and file name what the pointer names. Raises `IndexLost` where that is not there."""
    with hold(stores.state, f"show:{collection}", say=say) as lease:
        for _ in range(_TRIES):
            with stores.state.read() as connection:
                pointer = _pointer(connection, collection)
            if pointer is None:
                return
            index = served.index_of(stores, pointer.release)
            if not index.holds(pointer.release.index_version):
                raise IndexLost(collection, pointer.release.number)
            lease.check()
            index.show(pointer.release.index_version)
            if pointer.release.index_name != FIRST_INDEX:
                stores.index(collection, FIRST_INDEX).show(None)
            lease.check()
            if _write(stores, pointer):
                return


def try_to_show(stores: Stores, collection: str, say: Callable[[str], None]) -> None:
    """What is live is live, whatever becomes of tag and file: the sensor tries again."""
    try:
        show(stores, collection, say)
    except (AiAssetsError, OSError) as error:
        say(f"who opens the index without ai-assets is not shown the live release yet: {error}")


def roll_back(
    stores: Stores,
    collection: str,
    number: int | None,
    *,
    by: Person,
    reason: str | None,
    say: Callable[[str], None] = lambda _line: None,
) -> RollbackResult:
    """The pointer, and what follows it."""
    done = releases.rollback(stores.state, collection, number, by=by, reason=reason)
    try_to_show(stores, collection, say)
    return done


def repair(stores: Stores, collection: str) -> str | None:
    """For a sensor: what was put right, or is wrong still; None where all is as the pointer says."""
    try:
        with stores.state.read() as connection:
            found = difference(stores, connection, collection)
        if found is None:
            return None
        show(stores, collection)
    except (AiAssetsError, OSError) as error:
        return f"the live index cannot be shown to others: {error}"
    return f"{found}: put right"


def _pointer(connection: sa.Connection, collection: str) -> _Pointer | None:
    if (found := releases.live_by_record(connection, collection)) is None:
        return None
    (release, record), trust = found, keys.trust_of(connection)
    return _Pointer(release=release, record=record, chain=trust.chain if trust else "")


def _said(stores: Stores, connection: sa.Connection, collection: str) -> Mapping[str, Any] | None:
    """What `live.json` says, if a key that counts now signed it."""
    content = stores.index_place(collection).kept(FILE).content
    try:
        found = json.loads(content or b"")
        statement: dict[str, Any] = found["statement"]
        data = canonical_json(statement).encode()
        last: int = connection.execute(sa.text("SELECT max(seq) FROM audit")).scalar_one()
        authority.of(connection).check(keys.KINDS, found["key_id"], last, data, found["signature"])
    except (ValueError, KeyError, TypeError, AuditBroken):
        return None
    return statement


def _tagged(stores: Stores, collection: str, table: str) -> tuple[str | None, int] | None:
    """Branch and version of the tag."""
    files = stores.index_place(collection).files(table, None)
    try:
        found = json.loads(files.read(LIVE_TAG_FILE))
        return found["branch"], found["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(stores: Stores, pointer: _Pointer) -> bool:
    """False where somebody else wrote it meanwhile."""
    place = stores.index_place(pointer.release.collection)
    there = place.kept(FILE)
    with stores.state.read() as connection:
        if _pointer(connection, pointer.release.collection) != pointer:
            return False
        ring = keys.of(connection)
    kind: keys.Kind = "recorder" if ring.holds("recorder") else "decision"
    statement, content = pointer.statement, pointer.release.content
    signed = ring.sign(kind, canonical_json(statement).encode())
    place.put(release_file(content), content)
    said = {
        "statement": statement,
        "key_id": signed.key_id,
        "public_key": keys.encoded(ring.public(kind)),
        "signature": signed.signature,
    }
    if not place.keep(FILE, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode(), there):
        return False
    if (before := _named_in(there.content)) not in (None, release_file(content)):
        place.drop(str(before))
    return True


def _named_in(content: bytes | None) -> str | None:
    """The release file of a `live.json` that is replaced; it may be damaged, and then nothing else is dropped."""
    try:
        found = str(json.loads(content or b"")["statement"]["release_file"])
    except (ValueError, KeyError, TypeError):
        return None
    return found if _RELEASE_FILE.fullmatch(found) else None
