"""A collection with other settings of its stages, as if its defs.yaml said so: for asking what that would cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.errors import UserError
from ai_assets.base.yaml_settings import located, nearest, read_yaml
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, beside, build_collection
from ai_assets.collection.settings import CollectionSettings

FIXED = ("name", "kind")


class ChangeInvalid(UserError):
    def __init__(self, given: str, problem: str) -> None:
        super().__init__(f"--with {given}: {problem}")


def changed_collection(declared: Collection, given: Sequence[str]) -> Collection:
    """The collection with each `STAGE.KEY=VALUE` in place of what is declared, checked like a file."""
    if not given:
        return declared
    path = declared.folder / DEFS_FILE
    node, data = read_yaml(path, CollectionInvalid)
    attributes: dict[str, Any] = data["attributes"]
    for change in given:
        _apply(declared, attributes, change)
    shown = " ".join(given)
    try:
        settings = CollectionSettings.model_validate(beside(attributes, declared.folder))
        return build_collection(declared.name, path.parent, settings, path, node)
    except ValidationError as error:
        raise ChangeInvalid(shown, str(located(path, None, error, CollectionInvalid))) from error
    except CollectionInvalid as error:
        raise ChangeInvalid(shown, str(error)) from error


def _apply(declared: Collection, attributes: dict[str, Any], change: str) -> None:
    target, equals, value = change.partition("=")
    name, dot, key = target.partition(".")
    if not equals or not dot or not name or not key:
        raise ChangeInvalid(change, "write STAGE.KEY=VALUE, such as triage.prompt=prompts/other.md")
    stages = [stage.name for stage in declared.settings.stages]
    if name not in stages:
        hint = nearest(name, stages, "it has no stages")
        raise ChangeInvalid(change, f"collection '{declared.name}' has no stage '{name}'{hint}")
    number = stages.index(name)
    model = type(declared.settings.stages[number])
    keys = [field.alias or each for each, field in model.model_fields.items()]
    keys = [each for each in keys if each not in FIXED]
    if key not in keys:
        raise ChangeInvalid(change, f"a {declared.settings.stages[number].kind} stage has no key '{key}' to change"
                                    f"{nearest(key, keys)}")  # fmt: skip
    attributes["stages"][number][key] = _value(declared, key, value, change)


def _value(declared: Collection, key: str, value: str, change: str) -> Any:
    """Read as YAML, as it would stand in the file. A prompt may also lie where the command is given."""
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ChangeInvalid(change, f"the value is not valid YAML: {str(error).splitlines()[0]}") from error
    if key == "prompt" and isinstance(read, str) and not (declared.folder / read).is_file() and Path(read).is_file():
        return str(Path(read).resolve())
    return read
