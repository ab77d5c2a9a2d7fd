"""What is installed: our version, Dagster's, Python's, and how far it is from the lock of the project."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.markers import Marker

from ai_assets.base.plural import plural
from ai_assets.doctor.findings import Finding, fine, noted, warned, wrong
from ai_assets.doctor.installation import Installation

LOCK = "requirements.lock"
MOST_NAMED = 5
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_OF_DAGSTER = ("dagster-webserver", "dagster-graphql", "dagster-shared", "dagster-pipes")
"""Released with it, under the same number."""


def look(at: Installation) -> Iterator[Finding]:
    ours, dagster = version("ai-assets"), version("dagster")
    yield fine("versions", f"ai-assets {ours}, Dagster {dagster}, Python {platform.python_version()}")
    for name in _OF_DAGSTER:
        found = _installed(name)
        if found is not None and found.split(".")[:2] != dagster.split(".")[:2]:
            yield warned(
                name,
                found=f"it is {found}, and Dagster is {dagster}",
                fix=f"pip install {name}=={dagster}",
            )
    yield from _unmet()
    if (lock := at.home.project / LOCK).is_file():
        yield _drift(lock)


def _unmet() -> Iterator[Finding]:
    """What we need at a version that is not there. What belongs to an extra is looked at by `programs`."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in requires("ai-assets") or ():
        try:
            needed = Requirement(line)
        except InvalidRequirement:
            continue
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        found = _installed(needed.name)
        if found is None or not needed.specifier.contains(found, prereleases=True):
            yield wrong(
                f"package {needed.name}",
                found="it is missing" if found is None else f"it is {found}, and {needed.specifier} is needed",
                fix=f"pip install '{needed.name}{needed.specifier}'",
            )


def _drift(lock: Path) -> Finding:
    pinned = list(_pinned(lock.read_text(encoding="utf-8")))
    other = [(name, wanted, found) for name, wanted in pinned if (found := _installed(name)) not in (None, wanted)]
    if not other:
        return fine(str(lock), f"what is installed of its {plural(len(pinned), 'package')} has its versions")
    named = ", ".join(f"{name} {found} instead of {wanted}" for name, wanted, found in other[:MOST_NAMED])
    more = f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else ""
    return noted(
        str(lock),
        found=f"other versions are installed: {named}{more}",
        fix=f"pip install -r {lock}, or make the lock anew where the newer ones are meant.",
    )


def _pinned(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of what the lock has for this Python and system."""
    for line in lock.splitlines():
        if (match := _PINNED.match(line)) is not None:
            _, _, marker = line.removesuffix("\\").partition(";")
            if not marker.strip() or Marker(marker.strip()).evaluate():
                yield match[1], match[2]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
