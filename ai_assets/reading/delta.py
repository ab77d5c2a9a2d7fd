"""The log of a Delta table: JSON that names its files, a commit after the other.

The protocol is Delta's, reader 1 and writer 2: https://github.com/delta-io/delta/blob/master/PROTOCOL.md. A commit is a
file whose name nobody else may take, so of two writers one wins.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.base.durable import sync
from ai_assets.reading.errors import DeltaOvertaken, NoDeltaType

if TYPE_CHECKING:
    import pyarrow as pa

LOG = "_delta_log"


class DeltaTable:
    def __init__(self, path: Path) -> None:
        self.path = path

    def replace(self, schema: "pa.Schema", files: Mapping[str, int], about: Mapping[str, Any]) -> bool:
        """These files (by name, their rows) are the table from now on. False where they were, of the same release."""
        log = self.path / LOG
        log.mkdir(parents=True, exist_ok=True)
        version, there, metadata, last = self._read()
        text = json.dumps({"type": "struct", "fields": [_field(field) for field in schema]})
        if (set(there), metadata.get("schemaString")) == (set(files), text) and last == dict(about):
            return False
        at = int(time.time() * 1000)
        info = {"timestamp": at, "operation": "WRITE", "operationParameters": {"mode": "Overwrite"},
                "engineInfo": "ai-assets", "ai_assets": dict(about)}  # fmt: skip
        actions: list[dict[str, Any]] = [{"commitInfo": info}]
        if not metadata:
            actions.append({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
        if metadata.get("schemaString") != text:
            same = metadata.get("id") or str(uuid.uuid4())
            form = {"provider": "parquet", "options": {}}
            actions.append({"metaData": {"id": same, "format": form, "schemaString": text, "partitionColumns": [],
                                         "configuration": {}, "createdTime": at}})  # fmt: skip
        for name in sorted(there - files.keys()):
            actions.append({"remove": {"path": name, "deletionTimestamp": at, "dataChange": True}})
        for name in sorted(files.keys() - there):
            size = (self.path / name).stat().st_size
            stats = json.dumps({"numRecords": files[name]})
            actions.append({"add": {"path": name, "partitionValues": {}, "size": size, "modificationTime": at,
                                    "dataChange": True, "stats": stats}})  # fmt: skip
        self._commit(version + 1, actions)
        return True

    def _read(self) -> tuple[int, set[str], Mapping[str, Any], Mapping[str, Any] | None]:
        """The last version (-1 before the first), its files, its metadata, and which release it is."""
        there, metadata, last, version = set[str](), dict[str, Any](), None, -1
        for path in sorted((self.path / LOG).glob("*.json")):
            version = int(path.stem)
            for line in path.read_text(encoding="utf-8").splitlines():
                [(kind, found)] = json.loads(line).items()
                if kind == "add":
                    there.add(found["path"])
                elif kind == "remove":
                    there.discard(found["path"])
                elif kind == "metaData":
                    metadata = found
                elif kind == "commitInfo":
                    last = found.get("ai_assets")
        return version, there, metadata, last

    def _commit(self, version: int, actions: list[dict[str, Any]]) -> None:
        log = self.path / LOG
        begun = log / f".{uuid.uuid4().hex}.tmp"
        with begun.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(action) + "\n" for action in actions)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(begun, log / f"{version:020}.json")
        except FileExistsError:
            raise DeltaOvertaken(self.path) from None
        finally:
            begun.unlink()
        sync(log)


def delta_schema(schema: "pa.Schema") -> "pa.Schema":
    """Lists of a fixed length are plain ones: engines take the type from the log, and refuse another in the file."""
    import pyarrow as pa

    return pa.schema(
        [
            field.with_type(pa.list_(field.type.value_field)) if pa.types.is_fixed_size_list(field.type) else field
            for field in schema
        ]
    )


def _field(field: "pa.Field") -> dict[str, Any]:
    return {"name": field.name, "type": _type(field.type, field.name), "nullable": True, "metadata": {}}


def _type(found: "pa.DataType", column: str) -> "str | dict[str, Any]":
    import pyarrow as pa

    plain = {
        pa.string(): "string", pa.large_string(): "string", pa.bool_(): "boolean", pa.int8(): "byte",
        pa.int16(): "short", pa.int32(): "integer", pa.int64(): "long", pa.float32(): "float", pa.float64(): "double",
        pa.binary(): "binary", pa.large_binary(): "binary", pa.date32(): "date",
    }  # fmt: skip
    if found in plain:
        return plain[found]
    if pa.types.is_timestamp(found) and found.tz is not None:
        return "timestamp"
    if pa.types.is_decimal(found):
        return f"decimal({found.precision},{found.scale})"
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return {"type": "array", "elementType": _type(found.value_type, column), "containsNull": True}
    if pa.types.is_struct(found):
        return {"type": "struct", "fields": [_field(each) for each in found]}
    raise NoDeltaType(column, str(found))
