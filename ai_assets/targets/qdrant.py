"""Releases in Qdrant: a collection for each release, and an alias that is moved to the live one in one step.

Points have names of their own (UUIDs of release and passage), so writing again after a kill writes the same ones.
Nothing is removed: earlier releases stay to be gone back to.
"""

import datetime
import functools
import itertools
import json
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ai_assets.base.extras import need
from ai_assets.base.home import variable
from ai_assets.base.plural import plural
from ai_assets.storage.index_writing import VECTOR
from ai_assets.targets.base import Receipt, Row, Target, TargetRelease
from ai_assets.targets.errors import (
    NameTakenInQdrant,
    ReleaseNotInQdrant,
    TargetAddressMissing,
    TargetNameUnfit,
    TargetUnreached,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

URL_VARIABLE = "AI_ASSETS_QDRANT_URL"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_AT_ONCE = 256
_TIMEOUT_S = 60


class Qdrant(Target):
    """The alias `NAME`. `path`: a folder instead of a server, for trying it out in one process."""

    def __init__(
        self,
        name: str,
        url_variable: str = URL_VARIABLE,
        api_key_variable: str | None = None,
        path: str | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise TargetNameUnfit(name)
        self._name, self._url_variable = name, url_variable
        self._api_key_variable, self._path = api_key_variable, path

    def write(self, release: TargetRelease) -> Receipt:
        return self._written(release, self._place(release))

    def rebuild(self, release: TargetRelease, attempt: str) -> Receipt:
        """Into a collection of its own; those of the same release go when readers see it."""
        return self._written(release, f"{self._place(release)}-{attempt}")

    def _place(self, release: TargetRelease) -> str:
        return f"{self._name}--{release.number}-{release.digest[:12]}"

    def _written(self, release: TargetRelease, place: str) -> Receipt:
        with self._connected() as client:
            self._require_ours(client)
            self._make(client, place, release)
            points = 0
            for partition in sorted(release.partitions):
                waiting = self._points(release, partition)
                while block := list(itertools.islice(waiting, _AT_ONCE)):
                    client.upsert(place, block, wait=True)
                    points += len(block)
            return self._receipt(place, self._counted(client, place, points))

    def point(self, receipt: Receipt) -> None:
        from qdrant_client import models

        place = str(receipt["collection"])
        with self._connected() as client:
            self._require_ours(client)
            if not client.collection_exists(place) or client.count(place, exact=True).count != receipt["points"]:
                raise ReleaseNotInQdrant(place)
            before = [] if self._shown(client) is None else [
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._name))
            ]  # fmt: skip
            made = models.CreateAlias(collection_name=place, alias_name=self._name)
            client.update_collection_aliases([*before, models.CreateAliasOperation(create_alias=made)])
            for other in self._of_the_same_release(client, place):
                client.delete_collection(other)

    def read(self) -> Receipt | None:
        with self._connected() as client:
            place = self._shown(client)
            return None if place is None else self._receipt(place, client.count(place, exact=True).count)

    def close(self) -> None:
        if "client" in vars(self):
            self.client.close()
            del self.client

    def _receipt(self, place: str, points: int) -> Receipt:
        return {"name": self._name, "collection": place, "points": points}

    def _shown(self, client: "QdrantClient") -> str | None:
        """The collection that the alias is on."""
        found = (each.collection_name for each in client.get_aliases().aliases if each.alias_name == self._name)
        return next(found, None)

    def _of_the_same_release(self, client: "QdrantClient", place: str) -> list[str]:
        """What a rebuild of it, or one that did not end, left beside the one that readers see."""
        release = "-".join(place.split("-")[:4])  # NAME, nothing, NUMBER, DIGEST: a name holds no dash
        names = sorted(each.name for each in client.get_collections().collections)
        return [name for name in names if name != place and (name == release or name.startswith(f"{release}-"))]

    def _require_ours(self, client: "QdrantClient") -> None:
        """Raises where the name is another collection's, or shows one that this target did not make."""
        if self._name in {each.name for each in client.get_collections().collections}:
            raise NameTakenInQdrant(self._name, "is a collection")
        if (shown := self._shown(client)) is not None and not shown.startswith(f"{self._name}--"):
            raise NameTakenInQdrant(self._name, f"is an alias of '{shown}'")

    def _make(self, client: "QdrantClient", place: str, release: TargetRelease) -> None:
        from qdrant_client import models

        lengths = {} if release.dimensions is None else {VECTOR: release.dimensions, **release.further}
        if client.collection_exists(place):
            vectors = client.get_collection(place).config.params.vectors
            there = {name: each.size for name, each in vectors.items()} if isinstance(vectors, dict) else vectors
            if there != lengths:
                raise NameTakenInQdrant(place, f"has vectors {there}, and the release {lengths}")
            return
        wanted = {name: models.VectorParams(size=size, distance=models.Distance.DOT) for name, size in lengths.items()}
        client.create_collection(place, vectors_config=wanted)

    def _points(self, release: TargetRelease, partition: str) -> Iterator[Any]:
        from qdrant_client import models

        documents = {
            row["document_id"]: {name: value for name, value in row.items() if name != "text" and value is not None}
            for row in release.documents([partition])
        }
        about = {"collection": release.collection, "release": release.number, "release_digest": release.digest}
        for row in release.chunks([partition]):
            vectors = {name: value for name, value in row.items() if name.startswith(VECTOR) and value is not None}
            said = {name: value for name, value in row.items() if not name.startswith(VECTOR) and value is not None}
            payload = _as_json({**documents.get(row["document_id"], {}), **said, **about})
            point = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([release.digest, partition, row["chunk_id"]]))
            yield models.PointStruct(id=str(point), vector=vectors, payload=payload)

    def _counted(self, client: "QdrantClient", place: str, written: int) -> int:
        found = client.count(place, exact=True).count
        if found != written:
            raise NameTakenInQdrant(place, f"holds {plural(found, 'point')}, and the release has {written}")
        return found

    @contextmanager
    def _connected(self) -> "Iterator[QdrantClient]":
        need("qdrant", "A target in Qdrant")
        import httpx
        from qdrant_client.http.exceptions import ApiException

        where = "The Qdrant of the target"
        try:
            yield self.client
        except (ApiException, httpx.HTTPError, OSError) as error:
            source = getattr(error, "source", error)
            status = getattr(error, "status_code", None)
            said = f"it answered {status}" if status is not None else " ".join(str(source).split())[:300]
            raise TargetUnreached(where, said) from error
        except (RuntimeError, ValueError) as error:  # of the client itself, such as a folder that is in use
            raise TargetUnreached(where, " ".join(str(error).split())[:300]) from error

    @functools.cached_property
    def client(self) -> "QdrantClient":
        """Opened once, until the target is closed."""
        from qdrant_client import QdrantClient

        if self._path is not None:
            return QdrantClient(path=self._path)
        if (url := variable(self._url_variable)) is None:
            raise TargetAddressMissing(self._url_variable, "https://host:6333")
        key = None
        if self._api_key_variable is not None and (key := variable(self._api_key_variable)) is None:
            raise TargetAddressMissing(self._api_key_variable, "the API key of the server")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a key without TLS, which is common inside a cluster
            return QdrantClient(url=url, api_key=key, timeout=_TIMEOUT_S, check_compatibility=False)


def _as_json(row: Row) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """As JSON has it; dates as Qdrant filters by them."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.loads(json.dumps(value, default=str))
