"""The keys that sign the audit chain, the desk's key, and what says which to believe: there, closed, and fitting."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.base.home import NO_KEY, TRUST_VARIABLE, variable
from ai_assets.doctor.findings import Finding, fine, noted, of_error, warned, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.signoff import keys
from ai_assets.signoff.keys import KINDS, VARIABLES, Kind, Trust

OF_OTHERS = 0o077
DESK_KEY = "desk.key"


def look(at: Installation) -> Iterator[Finding]:
    folder, declared = at.home.keys, variable(TRUST_VARIABLE)
    path = Path(declared).expanduser().absolute() if declared else folder / keys.TRUST
    trust = None
    if path.exists():
        try:
            trust = Trust.read(path)
        except UserError as error:
            yield of_error(str(path), error)
    elif declared or any(keys.file_of(folder, kind).exists() for kind in KINDS):
        yield wrong(
            str(path),
            found="it is not there, so nothing says which keys to believe",
            fix="Restore it from a backup; it is public, and other machines have the same.",
        )
    else:
        yield noted(str(folder), found="there are no keys yet", fix="The first who decides or records makes them.")
    if trust is not None:
        added = _added(at)
        for kind in KINDS:
            yield from _key(folder, kind, {*trust.keys[kind], *added})
    yield from _desk_key(at.home.root / DESK_KEY)


def _key(folder: Path, kind: Kind, believed: set[bytes]) -> Iterator[Finding]:
    what, given, path = f"{kind} key", variable(VARIABLES[kind]), keys.file_of(folder, kind)
    if given is not None:
        kept_out = given.strip().lower() == NO_KEY
        yield fine(what, f"{VARIABLES[kind]} {'keeps it from this process' if kept_out else 'gives it'}")
        return
    if not path.exists():
        needed = "runs and sensors" if kind == "recorder" else "the desk and decisions"
        yield warned(
            what,
            found=f"there is no {path}",
            fix=f"Put it there (mode 0600), or set {VARIABLES[kind]}, where {needed} run.",
        )
        return
    try:
        public = keys.public_of(path)
    except UserError as error:
        yield of_error(what, error)
        return
    if public not in believed:
        yield wrong(
            what,
            found=f"{path} is none of the keys that this chain believes",
            fix="Put the right one there: what this one signs would be refused.",
        )
    else:
        yield fine(what, f"{path} is closed to others, and believed")


def _added(at: Installation) -> set[bytes]:
    """Keys that records of the chain told of later; `audit verify` holds their signatures."""
    try:
        with looking(at) as connection:
            if "audit" not in tables_of(connection):
                return set()
            rows = connection.exec_driver_sql("SELECT subject FROM audit WHERE action = 'key added'").all()
    except (NoStoreYet, UserError):
        return set()
    found = set()
    for row in rows:
        try:
            found.add(keys.decoded(str(json.loads(row.subject)["public"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _desk_key(path: Path) -> Iterator[Finding]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return
    if (mode := stat.S_IMODE(facts.st_mode)) & OF_OTHERS:
        yield wrong(
            str(path),
            found=f"others can read what signs sessions (mode {mode:04o})",
            fix=f"chmod 600 {path}, and remove it where somebody may have: everybody signs in again.",
        )
    elif not os.access(path, os.R_OK):
        yield wrong(str(path), found="this user cannot read it", fix=f"chown it, as {path.parent}")
    else:
        yield fine(str(path), "it is closed to others")
