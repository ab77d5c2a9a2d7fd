"""Which collections there are: those below `collections/` of the project, and those that definitions have recorded.

Definitions of any Dagster project record theirs in the home when they load. So commands and the desk find them without
importing the project, several code locations may share a home, and a name means one collection in all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ai_assets.base.collection_files import (
    FOLDER,
    CatalogEntry,
    declared_collections,
    held_in_memory,
    hold_in_memory,
    makes_no_home,
)
from ai_assets.base.durable import write_whole
from ai_assets.base.home import Home
from ai_assets.base.import_path import look_first_in
from ai_assets.base.tenants import load_tenants
from ai_assets.collection.errors import CollectionElsewhere, CollectionUnknown
from ai_assets.collection.loading import Collection, check_name
from ai_assets.collection.loading import load_collection as load_at

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings


@dataclass(frozen=True)
class Catalog:
    home: Home

    def entries(self) -> Mapping[str, CatalogEntry]:
        """By name."""
        return declared_collections(self.home)

    def names(self) -> list[str]:
        return list(self.entries())

    def home_of(self, name: str) -> Home:
        """The home with the project of a collection, whose `inference.yaml` counts for it."""
        entry = self.entries().get(name)
        return self.home if entry is None else self._home_with(entry)

    def inference_of(self, name: str) -> "InferenceSettings":
        """The models that a collection may ask, as its own project declares them."""
        from ai_assets.inference.load import inference_at

        return inference_at(self.home_of(name))

    def tenant_of(self) -> Mapping[str, str]:
        """By collection, where tenants are declared."""
        if not load_tenants(self.home.operations):
            return {}
        return {name: entry.tenant for name, entry in self.entries().items()}

    def entry(self, name: str) -> CatalogEntry:
        entries = self.entries()
        if name not in entries:
            raise CollectionUnknown(name, list(entries), self.home.project / FOLDER)
        return entries[name]

    def load(self, name: str) -> Collection:
        """Checked as a whole; wrong input is a UserError that says where."""
        return self._load(self.entry(name))

    def all(self) -> list[Collection]:
        return [self._load(entry) for entry in self.entries().values()]

    def _load(self, entry: CatalogEntry) -> Collection:
        from ai_assets.inference.load import inference_at

        look_first_in(entry.imports)
        there = self._home_with(entry)
        tenants = load_tenants(there.operations)
        return load_at(entry.folder.parent, entry.folder.name, lambda: inference_at(there), tenants)

    def _home_with(self, entry: CatalogEntry) -> Home:
        """`operations.yaml` stays that of the installation, whatever project a collection is of."""
        return replace(self.home, project=entry.project, declared_operations=self.home.operations)

    def record(self, name: str, entry: CatalogEntry) -> None:
        """Say where it is declared. Another one of that name that is still there is refused; a disk that cannot be
        written is not: commands then look where they are started."""
        check_name(name)
        known = self.entries().get(name)
        if known == entry:
            return
        if known is not None and known.folder.resolve() != entry.folder.resolve():
            raise CollectionElsewhere(name, known.folder, entry.folder, self.home.root)
        if makes_no_home() and not self.home.root.is_dir():
            hold_in_memory(self.home, name, entry)
            return
        self._write(name, entry)

    def record_held(self) -> None:
        """What was loaded before there was a home."""
        for name, entry in held_in_memory(self.home).items():
            self._write(name, entry)

    def _write(self, name: str, entry: CatalogEntry) -> None:
        try:
            self.home.ensure()
            (self.home.root / FOLDER).mkdir(exist_ok=True)
            write_whole(self.home.root / FOLDER / f"{name}.json", entry.as_json().encode())
        except OSError:
            return
