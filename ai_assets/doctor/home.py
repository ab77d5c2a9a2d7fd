"""The folder that holds everything a local installation writes."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ai_assets.base.home import HOME_VARIABLE
from ai_assets.doctor.findings import Finding, fine, noted, warned, wrong
from ai_assets.doctor.installation import Installation


def look(at: Installation) -> Iterator[Finding]:
    root = at.home.root
    what = f"home {root}"
    if not root.exists():
        yield _not_there(what, root)
        return
    if not root.is_dir():
        fix = f"Remove it, or set {HOME_VARIABLE} to a folder."
        yield wrong(what, found="it is a file, not a folder", fix=fix)
        return
    facts = root.stat()
    if facts.st_uid != os.geteuid():
        found = f"it belongs to {_user(facts.st_uid)}, and this is {_user(os.geteuid())}"
        fix = f"Run commands as {_user(facts.st_uid)}: what another user writes there it cannot change."
        yield warned(what, found=found, fix=fix)
    if (mode := stat.S_IMODE(facts.st_mode)) & 0o077:
        found = f"others on this machine can enter it (mode {mode:04o})"
        yield warned(what, found=found, fix=f"chmod 700 {root}")
    if why := _why_not_written(root):
        fix = "Commands that only read work; for runs and decisions it must be one that can be written."
        yield warned(what, found=why, fix=fix)
    else:
        yield fine(what, "it is there and can be written")


def _not_there(what: str, root: Path) -> Finding:
    above = next(folder for folder in root.parents if folder.exists())
    if why := _why_not_written(above):
        fix = f"Set {HOME_VARIABLE} to a folder that can be written."
        return wrong(what, found=f"it is not there, and {above}: {why}", fix=fix)
    return noted(what, found="it is not there yet", fix="The first run makes it.")


def _why_not_written(folder: Path) -> str | None:
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return "its disk is mounted read-only"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None if os.access(folder, os.W_OK | os.X_OK) else "this user may not write it"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
