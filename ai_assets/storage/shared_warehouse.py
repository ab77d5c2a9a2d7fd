"""The cost warehouse of several machines: one object named by its content, and a pointer that names it.

It is built on one machine. The pointer is replaced only where it is still the one that was there when the build began,
so of two builders one wins. Whoever reads fetches the file that the pointer names, once; retention removes what it
named before, after a time in which every reader has it.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.storage.content import file_sha256, named_by_content
from ai_assets.storage.leases import Lease
from ai_assets.storage.objects import (
    DataBucket,
    ObjectAltered,
    ObjectMissing,
    ObjectReplaced,
    StoredObject,
    opened_bucket,
)
from ai_assets.storage.warehouse import Site, WarehouseDamaged, WarehouseMissing, building, refuse_newer

WAREHOUSE = "warehouse"
"""The part of the bucket."""
POINTER = "current.json"
KEPT_HERE_S = 3600.0
_TRIES = 3


class WarehouseOvertaken(UserError):
    def __init__(self, where: str) -> None:
        super().__init__(
            f"Another process built the cost warehouse {where} meanwhile, and its build is the one that counts. "
            "Nothing is lost; run again where something is newer: ai-assets cost"
        )


def warehouse_file(home: Home) -> Path:
    """The live warehouse, to be read on this machine."""
    if home.data_url is None:
        return home.warehouse
    bucket = warehouse_bucket(home.data_url)
    for _ in range(_TRIES):  # replaced, and removed, between the two requests
        pointer = bucket.get(POINTER)
        if pointer is None:
            break
        name = named(pointer, bucket)
        path = home.warehouse.parent / name
        try:
            if not path.exists():
                bucket.fetch(name, path, str(named_by_content(name)))
                _forget_older(path)
        except ObjectMissing:
            continue
        except ObjectAltered as error:
            raise WarehouseDamaged(path, f"the bucket holds other bytes (SHA-256 {error.found})") from error
        return path
    raise WarehouseMissing(Path(bucket.where(POINTER)))


@contextlib.contextmanager
def building_for(home: Home, lease: Lease) -> Iterator[Site]:
    """As `building`, where the home says that its data lies."""
    if home.data_url is None:
        with building(home.warehouse, lease) as site:
            yield site
        return
    bucket = warehouse_bucket(home.data_url)
    before = bucket.get(POINTER)
    with contextlib.suppress(WarehouseMissing, WarehouseDamaged):
        refuse_newer(warehouse_file(home))

    def put(file: Path) -> None:
        name = f"{file_sha256(file)}.duckdb"
        bucket.put(name, file)
        with lease.fenced():
            pass
        content = json.dumps({"file": name}).encode()
        try:
            if before is None:
                bucket.put_if_absent(POINTER, content)
            else:
                bucket.put_if_unchanged(POINTER, content, before.tag)
        except ObjectReplaced:
            raise WarehouseOvertaken(bucket.describe()) from None
        file.replace(home.warehouse.parent / name)

    with building(home.warehouse.with_name("none.duckdb"), lease, put) as site:
        yield site


def warehouse_bucket(data_url: str) -> DataBucket:
    return opened_bucket(data_url, WAREHOUSE)


def named(pointer: StoredObject, bucket: DataBucket) -> str:
    try:
        name = str(json.loads(pointer.content)["file"])
    except (ValueError, KeyError, TypeError):
        name = ""
    if named_by_content(name) is None or "/" in name:
        raise WarehouseDamaged(Path(bucket.where(POINTER)), "it names no warehouse")
    return name


def _forget_older(path: Path) -> None:
    """Copies that nobody begins to read any more; who has one open goes on reading it."""
    for other in path.parent.glob("*.duckdb"):
        with contextlib.suppress(OSError):
            if other != path and named_by_content(other.name) and time.time() - other.stat().st_mtime > KEPT_HERE_S:
                other.unlink()
