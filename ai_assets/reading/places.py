"""Where the files of a release are read from: the home that published it, or its data alone with the public keys."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ai_assets.base.errors import DatasetAltered, DatasetDamaged
from ai_assets.base.home import Home
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.collection.catalog import Catalog
from ai_assets.embedding.spec import FIRST, further_columns
from ai_assets.inference import history
from ai_assets.inference.history import CallCost
from ai_assets.reading.errors import (
    DataNotSigned,
    DollarsAltered,
    DollarsUnwritten,
    HomeMissing,
    NothingLiveThen,
    NotInDataAlone,
    TrustMissing,
)
from ai_assets.run.explain import ReleaseHits, search_release
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff import forgotten, keys, live_index, releases, served
from ai_assets.signoff.audit_errors import SignatureInvalid
from ai_assets.signoff.errors import NothingLive
from ai_assets.signoff.forgotten import Register
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.release_costs import calls_by_stage, costs_path
from ai_assets.signoff.releases import Release
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.index import BUILTIN_DIMENSIONS, SearchIndex
from ai_assets.storage.index_bucket import BucketPlace
from ai_assets.storage.index_place import FolderPlace, IndexPlace
from ai_assets.storage.lake import Lake, parquet_schema, read_batches, read_rows
from ai_assets.storage.objects import opened_bucket
from ai_assets.storage.shared_lake import LAKE, SharedLake
from ai_assets.storage.stores import Stores

_TRIES, _PAUSE_S = 5, 0.2
"""A publication replaces two files, one after the other."""


Dollars = Callable[[Sequence[str]], Mapping[str, CallCost]]
"""By the key of a call, what all its attempts cost; without a key that the ledger does not have."""
_COSTS = ("call", "cost_nusd", "maybe_nusd")


class ReleasePlace(Protocol):
    """What a reader needs of wherever a release is kept."""

    @property
    def lake(self) -> Lake: ...

    def live(self) -> Release: ...

    def numbered(self, number: int) -> Release: ...

    def live_at(self, moment: str) -> Release: ...

    def index(self, release: Release) -> SearchIndex:
        """With the bytes that were published; raises where it is not."""
        ...

    def search(self, release: Release, text: str, k: int) -> ReleaseHits: ...

    def require_dollars(self, release: Release) -> None:
        """Raises where nobody can say what the calls of some partition cost."""
        ...

    def dollars(self, release: Release, partition: str) -> Dollars: ...

    def dollars_as_of(self, release: Release, partition: str) -> str | None:
        """When the ledger was asked; None where it is asked now, or was not asked about any row."""
        ...

    def forgotten(self) -> Register | None:
        """Documents that were erased since they were signed, which count as they were; None where nobody tells: then
        the bytes of the files, which the signed `live.json` names, are all that can be checked."""
        ...


@dataclass(frozen=True)
class HomePlace:
    """The home of a project. Nothing is written; its chain is checked as for every reader."""

    name: str
    home: Home

    @cached_property
    def _stores(self) -> Stores:
        if self.home.declared_state_url is None and not self.home.root.is_dir():
            raise HomeMissing(self.home.root)
        return Stores.reading(self.home, lambda _line: None)

    @property
    def lake(self) -> Lake:
        return self._stores.lake

    def live(self) -> Release:
        try:
            return served.newest_live(self._stores, self.name)
        except NothingLive:
            if self.name not in recorded(self._stores.state):
                Catalog(self.home).entry(self.name)
            raise

    def numbered(self, number: int) -> Release:
        with self._stores.state.read() as connection:
            return releases.get(connection, self.name, number)

    def live_at(self, moment: str) -> Release:
        with self._stores.state.read() as connection:
            if (found := releases.live_at(connection, self.name, moment)) is None:
                raise NothingLiveThen(self.name, moment)
            return found

    def index(self, release: Release) -> SearchIndex:
        return served.require_index(self._stores, release)

    def search(self, release: Release, text: str, k: int) -> ReleaseHits:
        catalog = Catalog(self.home)
        signed = None if self.name in catalog.entries() else recorded(self._stores.state).get(self.name)
        return search_release(signed or catalog.load(self.name), self._stores, release, text, k)

    def require_dollars(self, release: Release) -> None:
        """The ledger can."""

    def dollars(self, release: Release, partition: str) -> Dollars:
        def asked(calls: Sequence[str]) -> Mapping[str, CallCost]:
            with self._stores.state.read() as connection:
                return history.cost_of_calls(connection, calls)

        return asked

    def dollars_as_of(self, release: Release, partition: str) -> None:
        return None

    def forgotten(self) -> Register:
        with self._stores.state.read() as connection:
            return forgotten.of(connection, self.name)


@dataclass(frozen=True)
class DataPlace:
    """Lake and index alone, in a bucket or a folder, with the public keys of the home that signs `live.json`."""

    name: str
    data: str
    trust: keys.Trust
    _copies: TemporaryFolder

    @classmethod
    def of(cls, name: str, data: str, trust: Path | None) -> "DataPlace":
        if trust is None:
            raise TrustMissing(data)
        return cls(name, data, keys.Trust.read(trust), TemporaryFolder("reading"))

    @property
    def lake(self) -> Lake:
        if self._in_bucket:
            return SharedLake(self._copies.path, opened_bucket(self.data, LAKE))
        return Lake(Path(self.data) / "lake")

    def live(self) -> Release:
        for left in reversed(range(_TRIES)):
            said = self._statement()
            named = said.get("release_file")
            if not isinstance(named, str):
                raise DataNotSigned(self.data, f"{live_index.FILE} is of an earlier version and names no release file")
            content = self._place.kept(named).content
            if content is not None and live_index.release_file(content) == named:
                return releases.of_file(json.loads(content))
            if not left:
                raise DataNotSigned(self.data, f"{named}, which {live_index.FILE} names, is missing or altered")
            time.sleep(_PAUSE_S)
        raise AssertionError

    def numbered(self, number: int) -> Release:
        if (found := self.live()).number != number:
            raise NotInDataAlone(self.name, f"release {number}", found.number)
        return found

    def live_at(self, moment: str) -> Release:
        raise NotInDataAlone(self.name, f"what was live at {moment}", self.live().number)

    def index(self, release: Release) -> SearchIndex:
        embeddings = release.embeddings
        dimensions = embeddings[FIRST].dimensions if embeddings else BUILTIN_DIMENSIONS
        more = further_columns(embeddings)
        index = SearchIndex(self._place, release.index_name, dimensions, more=more, branch=release.index_branch)
        served.require_as_published(index, release)
        return index

    def search(self, release: Release, text: str, k: int) -> ReleaseHits:
        """By words: what embeds a question is declared in the project."""
        made_by = release.embeddings.get(FIRST)
        if not text.strip() or made_by is None:
            return ReleaseHits(hits=[], by_words=True)
        hits = self.index(release).search(release.index_version, None, text, k, mode="text", of=made_by.of)
        return ReleaseHits(hits=hits, by_words=True)

    def require_dollars(self, release: Release) -> None:
        for partition, part in release.parts.items():
            if part.costs_file is None:
                documents, _ = snapshot_paths(self.lake, self.name, partition, part)
                if calls_by_stage(parquet_schema(documents)):
                    raise DollarsUnwritten(self.name, release.number, partition)

    def dollars(self, release: Release, partition: str) -> Dollars:
        def kept(calls: Sequence[str]) -> Mapping[str, CallCost]:
            import pyarrow as pa
            import pyarrow.compute as pc

            if (path := self._costs(release, partition)) is None:
                return {}
            wanted = pa.array(sorted(set(calls)), pa.string())
            found: dict[str, CallCost] = {}
            for batch in read_batches(path, _COSTS):
                rows = batch.filter(pc.is_in(batch["call"], wanted))
                found |= {call: CallCost(*cost) for call, *cost in zip(*rows.to_pydict().values(), strict=True)}
            return found

        return kept

    def dollars_as_of(self, release: Release, partition: str) -> str | None:
        path = self._costs(release, partition)
        return None if path is None else next(read_rows(path, ["as_of"]), {}).get("as_of")

    def _costs(self, release: Release, partition: str) -> Path | None:
        """The file with the dollars of a partition, checked; None where no model was asked about any of its rows."""
        part = release.parts[partition]
        try:
            path = costs_path(self.lake, self.name, partition, part)
            if path is not None:
                parquet_schema(path)
        except DatasetAltered as error:
            found = f"was altered: its SHA-256 is {error.found}"
        except DatasetDamaged:
            found = "is missing or damaged"
        else:
            return path
        raise DollarsAltered(self.name, release.number, partition, str(part.costs_file), found)

    def forgotten(self) -> None:
        return None

    @property
    def _in_bucket(self) -> bool:
        return "://" in self.data

    @property
    def _place(self) -> IndexPlace:
        if self._in_bucket:
            return BucketPlace(self.data, "index", self.name)
        return FolderPlace(Path(self.data) / "index" / self.name)

    def _statement(self) -> dict[str, Any]:
        content = self._place.kept(live_index.FILE).content
        if content is None:
            raise NothingLive(self.name)
        try:
            found = json.loads(content)
            said: dict[str, Any] = found["statement"]
            signed = canonical_json(said).encode()
            signature = found["signature"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataNotSigned(self.data, f"{live_index.FILE} is damaged") from error
        if not any(_signs(public, signed, signature) for kind in keys.KINDS for public in self.trust.keys[kind]):
            raise DataNotSigned(self.data, f"{live_index.FILE} is not signed by a key of the file that you trust")
        if (said.get("collection"), said.get("chain")) != (self.name, self.trust.chain):
            raise DataNotSigned(self.data, f"{live_index.FILE} is of {said.get('collection')} in another home")
        return said


def _signs(public: bytes, data: bytes, signature: str) -> bool:
    try:
        keys.check(public, data, signature)
    except SignatureInvalid:
        return False
    return True
