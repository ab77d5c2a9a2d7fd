"""Sending messages over a channel, an Apprise URL. The URL holds secrets: nothing that is said here repeats them."""

import contextvars
import logging
import queue
import re
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.base.extras import need
from ai_assets.base.masking import without

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


class MessageDelivery:
    """Messages on their way over one channel, in a thread that nobody has to wait for."""

    def __init__(self, url: str, messages: Sequence[Message], stop_at: float) -> None:
        """No message is begun after `stop_at` (monotonic)."""
        self.started_at = time.monotonic()
        self._url = url
        self._messages = messages
        self._stop_at = stop_at
        self._begun = 0
        self._taken = 0
        self._results: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def wait(self, until: float) -> bool:
        """Whether it has ended by then."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    @property
    def under_way(self) -> Message | None:
        """The message that has no answer yet."""
        return self._messages[self._taken] if self._taken < self._begun else None

    def take(self) -> list[tuple[Message, str | None]]:
        """The messages that are done since last asked, each with its error."""
        ended = self.wait(0)
        found: list[tuple[Message, str | None]] = []
        while not self._results.empty():
            found.append((self._messages[self._taken], self._results.get()))
            self._taken += 1
        if ended and self.under_way:
            found.append((self.under_way, "sending broke off; see the log of the code server"))
            self._taken = self._begun
        return found

    def _run(self) -> None:
        for message in self._messages:
            if time.monotonic() >= self._stop_at:
                return
            self._begun += 1
            self._results.put(send(self._url, message))


def send(url: str, message: Message) -> str | None:
    """Send it; otherwise what went wrong, without the URL or any part of it."""
    need("desk", "Sending a message")
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
    rest = re.sub(r"([?&])[\w+:-]*=", r"\1", url.partition("://")[2])
    written = _SECRET.findall(rest)
    decoded = urllib.parse.unquote(rest)
    return without(text, {url, decoded, *written, *map(urllib.parse.unquote, written), *_SECRET.findall(decoded)})


class _WarningCollector(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard = _HEARD.get()
        if heard is not None and record.levelno >= logging.WARNING:
            heard.append(record.getMessage())


def _listen() -> None:
    """Once: hear what Apprise logs, and keep it out of everybody's log, for it may name the URL."""
    logger = logging.getLogger("apprise")
    if not any(isinstance(handler, _WarningCollector) for handler in logger.handlers):
        logger.addHandler(_WarningCollector())
        logger.propagate = False
