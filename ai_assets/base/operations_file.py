"""The one reader of `operations.yaml`.

Each part of the house reads the keys that it goes by, so that a mistake in others does not stop it;
`ai_assets/run/operations.py` reads all of them.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.yaml_settings import located, read_yaml

_Keys = TypeVar("_Keys", bound=BaseModel)


class SomeKeys(BaseModel):
    """Of a file whose other keys somebody else reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def operations_data(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file with and without the places of its parts; one that does not exist has no data."""
    if not path.exists() and not path.is_symlink():
        return None, None
    return read_yaml(path, OperationsInvalid)


def read_operations(path: Path, keys: type[_Keys]) -> _Keys:
    """What the file says of these keys, checked; what is not there declares nothing."""
    node, data = operations_data(path)
    if data is None or (issubclass(keys, SomeKeys) and not isinstance(data, dict)):
        return keys()
    try:
        return keys.model_validate(data)
    except ValidationError as error:
        raise located(path, node, error, OperationsInvalid) from error
