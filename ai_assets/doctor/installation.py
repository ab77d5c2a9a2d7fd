"""The installation that is looked at, as its files declare it; what is wrong in one stops only what needs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from ai_assets.base.environment import Environment
from ai_assets.base.errors import UserError, said_of
from ai_assets.base.home import Home
from ai_assets.base.tenants import Tenants, load_tenants
from ai_assets.collection.catalog import Catalog
from ai_assets.run.operations import OperationsSettings, load_operations

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.desk.settings import DeskSettings
    from ai_assets.inference.settings import InferenceSettings

_T = TypeVar("_T")


class CannotLook(UserError):
    """Something that is told elsewhere has to be mended first."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong
        super().__init__(f"It was not looked at, because {wrong} cannot be used. Correct that first (see above).")


@dataclass(frozen=True, kw_only=True)
class LoadedCollections:
    loaded: "Mapping[str, Collection]"
    wrong: Mapping[str, UserError]
    """By name, why one does not load."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    home: Home
    tenant: str | None = None
    """Whose budgets and collections alone are shown; None for all."""
    timeout_s: float = 15.0
    """For each look."""
    problems: dict[str, UserError] = field(default_factory=dict)

    @property
    def environment(self) -> Environment:
        return self._needed("operations.yaml", lambda: self.home.environment)

    @cached_property
    def operations(self) -> OperationsSettings:
        return self._needed("operations.yaml", lambda: load_operations(self.home.operations))

    @cached_property
    def tenants(self) -> Tenants:
        return self._needed("operations.yaml", lambda: load_tenants(self.home.operations))

    @cached_property
    def inference(self) -> "InferenceSettings":
        from ai_assets.inference.load import inference_at

        return self._needed("inference.yaml", lambda: inference_at(self.home))

    @cached_property
    def desk(self) -> "DeskSettings":
        from ai_assets.desk.settings import load_desk

        return self._needed("desk.yaml", lambda: load_desk(self.home.desk))

    @cached_property
    def collections(self) -> LoadedCollections:
        """Those of the tenant; one that cannot be read is shown to whoever keeps the installation."""
        catalog, loaded, wrong = Catalog(self.home), {}, {}
        for name in catalog.names():
            try:
                found = catalog.load(name)
            except UserError as error:
                if self.tenant is None:
                    wrong[name] = error
                continue
            except Exception as error:  # noqa: BLE001 - code of the project may raise anything
                if self.tenant is None:
                    wrong[name] = UserError(f"Collection '{name}' cannot be loaded: {said_of(error)}")
                continue
            if self.tenant in (None, found.settings.tenant):
                loaded[name] = found
        return LoadedCollections(loaded=loaded, wrong=wrong)

    @property
    def asks_models(self) -> bool:
        """Whether a stage or an embedding of a collection here is on a route."""
        return any(
            stage.route is not None for each in self.collections.loaded.values() for stage in each.stages
        ) or any(
            spec.route is not None
            for each in self.collections.loaded.values()
            for spec in each.settings.every_embedding.values()
        )

    def _needed(self, file: str, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except UserError as error:
            self.problems[file] = error
            raise CannotLook(file) from error
