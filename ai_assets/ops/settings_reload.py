"""What `ai-assets up` does when `desk.yaml`, `operations.yaml` or the declaration of its code locations is edited."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ai_assets.base.environment import Environment
from ai_assets.base.errors import UserError
from ai_assets.base.home import DG_FILE, PYPROJECT, WORKSPACE, Home
from ai_assets.desk.settings import load_desk
from ai_assets.ops.definition_watch import DefinitionWatch, Prints, changed
from ai_assets.ops.managed_process import Service
from ai_assets.ops.reloading import QUIET_S
from ai_assets.orchestration.code_location import CodeLocation
from ai_assets.run.operations import load_operations


@dataclass(kw_only=True)
class SettingsReload:
    """The desk reads its file when it starts, so it is started again; runs and sensors read theirs each time."""

    home: Home
    environment: Environment
    """As `up` was started in."""
    desk: Service
    locations: Sequence[CodeLocation]
    """As they are served."""
    declared: Callable[[], Sequence[CodeLocation]]
    """As the project declares them now."""
    _watch: DefinitionWatch = field(init=False)
    _taken: Prints = field(init=False)
    _seen: Prints = field(init=False)
    _quiet_at: float = 0.0
    _look_at: float = 0.0

    def __post_init__(self) -> None:
        self._watch = DefinitionWatch.of((*self._declaring, self.home.desk, self.home.operations), ())
        self._taken = self._seen = self._watch.look()

    @property
    def _declaring(self) -> tuple[Path, ...]:
        return tuple(self.home.project / name for name in (PYPROJECT, DG_FILE, WORKSPACE))

    def step(self) -> Iterator[str]:
        now = time.monotonic()
        if now < self._look_at:
            return
        prints = self._watch.look()
        self._look_at = now + self._watch.pause_s
        if prints != self._seen:
            self._seen, self._quiet_at = prints, now + QUIET_S
        elif now >= self._quiet_at and prints != self._taken:
            edited = changed(self._taken, prints)
            self._taken = prints
            yield from self._take(edited)

    def _take(self, edited: Sequence[Path]) -> Iterator[str]:
        if self.home.desk in edited:
            try:
                load_desk(self.home.desk)
            except UserError as error:
                yield f"{self.home.desk.name} changed, and the desk goes on as it was: {error}"
            else:
                self.desk.renew()
                yield f"{self.home.desk.name} changed; the desk starts again with it, everybody stays signed in"
        if self.home.operations in edited:
            yield from self._operations()
        if set(self._declaring) & set(edited):
            yield from self._declarations()

    def _operations(self) -> Iterator[str]:
        name = self.home.operations.name
        try:
            declared = load_operations(self.home.operations)
        except UserError as error:
            yield f"{name} changed, and cannot be used: {error}"
            return
        yield f"{name} changed; it holds from the next run or look on"
        if declared.environment != self.environment:
            yield (
                f"`environment` is {declared.environment} now, and what runs stays with {self.environment}: stop "
                "`ai-assets up` and start it again"
            )

    def _declarations(self) -> Iterator[str]:
        try:
            found = self.declared()
        except UserError as error:
            yield f"The declaration of the code locations changed, and those from before go on: {error}"
            return
        if list(found) != list(self.locations):
            names = ", ".join(location.name for location in found) or "none"
            yield (
                f"The project declares other code locations than those that are served (now: {names}). Stop "
                "`ai-assets up` and start it again to serve them."
            )
