"""The Dagster code location of a project: where it is declared, what starts it, and importing it.

`dg` declares it in pyproject.toml or dg.toml, `dagster` in pyproject.toml or workspace.yaml, and a `definitions.py` at
the top of a project needs no declaration.
"""

import importlib
import importlib.util
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ai_assets.base.collection_files import making_no_home
from ai_assets.base.errors import UserError
from ai_assets.base.home import DEFINITIONS_FILE, DG_FILE, PYPROJECT, WORKSPACE
from ai_assets.base.import_path import look_first_in


class CodeLocationUnusable(UserError):
    def __init__(self, where: object, found: str) -> None:
        super().__init__(f"The Dagster code location {where} cannot be loaded: {found}")


@dataclass(frozen=True, kw_only=True)
class CodeLocation:
    project: Path
    module: str | None = None
    file: Path | None = None
    name: str = "definitions"

    def arguments(self) -> list[str]:
        """Of `dagster code-server start` and its like."""
        what = ["--module-name", self.module] if self.module else ["--python-file", str(self.file)]
        return [*what, "--working-directory", str(self.project), "--location-name", self.name]

    def image_arguments(self, project: Path, folder: str) -> list[str]:
        """The same in an image that has the project in `folder`, without the name."""
        inside = PurePosixPath(folder) / self.project.relative_to(project)
        file = self.file or self.project / DEFINITIONS_FILE
        what = (
            ["--module-name", self.module]
            if self.module
            else ["--python-file", str(PurePosixPath(folder) / file.relative_to(project))]
        )
        return [*what, "--working-directory", str(inside)]

    def load(self) -> None:
        """Import it into this process. Its collections are recorded by that, where there is a home."""
        look_first_in(list(folders_to_import(self.project)))
        try:
            with making_no_home():
                self._import()
        except Exception as error:
            if (ours := _ours(error)) is not None:
                raise ours from None
            raise CodeLocationUnusable(self.module or self.file, f"{type(error).__name__}: {error}") from error

    def _import(self) -> None:
        if self.module:
            found = importlib.import_module(self.module)
        else:
            assert self.file is not None
            spec = importlib.util.spec_from_file_location(self.file.stem, self.file)
            assert spec is not None
            assert spec.loader is not None
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
        _evaluate(found)


def folders_to_import(project: Path) -> Iterator[Path]:
    """From where the code of a project is imported when it is not installed."""
    if (source := project / "src").is_dir():
        yield source
    yield project


def code_locations(project: Path) -> Sequence[CodeLocation]:
    """All that the folder declares, in the order in which `dg` and `dagster` look."""
    for path, keys in ((project / DG_FILE, ()), (project / PYPROJECT, ("tool", "dg"))):
        declared = _table(path, *keys).get("project")
        if isinstance(declared, dict) and "root_module" in declared:
            module = declared.get("code_location_target_module") or f"{declared['root_module']}.definitions"
            name = declared.get("code_location_name") or project.name
            return [CodeLocation(project=project, module=module, name=name)]
    if projects := _of_dg_workspace(project):
        return projects
    if (project / DEFINITIONS_FILE).is_file():
        return [CodeLocation(project=project, module="definitions")]
    declared = _table(project / PYPROJECT, "tool", "dagster")
    modules = [declared["module_name"]] if "module_name" in declared else declared.get("modules", [])
    found = [CodeLocation(project=project, module=str(each), name=str(each)) for each in modules]
    return found or _of_workspace(project)


def _of_dg_workspace(folder: Path) -> list[CodeLocation]:
    """One for each project that a `dg` workspace names."""
    for path, keys in ((folder / DG_FILE, ("workspace",)), (folder / PYPROJECT, ("tool", "dg", "workspace"))):
        declared = _table(path, *keys).get("projects", [])
        paths = [each["path"] for each in declared if isinstance(each, dict) and "path" in each]
        if paths:
            projects = [(folder / str(each)).resolve() for each in paths]
            return [location for project in projects for location in _of_project(path, project)]
    return []


def _of_project(path: Path, project: Path) -> Sequence[CodeLocation]:
    found = code_locations(project)
    if not found:
        raise CodeLocationUnusable(project, f"{path} names it, and it declares no Dagster project")
    return [replace(each, name=project.name) if each.name == CodeLocation.name else each for each in found]


def _of_workspace(project: Path) -> list[CodeLocation]:
    """Those that are named by a file or a module; a server elsewhere records its collections itself."""
    path = project / WORKSPACE
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (yaml.YAMLError, ValueError) as error:
        raise CodeLocationUnusable(path, f"it is not YAML ({error})") from error
    found = []
    for item in (data or {}).get("load_from", []):
        for kind in ("python_module", "python_file"):
            if kind in item:
                given = item[kind] if isinstance(item[kind], dict) else {}
                target = given.get("module_name") or given.get("relative_path") or item[kind]
                folder = project / given.get("working_directory", ".")
                name = given.get("location_name") or str(target)
                where = {"module": target} if kind == "python_module" else {"file": (project / target).absolute()}
                found.append(CodeLocation(project=folder.resolve(), name=name, **where))
    return found


def _table(path: Path, *keys: str) -> dict[str, Any]:
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise CodeLocationUnusable(path, f"it is not TOML ({error})") from error
    for key in keys:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _ours(error: BaseException | None) -> UserError | None:
    """The sentence of ours that Dagster has wrapped."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _evaluate(module: Any) -> None:
    """`@definitions` functions are only called when somebody asks."""
    from dagster.components.definitions import LazyDefinitions

    for value in list(vars(module).values()):
        if isinstance(value, LazyDefinitions) and value.has_context_arg is False:
            value()
