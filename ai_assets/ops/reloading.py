"""`ai-assets up` takes over what was edited: a child process loads the definitions first, then Dagster reloads them.

Dagster's own reload puts the error in the place of the definitions that worked, so it is asked only for what has
loaded.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable
from ai_assets.ops.definition_watch import DefinitionWatch, Prints, changed
from ai_assets.ops.managed_process import child, last_words
from ai_assets.ops.trial_load import TrialLoad, spec_of
from ai_assets.orchestration.code_location import CodeLocation
from ai_assets.orchestration.held_back import hold_back, let_go

QUIET_S = 1.0
"""So long nothing may change before the files are loaded: an editor, `git` and a copy write one after the other."""
TRIAL_S = 180.0
RELOAD_S = 180.0
RETRY_S = 30.0
"""After a reload that Dagster could not do, though the definitions load."""
MOST_NAMED = 3


@dataclass(kw_only=True)
class LocationReload:
    """One code location: what it was made of, and what has become of that."""

    location: CodeLocation
    home: Home
    url: str
    """Of Dagster's pages."""
    told: Mapping[str, str]
    """Environment variables of its code server."""
    several: bool
    also: Sequence[Path]
    """Files that count though they may not be there yet."""
    since: float
    """Epoch seconds: what is older was in the definitions when they were first loaded."""
    on_loaded: Callable[[Sequence[str]], None] = lambda _names: None
    """Told of collections that are new."""
    collections: tuple[str, ...] = ()
    _watch: DefinitionWatch | None = None
    _served: Prints = field(default_factory=dict)
    _served_folders: frozenset[Path] = frozenset()
    _seen: Prints = field(default_factory=dict)
    _tried: Prints | None = None
    """As they were when they were last loaded by a child, whatever came of it."""
    _quiet_at: float = 0.0
    _look_at: float = 0.0
    _retry_at: float | None = None
    _broken: bool = False
    _trial: "_Trial | None" = None
    _reload: "_Reload | None" = None

    def step(self) -> Iterator[str]:
        """Do what is due, without waiting for any of it; what a person should know."""
        if self._reload is not None:
            if not self._reload.thread.is_alive():
                yield from self._reloaded(self._reload)
        elif self._trial is not None:
            if self._trial.ended():
                yield from self._loaded(self._trial)
        elif self._watch is None:
            self._begin()
        elif time.monotonic() >= self._look_at:
            self._look(self._watch)

    def close(self) -> None:
        if self._trial is not None:
            self._trial.close()
        let_go(self.home, self.location.name)

    def _look(self, watch: DefinitionWatch) -> None:
        now, prints = time.monotonic(), watch.look()
        self._look_at = now + watch.pause_s
        if prints != self._seen:
            self._seen, self._quiet_at = prints, now + QUIET_S
        elif self._is_retry_due(now) or (now >= self._quiet_at and prints != self._tried):
            self._begin()

    def _begin(self) -> None:
        self._retry_at = None
        self._trial = _Trial(self.location, self.home, self.told)

    def _loaded(self, trial: "_Trial") -> Iterator[str]:
        self._trial, found = None, trial.result()
        first, files, folders = self._watch is None, {*found.files, *self.also}, set(found.folders)
        if self._watch is not None and found.error is not None:  # it may not have come to all that they are made of
            files |= self._watch.files
            folders |= self._watch.folders
        watch = self._watch = DefinitionWatch.of(files, folders)
        prints = self._seen = watch.look()
        self._look_at = self._quiet_at = time.monotonic() + QUIET_S
        if not watch.is_as_reported(found.files):
            self._tried = None  # edited meanwhile: it is loaded once more
            return
        self._tried = prints
        if found.error is not None:
            self._broken = True
            hold_back(self.home, self.location.name, found.error)
            yield f"{self._what(prints)}, and the definitions{self._of} from before go on: {found.error}"
        elif self._is_served_already(found, prints, first=first):
            self._serve(prints, found.collections)
        else:
            said = "The definitions" if first else self._what(prints)
            self._reload = _Reload(self.location.name, self.url, prints, found.collections, said)

    def _reloaded(self, done: "_Reload") -> Iterator[str]:
        self._reload = None
        if done.error is not None:
            self._retry_at = time.monotonic() + RETRY_S
            why = f"the definitions load, but Dagster could not reload them: {done.error}"
            yield f"{done.said}; {why} Next try in {RETRY_S:.0f} s."
            return
        new = [name for name in done.collections if name not in self.collections]
        gone = [name for name in self.collections if name not in done.collections]
        first = not self._served
        self._serve(done.prints, done.collections)
        told = [f"new: {', '.join(new)}"] if new and not first else []
        told += [f"gone: {', '.join(gone)} (releases, history and runs under way stay)"] if gone else []
        self._broken = False
        let_go(self.home, self.location.name)
        yield f"{done.said}; reloaded{self._of}{''.join(f'; {each}' for each in told)}"
        if new and not first:
            self.on_loaded(new)

    def _serve(self, prints: Prints, collections: tuple[str, ...]) -> None:
        assert self._watch is not None
        self._served, self._served_folders, self.collections = prints, self._watch.folders, collections

    def _is_retry_due(self, now: float) -> bool:
        return self._retry_at is not None and now >= self._retry_at

    def _is_served_already(self, found: TrialLoad, prints: Prints, *, first: bool) -> bool:
        """Whether nothing was edited since the start; later, whether only listings of folders differ, which brought no
        other file into the definitions."""
        assert self._watch is not None
        if self._broken:
            return False
        if first:
            return all(stamp is None or stamp[0] / 1e9 <= self.since for stamp in found.files.values())
        return set(changed(self._served, prints)) <= self._watch.folders | self._served_folders

    def _what(self, prints: Prints) -> str:
        """What a person has done, in words."""
        assert self._watch is not None
        folders = self._watch.folders
        found = [path for path in changed(self._served, prints) if path not in folders] or changed(self._served, prints)
        if not found:
            return "The definitions are as before"
        named = [self._short(path) for path in found[:MOST_NAMED]]
        more = f" and {plural(len(found) - MOST_NAMED, 'more file')}" if len(found) > MOST_NAMED else ""
        return f"{', '.join(named)}{more} changed"

    def _short(self, path: Path) -> str:
        project = self.home.project
        return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)

    @property
    def _of(self) -> str:
        return f" of {self.location.name}" if self.several else ""


class _Trial:
    """A child process that loads the definitions."""

    def __init__(self, location: CodeLocation, home: Home, told: Mapping[str, str]) -> None:
        number, name = tempfile.mkstemp(prefix="trial-", suffix=".json", dir=home.root)
        os.close(number)
        self._result, self._log = Path(name), home.logs / "reload.log"
        self._deadline = time.monotonic() + TRIAL_S
        arguments = [str(self._result), spec_of(location)]
        self._process = child(
            "ai_assets.ops.trial_load",
            arguments,
            home=home,
            folder=location.project,
            told=told,
            log=self._log,
            fresh=True,
        )

    def ended(self) -> bool:
        if self._process.poll() is None and time.monotonic() > self._deadline:
            self._process.kill()
            self._process.wait()
        return self._process.poll() is not None

    def result(self) -> TrialLoad:
        found = TrialLoad.read(self._result)
        self._result.unlink(missing_ok=True)
        if found is not None:
            return found
        late = time.monotonic() > self._deadline
        why = f"they took longer than {TRIAL_S:.0f} s" if late else last_words(self._log) or "the process ended"
        return TrialLoad(error=f"{why} See {self._log}.", files={}, folders=frozenset())

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._result.unlink(missing_ok=True)


class _Reload:
    """Dagster is asked, in a thread: it answers when it has loaded them."""

    def __init__(self, location: str, url: str, prints: Prints, collections: tuple[str, ...], said: str) -> None:
        self.prints, self.collections, self.said = prints, collections, said
        self.error: str | None = None
        self.thread = threading.Thread(target=self._ask, args=(location, url), name="reload", daemon=True)
        self.thread.start()

    def _ask(self, location: str, url: str) -> None:
        try:
            with DagsterApi(url, timeout_s=RELOAD_S) as api:
                self.error = api.reload(location)
        except (DagsterUnreachable, DagsterRefused) as error:
            self.error = str(error)
