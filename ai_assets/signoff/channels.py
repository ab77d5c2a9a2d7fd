"""Sending messages over a channel, an Apprise URL. The URL holds secrets: nothing that is said here repeats them."""

import contextvars
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

_SECRET = re.compile(r"[^/?&=:@,\s]{4,}")
"""A part of a URL that is shorter is no secret, and would blot out words."""
_HEARD: "contextvars.ContextVar[list[str] | None]" = contextvars.ContextVar("heard", default=None)
"""What Apprise logs while this thread sends: it returns no more than whether it worked."""


@dataclass(frozen=True, kw_only=True)
class Message:
    title: str
    body: str
    rows: Sequence[str]
    """The ids of the notices it tells."""


@dataclass(eq=False, kw_only=True)
class Sending:
    """Messages on their way over one channel, in a thread that nobody has to wait for."""

    url: str = field(repr=False)
    messages: Sequence[Message]
    stop_at: float
    """No further message is begun after this moment (monotonic)."""
    started_at: float = field(default_factory=time.monotonic)
    _results: list[tuple[Message, str | None]] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> "Sending":
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()
        return self

    def wait(self, until: float) -> bool:
        """Whether it has ended by then."""
        assert self._thread is not None
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def take(self) -> list[tuple[Message, str | None]]:
        """The messages that are done since last asked, each with its error."""
        found, self._results = self._results, []
        return found

    def _run(self) -> None:
        for message in self.messages:
            if time.monotonic() >= self.stop_at:
                return
            self._results.append((message, send(self.url, message)))


def send(url: str, message: Message) -> str | None:
    """Send it; otherwise what went wrong, without the URL or any part of it."""
    import apprise

    _listen()
    heard: list[str] = []
    _HEARD.set(heard)
    # No deadline of Apprise's own: with one it sends from a pool of a few threads, which others' messages wait for.
    asset = apprise.AppriseAsset(app_id="ai-assets", app_desc="ai-assets", async_mode=False, service_timeout=0)
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        return "the variable holds no address that Apprise knows (such as mailto://... or slack://...)"
    sender = apprise.Apprise(asset=asset)
    sender.add(plugin)
    if sender.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT):
        return None
    said = "; ".join(dict.fromkeys(heard)) or "the service did not take it"
    return without_secrets(said, url)[:500]


def without_secrets(text: str, url: str) -> str:
    """The text without anything that stands in the URL, as it is written there or decoded."""
    _, _, rest = url.partition("://")
    parts = {*_SECRET.findall(rest), *_SECRET.findall(urllib.parse.unquote(rest)), urllib.parse.unquote_plus(rest), url}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "***") if part else text
    return text


class _Ear(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard = _HEARD.get()
        if heard is not None and record.levelno >= logging.WARNING:
            heard.append(record.getMessage())


def _listen() -> None:
    """Once: hear what Apprise logs, and keep it out of everybody's log, for it may name the URL."""
    logger = logging.getLogger("apprise")
    if not any(isinstance(handler, _Ear) for handler in logger.handlers):
        logger.addHandler(_Ear())
        logger.propagate = False
