"""A LanceDB table, or one branch of it, as writers and readers of the index use it.

Releases are versions of a branch, so that whoever opens the table without naming a version gets no release by
chance, but a row that says how the live one is read. A version is complete when it has its tag, which is written last.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ai_assets.storage.index_place import IndexPlace
from ai_assets.storage.lance_library import lancedb

if TYPE_CHECKING:
    import pyarrow as pa

LIVE = "live"
"""The tag of what readers see."""
LIVE_TAG_FILE = f"_refs/tags/{LIVE}.json"
"""Where LanceDB keeps it, with its branch and version: `tests/test_live_index.py` holds that to be so."""
NOTE = "ai_assets.read"
"""In the metadata of the schema of what is opened without a version: how the live release is read."""
ANY_COLUMN = "read_me"

_COMPLETE = "complete-"
_SOURCE = re.compile(r", [^ ,]*/src/index\.crates\.io|, location: Location|, [^ ,]*\.rs:\d+")
_LONGEST_ERROR = 400
_LISTINGS = 100
"""How often the tags are listed while a removal is under way, which takes many away one after the other."""
_READING = {"LANCE_DEFAULT_IO_BUFFER_SIZE": str(16 << 20), "LANCE_DEFAULT_BATCH_SIZE": "1024"}
"""Exact search over 200,000 vectors takes 130 ms so and 200 ms with LanceDB's own, and a third of the memory."""


class IndexTable:
    """`branch`: None where the versions are the table's own, as earlier versions of ai-assets wrote them, and as the
    index is that search is judged on."""

    def __init__(self, place: IndexPlace, name: str, branch: str | None) -> None:
        self._place, self.name, self.branch = place, name, branch
        self._prefix = _COMPLETE if branch is None else f"{_COMPLETE}{branch}-"

    def opened(self) -> Any | None:
        """The table, on its newest version; None where there is none."""
        if not self._place.may_exist(self.name):
            return None
        try:
            return self._connection().open_table(self.name)
        except ValueError as error:
            if "was not found" in str(error):
                return None
            raise

    def newest(self) -> Any | None:
        """The newest version of the branch, to be written on; None where there is none."""
        table = self.opened()
        if table is None or self.branch is None:
            return table
        return table.branches.checkout(self.branch) if self.branch in table.branches.list() else None

    def at(self, version: int) -> Any | None:
        """A complete version, to be read; None where it is not there, or not complete."""
        table = self.opened()
        if table is None or tagged(table, self.tag_of(version)) != version:
            return None
        table.checkout(self.tag_of(version))
        return table

    def begun(self, schema: "pa.Schema") -> Any:
        """Without rows. A branch is new: its name is given once."""
        if self.branch is not None:
            table = self.entered().branches.create(self.branch)
            table.add(schema.empty_table(), mode="overwrite")
            return table
        table = self.opened()
        if table is None:
            return self._connection().create_table(self.name, schema=schema, exist_ok=True)
        if table.count_rows():
            table.delete("true")
        return table

    def entered(self) -> Any:
        """The table with its newest own version being the note that says how the live release is read."""
        note = _note(self.name)
        table = self.opened()
        if table is None:
            return self._connection().create_table(self.name, note, exist_ok=True)
        if not is_note(table):
            table.add(note, mode="overwrite")
        return table

    def tag_of(self, version: int) -> str:
        return f"{self._prefix}{version}"

    def is_complete(self, version: int) -> bool:
        table = self.opened()
        return table is not None and tagged(table, self.tag_of(version)) == version

    def show(self, version: int | None) -> None:
        """The tag of what readers see is on a version of this branch; None: on none at all."""
        table = self.entered()
        known = tagged(table, LIVE)
        if version is not None:
            on = table if self.branch is None else table.branches.checkout(self.branch)
            (on.tags.create if known is None else on.tags.update)(LIVE, version)
        elif known is not None:
            table.tags.delete(LIVE)

    def complete_versions(self, table: Any) -> set[int]:
        """LanceDB lists the tags and then reads each: one that is removed between the two fails the whole listing."""
        for _ in range(_LISTINGS):
            with contextlib.suppress(RuntimeError):
                return self._listed(table)
        return self._listed(table)

    def _listed(self, table: Any) -> set[int]:
        numbers = (tag.removeprefix(self._prefix) for tag in table.tags.list() if tag.startswith(self._prefix))
        return {int(number) for number in numbers if number.isdecimal()}

    def _connection(self) -> Any:
        return connect(self._place)


def connect(place: IndexPlace) -> Any:
    """LanceDB reads ahead up to 2 GiB, which is a whole collection; it has no other way to be told than this."""
    for name, value in _READING.items():
        os.environ.setdefault(name, value)
    return lancedb().connect(place.uri, storage_options=dict(place.options) if place.options else None)


def tagged(table: Any, tag: str) -> int | None:
    """The version that has a tag."""
    try:
        found: int = table.tags.get_version(tag)
    except RuntimeError as error:
        if "Ref not found" in str(error):
            return None
        raise
    return found


def in_one_sentence(error: Exception) -> str:
    """What LanceDB says, without the places in its own source, and not longer than somebody reads."""
    said = _SOURCE.split(" ".join(str(error).split()))[0].rstrip(" ,.:")
    return said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]} ..."


def is_note(table: Any) -> bool:
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    return NOTE.encode() in metadata


def _note(name: str) -> "pa.Table":
    import pyarrow as pa

    said = (
        f'This is no release. The live one: open_table("{name}"), then checkout("{LIVE}"); or the table, branch and '
        "version that live.json names, which is signed."
    )
    return pa.table({ANY_COLUMN: [said]}).replace_schema_metadata({NOTE: said})
