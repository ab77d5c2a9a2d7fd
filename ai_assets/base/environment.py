"""Where a deployment keeps its state: two keys of `operations.yaml`, read before anything else is.

The other keys of that file are in `ai_assets/run/operations.py`.
"""

from pathlib import Path
from typing import Literal, cast, get_args

from ai_assets.base.errors import DeclarationInvalid, UserError

Environment = Literal["local", "server", "cluster"]
"""`local`: SQLite below the home. `server`: PostgreSQL for our state and for Dagster's. `cluster`: that, and runs and
their steps are pods of Kubernetes."""
LOCAL: Environment = "local"
CLUSTER: Environment = "cluster"
KEY = "environment"
CONNECTIONS = 10
"""Of one process to PostgreSQL at most: half for our state, half for Dagster's. `ai-assets up` is five processes
and one more for each run, and a PostgreSQL as it is installed takes 100."""
FEWEST_CONNECTIONS = 4
"""Of ours one stays free for a thread that holds one already, so there must be two; Dagster needs as many."""


class OperationsInvalid(DeclarationInvalid):
    """`operations.yaml` is wrong."""


class EnvironmentUnknown(UserError):
    def __init__(self, variable: str, found: str) -> None:
        super().__init__(f"{variable} is '{found}'; known are: {', '.join(get_args(Environment))}. Unset or change it.")


class StateUrlMissing(UserError):
    def __init__(self, environment: str, declared_in: Path) -> None:
        super().__init__(
            f"`environment: {environment}` ({declared_in}) keeps all state in PostgreSQL, and AI_ASSETS_STATE_URL does "
            "not say where. Set it, such as AI_ASSETS_STATE_URL=postgresql://user:password@host:5432/ai_assets"
        )


class StateUrlUnfit(UserError):
    def __init__(self, environment: str, declared_in: Path, kind: str) -> None:
        super().__init__(
            f"`environment: {environment}` ({declared_in}) keeps all state in PostgreSQL, and AI_ASSETS_STATE_URL "
            f"names a store of kind '{kind}'. Set a postgresql:// address, or write `environment: {LOCAL}`."
        )


def environment_in(operations: Path) -> Environment:
    """What the file declares; a file or key that does not exist means `local`."""
    found = _value(operations, "environment", LOCAL)
    if found not in get_args(Environment):
        known = ", ".join(get_args(Environment))
        raise OperationsInvalid(operations, None, f"environment is '{found}'; known are: {known}")
    return cast("Environment", found)


def connections_in(operations: Path) -> int:
    """The same for `connections`."""
    found = _value(operations, "connections", CONNECTIONS)
    if not isinstance(found, int) or found < FEWEST_CONNECTIONS:
        raise OperationsInvalid(operations, None, f"connections is {found}; write at least {FEWEST_CONNECTIONS}")
    return found


def _value(operations: Path, key: str, otherwise: object) -> object:
    from ai_assets.base.operations_file import operations_data

    _, data = operations_data(operations)
    return data.get(key, otherwise) if isinstance(data, dict) else otherwise


def environment_of(variable: str, found: str) -> Environment:
    """What a variable says."""
    if found not in get_args(Environment):
        raise EnvironmentUnknown(variable, found)
    return cast("Environment", found)


def refuse_unfit(environment: Environment, declared_in: Path, state_url: str | None) -> None:
    """Raise where this environment cannot work with that address of the state store."""
    if environment == LOCAL:
        return
    if not state_url:
        raise StateUrlMissing(environment, declared_in)
    kind = state_url.partition(":")[0].partition("+")[0]
    if kind not in ("postgresql", "postgres"):
        raise StateUrlUnfit(environment, declared_in, kind)
