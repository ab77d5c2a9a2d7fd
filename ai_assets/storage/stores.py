"""Where everything of a home is kept, opened together."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from ai_assets.base.allocator import share_arenas
from ai_assets.base.errors import StateUnavailable
from ai_assets.base.home import HOME_VARIABLE, STATE_URL_VARIABLE, Home, HomeUnusable
from ai_assets.storage import partition_facts
from ai_assets.storage.data_places import DataPlaces
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.index import BUILTIN_DIMENSIONS, SearchIndex
from ai_assets.storage.index_bucket import BucketPlace
from ai_assets.storage.index_place import FolderPlace, IndexPlace
from ai_assets.storage.known_tables import APPLIED
from ai_assets.storage.lake import Lake, Manifest
from ai_assets.storage.objects import refuse_careless
from ai_assets.storage.patience import RUN_PATIENCE_S
from ai_assets.storage.postgres import described
from ai_assets.storage.shared_lake import lake_of
from ai_assets.storage.state import StateStore, upsert


@dataclass(frozen=True)
class Stores:
    """Where everything is kept."""

    home: Home
    lake: Lake
    state: StateStore
    places: DataPlaces

    @classmethod
    def at(cls, home: Home) -> Self:
        home.ensure()
        share_arenas()
        return cls._of(home, state_of(home))

    @classmethod
    def _of(cls, home: Home, state: StateStore) -> Self:
        places = DataPlaces.of(home, state)
        return cls(home, lake_of(places), state, places)

    @classmethod
    def of_run(cls, home: Home) -> Self:
        """The same, for what must not end where PostgreSQL restarts meanwhile, and must not write beside others into a
        bucket that does not keep them apart."""
        stores = cls.at(home)
        if home.data_url is not None:
            refuse_careless(home.data_url)
        stores.state.patience_s = RUN_PATIENCE_S
        return stores

    @classmethod
    def reading(cls, home: Home, say: Callable[[str], None]) -> Self:
        """For a command that only reads: also where the home cannot be written; `say` is told of what that takes.

        Where nothing was kept yet, there is nothing to read, and nothing is made.
        """
        if not is_there(home):
            if not next(path for path in (home.root, *home.root.parents) if path.exists()).is_dir():
                home.ensure()  # says what is in its way
            say(nothing_yet(home))
            return cls._of(home, StateStore.empty(home.state_url, keys=home.keys))
        if not home.root.is_dir():
            return cls._of(home, state_of(home))
        try:
            return cls.at(home)
        except (HomeUnusable, StateUnavailable) as error:
            try:
                return cls._of(home, StateStore.reading(home.state_url, say, keys=home.keys))
            except StateUnavailable:
                raise error from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sensors open these every few seconds in a process that lives for days."""
        self.state.close()

    def index_place(self, collection: str) -> IndexPlace:
        """Where the search indexes of a collection are, and its `live.json`."""
        if (url := self.places.url_of(collection)) is not None:
            return BucketPlace(url, "index", collection)
        return FolderPlace(self.home.index / collection)

    def index(
        self,
        collection: str,
        name: str,
        dimensions: int | None = None,
        more: Mapping[str, int] | None = None,
        branch: str | None = None,
    ) -> SearchIndex:
        """Of vectors of that length, which are the built-in ones unless it is said; `more` by column, of others."""
        length, further = dimensions or BUILTIN_DIMENSIONS, tuple((more or {}).items())
        if (url := self.places.url_of(collection)) is not None:
            return _index_in_bucket(os.getpid(), url, collection, name, length, further, branch)
        return SearchIndex(self.index_place(collection), name, length, more=dict(further), branch=branch)


@lru_cache(maxsize=64)
def _index_in_bucket(
    _process: int,
    url: str,
    collection: str,
    name: str,
    dimensions: int,
    more: tuple[tuple[str, int], ...],
    branch: str | None,
) -> SearchIndex:
    """Kept open, for opening a version takes thirty requests. A child process opens its own."""
    return SearchIndex(BucketPlace(url, "index", collection), name, dimensions, more=dict(more), branch=branch)


def is_there(home: Home) -> bool:
    """Whether the state store may hold something: a file of SQLite that was made, or a PostgreSQL with our tables."""
    if home.state_url.startswith("sqlite"):
        return Path(sa.make_url(home.state_url).database or "").exists()
    with StateStore.reached(home.state_url) as connection:
        return sa.inspect(connection).has_table(APPLIED)


def nothing_yet(home: Home) -> str:
    if home.state_url.startswith("sqlite"):
        return f"There is no home at {home.root} yet: the first run makes it. Is it elsewhere? Set {HOME_VARIABLE}."
    where = f"The database {described(home.state_url)} has no tables of ours yet"
    return f"{where}: the first run makes them. Is it another one? Set {STATE_URL_VARIABLE}."


def state_of(home: Home) -> StateStore:
    """With as many connections as the home declares."""
    return StateStore(home.state_url, keys=home.keys, connections=home.connections // 2)


def record_dataset(connection: sa.Connection, manifest: Manifest) -> None:
    """Show a manifest in the state store, so that a question over all partitions is one query."""
    shown = {key: value for key, value in manifest.stats.items() if key != "preview"}
    place = {"collection": manifest.collection, "asset": manifest.asset, "partition": manifest.partition}
    query = sa.text(
        "SELECT stats FROM datasets WHERE collection = :collection AND asset = :asset AND partition = :partition"
    )
    before: str | None = connection.execute(query, place).scalar_one_or_none()
    upsert(
        connection,
        "datasets",
        place,
        {
            "version": manifest.version,
            "code_version": manifest.code_version,
            "row_count": manifest.rows,
            "stats": canonical_json(shown),
            "unanswered": int(manifest.stats.get("unanswered") or 0),
            "run_id": manifest.run_id,
            "written_at": manifest.written_at,
        },
    )
    partition_facts.count(connection, manifest.collection, manifest.asset, before, shown)
    if manifest.asset == "documents":
        partition_facts.derive(connection, manifest.collection, [manifest.partition])
