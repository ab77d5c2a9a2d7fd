"""Where this installation keeps its things: the one module that reads the process environment.

Precedence: built-in default < environment. What a collection declares is in `ai_assets/collection/settings.py`,
what models may be called in `ai_assets/inference/settings.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ai_assets.base.environment import (
    FEWEST_CONNECTIONS,
    Environment,
    connections_in,
    environment_in,
    environment_of,
    refuse_unfit,
)
from ai_assets.base.errors import UserError

HOME_VARIABLE = "AI_ASSETS_HOME"
STATE_URL_VARIABLE = "AI_ASSETS_STATE_URL"
DATA_URL_VARIABLE = "AI_ASSETS_DATA_URL"
"""A bucket, s3://bucket/prefix, for what would else lie below the home: docs/storage.md."""
INFERENCE_VARIABLE = "AI_ASSETS_INFERENCE"
"""Another file than the `inference.yaml` of the project."""
DESK_VARIABLE = "AI_ASSETS_DESK"
"""Another file than the `desk.yaml` of the project."""
OPERATIONS_VARIABLE = "AI_ASSETS_OPERATIONS"
"""Another file than the `operations.yaml` of the project."""
ENVIRONMENT_VARIABLE = "AI_ASSETS_ENVIRONMENT"
"""Overrides `environment` of `operations.yaml`; set by `ai-assets up` for all it starts, which so stay with its own."""
TENANT_VARIABLE = "AI_ASSETS_TENANT"
"""Where a code location serves one tenant alone, or several divided by commas: collections of others are not loaded."""
CONNECTIONS_VARIABLE = "AI_ASSETS_CONNECTIONS"
"""Overrides `connections` of it, in the same way."""
SEVERAL_VARIABLE = "AI_ASSETS_SEVERAL_LOCATIONS"
"""Set by `ai-assets up` where it serves several code locations: they agree who does what is done once for a home."""
LOCATION_VARIABLE = "AI_ASSETS_LOCATION"
"""Set by `ai-assets up` for a code server and the runs of it, to the name of its code location."""
DESK_URL_VARIABLE = "AI_ASSETS_DESK_URL"
"""Where the desk listens, for links to it; set by `ai-assets up` for all it starts."""
DAGSTER_URL_VARIABLE = "AI_ASSETS_DAGSTER_URL"
"""Where Dagster's pages are, for links to them; set by `ai-assets up` for all it starts."""
PASSWORD_VARIABLE = "AI_ASSETS_PASSWORD"
"""The password of whoever decides on the command line, where nobody can be asked for it."""
TOKEN_VARIABLE = "AI_ASSETS_TOKEN"
"""A token by which a program starts runs in a person's name; it decides nothing."""
SINKS_VARIABLE = "AI_ASSETS_SINKS"
"""Run sinks beside those of `operations.yaml`: `module:name`, several divided by commas."""
REHEARSAL_VARIABLE = "AI_ASSETS_REHEARSAL_URL"
"""A rehearsal provider that runs already; without it a run starts one for itself."""
LOG_VARIABLE = "AI_ASSETS_LOG"
"""`json`: what services log is an object for each line (`ai_assets/base/structured_log.py`); `plain` by default."""
KEYS_VARIABLE = "AI_ASSETS_KEYS"
"""Another folder than `keys` of the home for the keys that sign the audit chain, such as a mounted secret."""
TRUST_VARIABLE = "AI_ASSETS_TRUST"
"""Another file than the `trust.json` of that folder: the public keys to believe."""
RECORDER_KEY_VARIABLE = "AI_ASSETS_RECORDER_KEY"
"""The key of runs and sensors itself (PEM), instead of a file."""
DECISION_KEY_VARIABLE = "AI_ASSETS_DECISION_KEY"
"""The key of people's decisions itself (PEM), instead of a file; NO_KEY where a process must not have it."""
NO_KEY = "none"
KEYS = "keys"
"""The folder of them, where none is declared."""
PYPROJECT, DG_FILE, WORKSPACE, DEFINITIONS_FILE = "pyproject.toml", "dg.toml", "workspace.yaml", "definitions.py"
"""Where a project says what its Dagster definitions are."""
UP_VARIABLE = "AI_ASSETS_UP"
"""Set by `ai-assets up` for all it starts, to `<its identity>@<home>`; inherited, so it finds grandchildren too."""

_DG_MARKS = ("[project]", "[workspace]", "[[workspace.projects]]")
_PYPROJECT_MARKS = ("[tool.dg.project]", "[tool.dg.workspace]", "[[tool.dg.workspace.projects]]", "[tool.dagster]")
SHORTEST_SECRET = 8
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS")

_PROBE = b"\0" * 65536
"""Enough bytes that a full disk is noticed now and not in the middle of the first run."""


class HomeUnusable(UserError):
    def __init__(self, root: Path, found: str) -> None:
        super().__init__(
            f"The home folder {root} cannot be used: {found}. Set {HOME_VARIABLE} to a folder you can write."
        )


class NotANumber(UserError):
    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"{name} is '{found}': write a number of at least {FEWEST_CONNECTIONS}.")


def variable(name: str) -> str | None:
    """The value of an environment variable; `None` when it is missing or empty."""
    return os.environ.get(name) or None


def variables_beginning(name: str) -> set[str]:
    return {each for each in os.environ if each.startswith(name)}


def _number(name: str) -> int | None:
    found = variable(name)
    if found is not None and (not found.isdecimal() or int(found) < FEWEST_CONNECTIONS):
        raise NotANumber(name, found)
    return int(found) if found else None


def secret_values() -> Sequence[str]:
    """Of variables whose name says that they hold a secret; what is shorter would blot out words."""
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SECRET and name.upper().endswith(_SECRET_NAMES)
    ]


def project_directory(start: Path | None = None) -> Path:
    """The folder of the project that `start` lies in: the nearest one that Dagster is declared in (by `dg`, `dagster`
    or a workspace), else the nearest with a `definitions.py`; without either, `start` itself."""
    here = (start or Path.cwd()).resolve()
    above = (here, *here.parents)
    declared = next((folder for folder in above if _declares_dagster(folder)), None)
    return declared or next((folder for folder in above if (folder / DEFINITIONS_FILE).is_file()), here)


def _declares_dagster(folder: Path) -> bool:
    if (folder / WORKSPACE).is_file():
        return True
    for name, marks in ((DG_FILE, _DG_MARKS), (PYPROJECT, _PYPROJECT_MARKS)):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if any(line.strip() in marks for line in text.splitlines()):
            return True
    return False


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder that holds everything a local installation writes."""

    root: Path
    """Absolute."""
    project: Path
    """Where `inference.yaml` and the like are looked for, and the code server runs."""
    declared_state_url: str | None = None
    data_url: str | None = None
    """Of the bucket that holds the data; without one it lies below `root`."""
    declared_inference: Path | None = None
    """Absolute."""
    declared_desk: Path | None = None
    """Absolute."""
    declared_keys: Path | None = None
    """Absolute."""
    declared_operations: Path | None = None
    """Absolute."""
    declared_environment: str | None = None
    declared_connections: int | None = None

    @classmethod
    def from_environment(cls, project: Path | None = None) -> Self:
        project = project or project_directory()
        declared = variable(HOME_VARIABLE)
        root = Path(declared).expanduser() if declared else project / ".ai-assets"
        inference, desk, keys = variable(INFERENCE_VARIABLE), variable(DESK_VARIABLE), variable(KEYS_VARIABLE)
        operations = variable(OPERATIONS_VARIABLE)
        return cls(
            root=root.absolute(),
            project=project,
            declared_state_url=variable(STATE_URL_VARIABLE),
            data_url=variable(DATA_URL_VARIABLE),
            declared_inference=Path(inference).expanduser().absolute() if inference else None,
            declared_desk=Path(desk).expanduser().absolute() if desk else None,
            declared_keys=Path(keys).expanduser().absolute() if keys else None,
            declared_operations=Path(operations).expanduser().absolute() if operations else None,
            declared_environment=variable(ENVIRONMENT_VARIABLE),
            declared_connections=_number(CONNECTIONS_VARIABLE),
        )

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def index(self) -> Path:
        return self.root / "index"

    @property
    def drift(self) -> Path:
        """What released partitions were like; made again where it is gone."""
        return self.root / "drift"

    @property
    def languages(self) -> Path:
        """The model that tells languages, unpacked; made again where it is gone."""
        return self.root / "languages"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse" / "costs.duckdb"

    @property
    def keys(self) -> Path:
        """The keys that sign the audit chain; never in the state store."""
        return self.declared_keys or self.root / KEYS

    @property
    def checkpoints(self) -> Path:
        """The newest checkpoints of the audit chain, where what writes the state store does not reach."""
        return self.root / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def environment(self) -> Environment:
        """Where state is kept (`ai_assets/base/environment.py`)."""
        if self.declared_environment:
            return environment_of(ENVIRONMENT_VARIABLE, self.declared_environment)
        return environment_in(self.operations)

    @property
    def connections(self) -> int:
        """So many to PostgreSQL has a process at most."""
        return self.declared_connections or connections_in(self.operations)

    @property
    def state_url(self) -> str:
        refuse_unfit(self.environment, self.operations, self.declared_state_url)
        return self.declared_state_url or f"sqlite:///{self.root / 'state.db'}"

    @property
    def inference(self) -> Path:
        return self.declared_inference or self.project / "inference.yaml"

    @property
    def desk(self) -> Path:
        return self.declared_desk or self.project / "desk.yaml"

    @property
    def operations(self) -> Path:
        return self.declared_operations or self.project / "operations.yaml"

    def ensure(self) -> Self:
        """Create the folder, closed to other users, and prove that it can be written."""
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            if not (ignored := self.root / ".gitignore").exists():
                ignored.write_text("*\n", encoding="utf-8")  # a home inside a repository is not part of it
            self.dagster.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            _prove_writable(self.root / f".probe-{os.getpid()}")
        except FileExistsError as e:
            raise HomeUnusable(self.root, f"{e.filename} is a file, not a folder") from e
        except NotADirectoryError as e:
            raise HomeUnusable(self.root, "a file is in its way") from e
        except OSError as e:
            raise HomeUnusable(self.root, (e.strerror or str(e)).lower()) from e
        return self

    def variables(self) -> dict[str, str]:
        """What tells a process, Dagster's own included, to use this home."""
        declared = {
            STATE_URL_VARIABLE: self.declared_state_url,
            DATA_URL_VARIABLE: self.data_url,
            INFERENCE_VARIABLE: str(self.declared_inference) if self.declared_inference else None,
            DESK_VARIABLE: str(self.declared_desk) if self.declared_desk else None,
            KEYS_VARIABLE: str(self.declared_keys) if self.declared_keys else None,
            OPERATIONS_VARIABLE: str(self.declared_operations) if self.declared_operations else None,
        }
        return {
            "DAGSTER_HOME": str(self.dagster),
            HOME_VARIABLE: str(self.root),
            **{name: value for name, value in declared.items() if value},
        }

    def child_environment(self, up: str) -> dict[str, str]:
        """The environment of a process that the `ai-assets up` with this process identity starts."""
        own = {ENVIRONMENT_VARIABLE: self.environment, CONNECTIONS_VARIABLE: str(self.connections)}
        told = {UP_VARIABLE: f"{up}@{self.root}", "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **self.variables(), **own, **told}

    def export(self) -> None:
        """Make this home the one of the current process."""
        os.environ.update(self.variables())


def _prove_writable(probe: Path) -> None:
    try:
        with probe.open("wb") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)
