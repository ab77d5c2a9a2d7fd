"""One long-lived process of `ai-assets up`: starting it, its log, and when it is started again."""

import itertools
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ai_assets.base.child_main
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.processes import identity
from ai_assets.base.structured_log import plain_lines

RESTARTS_ALLOWED = 5
RESTARTS_WINDOW_S = 600.0
FIRST_DELAY_S = 0.5
LOG_KEPT_BYTES = 20_000_000
"""A log longer than this is set aside once, as `<name>.log.1`, when its process starts."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_COUNTED = re.compile(r": \d+ mistakes$")
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt|Exit)\b.*|Error: .*|.* - (?:ERROR|CRITICAL) - .*)$")


class ServiceDied(UserError):
    def __init__(self, name: str, status: int, essential: str, log: Path) -> None:
        super().__init__(f"The {name} ended while starting (exit status {status}): {essential} See {log}.")


class ServiceKeepsDying(UserError):
    def __init__(self, name: str, essential: str, log: Path) -> None:
        super().__init__(
            f"The {name} ended {RESTARTS_ALLOWED + 1} times in {RESTARTS_WINDOW_S / 60:.0f} minutes, so everything was "
            f"stopped: {essential} See {log}."
        )


@dataclass(kw_only=True)
class Service:
    name: str
    """In words, as it appears in messages: 'code server'."""
    module: str
    arguments: Sequence[str]
    home: Home
    folder: Path
    """Where it runs, and from where it imports."""
    told: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables, for it and all that it starts."""
    stale: Path | None = None
    """A file an earlier process of this service may have left, which must be gone before the next one starts."""
    process: "subprocess.Popen[bytes] | None" = None
    _restarts: "deque[float]" = field(default_factory=deque)
    _start_again_at: float | None = None
    _renewing: bool = False

    @property
    def log(self) -> Path:
        return self.home.logs / f"{self.name.replace(' ', '-')}.log"

    def start(self) -> None:
        """Call it from a thread that lives as long as the service should: on Linux the kernel ties the two."""
        if self.stale:
            self.stale.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_KEPT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.process = child(
            self.module, self.arguments, home=self.home, folder=self.folder, told=self.told, log=self.log
        )

    def renew(self) -> None:
        """End it, to be started again at once; that is no failure of it."""
        self._renewing = True
        if self.process is not None:
            self.process.terminate()

    def raise_if_dead(self) -> None:
        if self.process and (status := self.process.poll()) is not None:
            raise ServiceDied(self.name, status, self.last_words(), self.log)

    def keep_alive(self) -> str | None:
        """Start it again when it has ended and its delay is over; what was done, in words."""
        now = time.monotonic()
        if self._start_again_at is not None:
            if now < self._start_again_at:
                return None
            self._start_again_at = None
            self.start()
            return f"{self.name} started again"
        if self.process is None or self.process.poll() is None:
            return None
        if self._renewing:
            self._renewing = False
            self.start()
            return f"{self.name} started again"
        while self._restarts and self._restarts[0] < now - RESTARTS_WINDOW_S:
            self._restarts.popleft()
        if len(self._restarts) >= RESTARTS_ALLOWED:
            raise ServiceKeepsDying(self.name, self.last_words(), self.log)
        delay_s = FIRST_DELAY_S * 2 ** len(self._restarts)
        self._restarts.append(now)
        self._start_again_at = now + delay_s
        return f"{self.name} ended with status {self.process.returncode}, starting it again in {delay_s:g} s"

    def last_words(self) -> str:
        """The line among the last 20 of the log that says most about why it ended."""
        return last_words(self.log) or "it said nothing."


def child(
    module: str,
    arguments: Sequence[str],
    *,
    home: Home,
    folder: Path,
    told: Mapping[str, str],
    log: Path,
    fresh: bool = False,
) -> "subprocess.Popen[bytes]":
    """A process of `ai-assets up` that runs a module of ours; `fresh`: its log is only about this one."""
    command = [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), module, *arguments]
    with log.open("wb" if fresh else "ab") as out:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**home.child_environment(identity()), **told},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def last_words(log: Path) -> str | None:
    return essential_line(_tail(log, lines=20))


def essential_line(lines: Sequence[str]) -> str | None:
    """With the lines of the list that it begins, where it says how many mistakes there are."""
    told = (text for line in lines for text in plain_lines(line))
    plain = [text for line in told if (text := _COLOUR.sub("", line).rstrip()).strip()]
    for number in reversed(range(len(plain))):
        if _COUNTED.search(plain[number]):
            listed = itertools.takewhile(lambda line: line.startswith("  "), plain[number + 1 :])
            return "\n".join([plain[number].strip(), *listed])
    clean = [line.strip() for line in plain]
    candidates = [line for line in clean if _ERROR.match(line)] or clean
    return candidates[-1] if candidates else None


def _tail(path: Path, lines: int) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return file.read().decode("utf-8", errors="replace").splitlines()[-lines:]
