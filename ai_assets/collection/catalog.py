"""Which collections there are: those below `collections/` of the project, and those that definitions have recorded.

Definitions of any Dagster project record theirs in the home when they load. So commands and the desk find them without
importing the project, several code locations may share a home, and a name means one collection in all of them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.base.durable import write_whole
from ai_assets.base.home import Home
from ai_assets.base.import_path import look_first_in
from ai_assets.base.tenants import load_tenants
from ai_assets.base.yaml_settings import read_yaml
from ai_assets.collection.errors import CollectionElsewhere, CollectionInvalid, CollectionUnknown
from ai_assets.collection.loading import DEFS_FILE, Collection, check_name, collection_names
from ai_assets.collection.loading import load_collection as load_at
from ai_assets.collection.settings import CollectionSettings

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings

FOLDER = "collections"
"""Of a project, for what is declared there; of a home, for what definitions recorded."""


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """Where a collection is declared."""

    folder: Path
    """Holds its `defs.yaml`."""
    project: Path
    """Holds `inference.yaml` and the like."""
    imports: tuple[Path, ...] = ()
    """Folders from which code of the project is imported."""

    @property
    def file(self) -> Path:
        return self.folder / DEFS_FILE

    def as_json(self) -> str:
        found = {"folder": str(self.folder), "project": str(self.project), "imports": list(map(str, self.imports))}
        return json.dumps(found, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> "CatalogEntry | None":
        """None where it cannot be read: the next load of the definitions writes it again."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            imports = tuple(map(Path, data["imports"]))
            return cls(folder=Path(data["folder"]), project=Path(data["project"]), imports=imports)
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Catalog:
    home: Home

    def entries(self) -> Mapping[str, CatalogEntry]:
        """By name. A recorded one whose file is gone is not there any more."""
        root = self.home.project / FOLDER
        found = {name: CatalogEntry(folder=root / name, project=self.home.project) for name in collection_names(root)}
        for path in sorted((self.home.root / FOLDER).glob("*.json")):
            entry = CatalogEntry.read(path)
            if entry is not None and entry.file.is_file():
                found.setdefault(path.stem, entry)
        return dict(sorted(found.items()))

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
        """By collection, where tenants are declared. Only that key is read, so no other mistake of a file matters."""
        if not load_tenants(self.home.operations):
            return {}
        return {name: _tenant_in(entry.file) for name, entry in self.entries().items()}

    def load(self, name: str) -> Collection:
        """Checked as a whole; wrong input is a UserError that says where."""
        entries = self.entries()
        if name not in entries:
            raise CollectionUnknown(name, list(entries), self.home.project / FOLDER)
        return self._load(entries[name])

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
        try:
            self.home.ensure()
            (self.home.root / FOLDER).mkdir(exist_ok=True)
            write_whole(self.home.root / FOLDER / f"{name}.json", entry.as_json().encode())
        except OSError:
            return


def _tenant_in(file: Path) -> str:
    """Empty, which is no tenant, where the file cannot be read."""
    try:
        _, data = read_yaml(file, CollectionInvalid)
        attributes = data["attributes"]
        return str(attributes.get("tenant", CollectionSettings.model_fields["tenant"].default))
    except (CollectionInvalid, KeyError, TypeError, AttributeError):
        return ""
