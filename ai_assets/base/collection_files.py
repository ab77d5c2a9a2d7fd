"""Where collections are declared, found without loading any: below `collections/` of the project, and where definitions
recorded them in the home. Checked as a whole they are in `ai_assets/collection/catalog.py`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.home import Home
from ai_assets.base.tenants import DEFAULT
from ai_assets.base.yaml_settings import read_yaml

DEFS_FILE = "defs.yaml"
FOLDER = "collections"
"""Of a project, for what is declared there; of a home, for what definitions recorded."""
UNREADABLE = ""
"""In the place of a tenant, and the name of none."""


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

    @property
    def tenant(self) -> str:
        """Only that key is read, so no other mistake of the file matters; `UNREADABLE` where it cannot be read."""
        try:
            _, data = read_yaml(self.file, DeclarationInvalid)
            return str(data["attributes"].get("tenant", DEFAULT))
        except (DeclarationInvalid, KeyError, TypeError, AttributeError):
            return UNREADABLE

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


_MAKES_NO_HOME: ContextVar[bool] = ContextVar("makes_no_home", default=False)
_LOADED: dict[tuple[Path, str], CatalogEntry] = {}
"""By home and name: of definitions that this process loaded while there was no home to record them in."""


@contextmanager
def making_no_home() -> Iterator[None]:
    """While definitions are loaded for a command that may only read."""
    before = _MAKES_NO_HOME.set(True)
    try:
        yield
    finally:
        _MAKES_NO_HOME.reset(before)


def makes_no_home() -> bool:
    return _MAKES_NO_HOME.get()


def hold_in_memory(home: Home, name: str, entry: CatalogEntry) -> None:
    """Until there is a home, for this process alone."""
    _LOADED[home.root, name] = entry


def held_in_memory(home: Home) -> Mapping[str, CatalogEntry]:
    """By name."""
    return {name: entry for (root, name), entry in _LOADED.items() if root == home.root}


def collection_names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"*/{DEFS_FILE}"))


def declared_collections(home: Home) -> Mapping[str, CatalogEntry]:
    """By name. A recorded one whose file is gone is not there any more."""
    root = home.project / FOLDER
    found = {name: CatalogEntry(folder=root / name, project=home.project) for name in collection_names(root)}
    for path in sorted((home.root / FOLDER).glob("*.json")):
        entry = CatalogEntry.read(path)
        if entry is not None and entry.file.is_file():
            found.setdefault(path.stem, entry)
    for name, entry in held_in_memory(home).items():
        found.setdefault(name, entry)
    return dict(sorted(found.items()))
