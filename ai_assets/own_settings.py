"""What `defs.yaml` says of metrics, checks and targets of a user's own. Each can be written in short, as `module:name`.

What they name is loaded by `own.py`.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from ai_assets.base.yaml_settings import Strict, refuse, wrong
from ai_assets.extensions import Options, name_of


class Named(Strict):
    """Something of one's own, under a name."""

    use: str = Field(min_length=1)
    """`module:name` in the project, or the name of an entry point of an installed package."""
    name: str = Field(default="", pattern=r"^[A-Za-z0-9_.@-]{0,63}$")
    """Without it, the name of the function or of the entry point."""
    options: Options = Field(default={})
    """Keyword arguments."""

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, data: Any) -> Any:
        data = {"use": data} if isinstance(data, str) else data
        if isinstance(data, Mapping) and isinstance(data.get("use"), str) and not data.get("name"):
            data = {**data, "name": name_of(data["use"])}
        return data


class MetricSettings(Named):
    """A metric of one's own."""

    stage: str | None = None
    """Of a metric of rows: whose rows; without it those of `documents`."""


class CheckSettings(Named):
    """A check of one's own."""

    asset: str | None = None
    """The asset it looks at; a check that says so itself needs none."""
    blocking: bool = False
    """Whether a failure stops what is downstream, for that partition."""


class TargetSettings(Named):
    """Where a release goes beside the built-in index."""


class SinkSettings(Named):
    """Who hears of runs."""


class PublishSettings(Strict):
    to: tuple[TargetSettings, ...] = ()
    """Targets, each under a name of its own."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.to]
        refuse(
            wrong(f"a target '{name}' is there already; give this one another 'name'", "to", number)
            for number, name in enumerate(names)
            if name in names[:number]
        )
        return self
