"""The search indexes of a collection in a bucket. LanceDB reaches it by itself; what it does not do is done here.

LanceDB commits a version by a put that fails where there is one already. Two writers of a branch would therefore both
get their rows in; that only one writes is the business of leases, and of the count before a release goes live.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cached_property

from ai_assets.storage.index_place import BRANCHES, TABLE, Kept, SealedFile
from ai_assets.storage.objects import PATIENCE_S, DataBucket, ListedObject, ObjectReplaced, opened_bucket

LISTED_FOR_S = 60.0
"""So long a listing counts for readers, who would else make one for each search."""
_LISTINGS_KEPT = 100


class BucketPlace:
    def __init__(self, url: str, *names: str) -> None:
        self._bucket = opened_bucket(url, *names)

    @property
    def known_for_s(self) -> float:
        return LISTED_FOR_S

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket.bucket}/{self._bucket.prefix}"

    @property
    def options(self) -> Mapping[str, str]:
        """Credentials it finds as we do: variables, the machine's role, a profile."""
        found = {"aws_region": self._bucket.region, "client_retry_timeout": f"{PATIENCE_S:.0f}"}
        if (endpoint := self._bucket.endpoint) is not None:
            found |= {"aws_endpoint": endpoint, "aws_virtual_hosted_style_request": "false"}
            found |= {"allow_http": "true"} if endpoint.startswith("http:") else {}
        return found

    def tables(self) -> list[str]:
        heads = {entry.key.partition("/")[0] for entry in self._bucket.objects()}
        return sorted(head.removesuffix(TABLE) for head in heads if head.endswith(TABLE))

    def branches(self, table: str) -> list[str]:
        below = self._bucket.below(f"{table}{TABLE}", BRANCHES)
        return sorted({entry.key.partition("/")[0] for entry in below.objects()})

    def may_exist(self, table: str) -> bool:
        """LanceDB says."""
        return bool(table)

    def files(self, table: str, branch: str | None, *, fresh: bool = False) -> "_BucketFiles":
        return _BucketFiles(self._below(table, branch), fresh=fresh)

    def remove(self, table: str, branch: str | None = None) -> None:
        below = self._below(table, branch)
        below.delete([entry.key for entry in below.objects()])

    def erase_replaced(self) -> None:
        self._bucket.erase("", only_replaced=True)

    def size(self, table: str, branch: str | None = None) -> int:
        return sum(entry.size for entry in self._below(table, branch).objects())

    def written_at(self, table: str) -> float:
        return max((entry.modified_s for entry in self._below(table, None).objects()), default=0.0)

    def writing(self, _table: str) -> contextlib.AbstractContextManager[None]:
        """Writers hold a lease, and no file of a bucket can be locked."""
        return contextlib.nullcontext()

    def kept(self, name: str) -> Kept:
        found = self._bucket.get(name)
        return Kept(None, None) if found is None else Kept(found.content, found.tag)

    def keep(self, name: str, content: bytes, instead: Kept) -> bool:
        try:
            if instead.mark is None:
                self._bucket.put_if_absent(name, content)
            else:
                self._bucket.put_if_unchanged(name, content, instead.mark)
        except ObjectReplaced:
            return False
        return True

    def put(self, name: str, content: bytes) -> None:
        self._bucket.put(name, content)

    def drop(self, name: str) -> None:
        self._bucket.delete([name])

    def require_reached(self) -> None:
        """Raises `DataStoreUnusable` where it is the bucket that cannot be used, and not LanceDB that fails."""
        for _ in DataBucket(self._bucket.url, patience_s=0).objects(".none"):
            return

    def _below(self, table: str, branch: str | None) -> DataBucket:
        return self._bucket.below(f"{table}{TABLE}", *([] if branch is None else [BRANCHES, branch]))


class _BucketFiles:
    def __init__(self, bucket: DataBucket, *, fresh: bool) -> None:
        self._bucket, self._fresh = bucket, fresh

    @cached_property
    def _listed(self) -> Mapping[str, ListedObject]:
        return LISTINGS.of(self._bucket, fresh=self._fresh)

    def names(self, folder: str = "") -> Iterator[str]:
        return (name for name in self._listed if not folder or name.startswith(f"{folder}/"))

    def holds(self, name: str) -> bool:
        return name in self._listed

    def read(self, name: str) -> bytes:
        found = self._bucket.get(name)
        if found is None:
            raise FileNotFoundError(name)
        return found.content

    def facts(self, name: str, known: SealedFile | None = None) -> SealedFile | None:
        entry = self._listed.get(name)
        if entry is None:
            return None
        if known is not None and (known.size, known.etag) == (entry.size, entry.tag):
            return known
        sha256 = self._bucket.sha256(name)
        return None if sha256 is None else SealedFile(entry.size, sha256, entry.tag)


class _Listings:
    """What lies below a prefix, as it was less than a minute ago."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str, tuple[float, Mapping[str, ListedObject]]] = {}

    def of(self, bucket: DataBucket, *, fresh: bool) -> Mapping[str, ListedObject]:
        with self._guard:
            at, found = self._known.get(bucket.url, (0.0, {}))
        if found and not fresh and time.monotonic() - at < LISTED_FOR_S:
            return found
        at = time.monotonic()
        found = {entry.key: entry for entry in bucket.objects()}
        with self._guard:
            while len(self._known) >= _LISTINGS_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[bucket.url] = at, found
        return found


LISTINGS = _Listings()
"""Of this process."""
