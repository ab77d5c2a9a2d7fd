"""Loading a code location as a code server would, in a process of its own: whether it loads, and what it is made of.

`python -m ai_assets.ops.trial_load RESULT SPEC`: both are JSON, RESULT is the file to write.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any, Self

from ai_assets.orchestration.code_location import CodeLocation

Stamp = tuple[int, int, int]
"""Of a file: time of change, size and inode. Compared for equality only: a file server has a clock of its own."""

_IMPORT_SYSTEM = "<frozen importlib"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, kw_only=True)
class TrialLoad:
    """What came of it."""

    error: str | None
    """Why it does not load, in one sentence; None where it does."""
    files: Mapping[Path, Stamp | None]
    """What was read, as it was just before; None of one that was not there."""
    folders: frozenset[Path]
    """What was listed."""
    collections: tuple[str, ...] = ()
    """Those that it knows now."""

    def write(self, path: Path) -> None:
        found = {
            "error": self.error,
            "files": [[str(file), stamp] for file, stamp in self.files.items()],
            "folders": sorted(map(str, self.folders)),
            "collections": self.collections,
        }
        path.write_text(json.dumps(found), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where the process ended before it had written all of it."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(
            error=found["error"],
            files={
                Path(file): None if stamp is None else (stamp[0], stamp[1], stamp[2]) for file, stamp in found["files"]
            },
            folders=frozenset(map(Path, found["folders"])),
            collections=tuple(found["collections"]),
        )


def spec_of(location: CodeLocation) -> str:
    return json.dumps(
        {
            "project": str(location.project),
            "module": location.module,
            "file": None if location.file is None else str(location.file),
            "name": location.name,
        }
    )


def stamp_of(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass
class _Seen:
    """What Python opens and lists, by its audit events. They come before it happens: the stamp is never too new."""

    ignored: tuple[str, ...]
    """Folders whose content is not the author's: the interpreter's, its packages', the home, the system's."""
    files: dict[Path, Stamp | None] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    on: bool = True

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in ("open", "os.listdir", "os.scandir"):
            return
        named = arguments[0] if arguments else None
        if named is None or isinstance(named, int):
            return
        path = os.path.abspath(os.fsdecode(named))  # noqa: PTH100  pathlib's own work raises audit events too
        if path.startswith(self.ignored):
            return
        if event == "open":
            if not (len(arguments) > 2 and isinstance(arguments[2], int) and arguments[2] & _WRITING):
                self.note(path)
        elif not sys._getframe(1).f_code.co_filename.startswith(_IMPORT_SYSTEM):
            self.folders.add(Path(path))

    def note(self, path: str) -> None:
        if path.endswith(".pyc"):
            try:
                path = source_from_cache(path)
            except ValueError:
                return
        self.files.setdefault(Path(path), stamp_of(Path(path)))


def trial_load(location: CodeLocation, ignored: tuple[str, ...]) -> TrialLoad:
    """Load it in this process, which is for nothing else: what is imported stays imported."""
    seen = _Seen(ignored)
    sys.addaudithook(seen.hook)
    try:
        collections, error = _load(location), None
    except BaseException as found:  # noqa: BLE001  # the author's code may raise anything, SystemExit included
        collections, error = (), _sentence(found)
    finally:
        seen.on = False
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not os.path.abspath(file).startswith(ignored):  # noqa: PTH100
            seen.note(os.path.abspath(file))  # noqa: PTH100
    return TrialLoad(error=error, files=seen.files, folders=frozenset(seen.folders), collections=collections)


def _load(location: CodeLocation) -> tuple[str, ...]:
    """As the code server does it: what only shows when all is put together (two assets of one key) shows here too."""
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._grpc.server import LoadedRepositories

    from ai_assets.ops.dagster_client import CANDIDATE

    origin = LoadableTargetOrigin(
        executable_path=sys.executable,
        module_name=location.module,
        python_file=None if location.file is None else str(location.file),
        working_directory=str(location.project),
    )
    loaded = LoadedRepositories(origin, None, [sys.executable, "-m", "dagster"], None, code_location_name=location.name)
    keys = [
        key for repository in loaded.definitions_by_name.values() for key in repository.asset_graph.get_all_asset_keys()
    ]
    return tuple(sorted(key.path[0] for key in keys if len(key.path) == 2 and key.path[1] == CANDIDATE))


def _sentence(error: BaseException) -> str:
    """As the web server's answer is put into one sentence, so that both say the same."""
    from dagster._utils.error import serializable_error_info_from_exc_info

    from ai_assets.ops.dagster_client import essential_message

    if not isinstance(error, Exception):
        return f"the code ended the process ({type(error).__name__}: {error})"
    trace = error.__traceback__
    assert trace is not None  # it was raised
    chain = [serializable_error_info_from_exc_info((type(error), error, trace))]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    first, *causes = [{"className": one.cls_name, "message": one.message, "stack": list(one.stack)} for one in chain]
    return essential_message({**first, "causes": causes})


def ignored_by(home_root: Path) -> tuple[str, ...]:
    """Prefixes of paths whose change does not change definitions."""
    devices = (
        "fd/",
        "full",
        "null",
        "ptmx",
        "pts/",
        "random",
        "std",
        "tty",
        "urandom",
        "zero",
    )  # not shm
    system = ("/proc/", "/sys/", "/etc/", "/usr/", *(f"/dev/{name}" for name in devices))
    folders = {sys.prefix, sys.base_prefix, str(home_root), str(Path(os.__file__).parent)}
    return (*system, *(f"{folder.rstrip(os.sep)}{os.sep}" for folder in folders))


def main() -> None:
    result, spec = Path(sys.argv[1]), json.loads(sys.argv[2])
    os.nice(10)  # what is served and what runs goes first
    location = CodeLocation(
        project=Path(spec["project"]),
        module=spec["module"],
        file=None if spec["file"] is None else Path(spec["file"]),
        name=spec["name"],
    )
    from ai_assets.base.home import Home

    found = trial_load(location, ignored_by(Home.from_environment().root))
    if found.error is not None:
        traceback.print_exc()
    found.write(result)
    os._exit(0)  # threads of the author's code must not keep it


if __name__ == "__main__":
    main()
