"""Events on their way: by OpenLineage's own client and transports, in a thread of ours."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent

from ai_assets.base.background_sender import BackgroundSender
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home, variable, variables_beginning
from ai_assets.base.masking import masked
from ai_assets.lineage.configured import file_of

MOST_WAITING = 5000
_one_at_a_time = threading.Lock()
"""Requests of the desk are threads of one process, and of one environment."""
CLOSE_S = 3.0
"""So long a run waits at its end for events that were not sent yet."""


class EventSender:
    def __init__(self, home: Home, report: Callable[[str], None], of: str = "run") -> None:
        """Raises what the client raises of its configuration. `of`: what the events are of, for people."""
        self._client = _client_of(home)
        self._report = report
        self._of = of
        self._sender: BackgroundSender[RunEvent] = BackgroundSender(
            self._send, name="lineage", most_waiting=MOST_WAITING, batch=1, delay_s=1.0, report=self._said
        )

    def put(self, event: RunEvent) -> None:
        self._sender.put(event)

    def close(self) -> None:
        self._sender.close(CLOSE_S)

    def _send(self, events: Sequence[RunEvent]) -> str | None:
        for event in events:
            try:
                self._client.emit(event)
            except (OSError, RuntimeError) as error:  # the transport that writes a file raises one because of the other
                for found in (error, error.__cause__, error.__context__):
                    if isinstance(found, OSError):
                        return self._in_words(found)
                raise
        with suppress(Exception):  # transports with a queue of their own
            self._client.transport.wait_for_completion(timeout=CLOSE_S)  # type: ignore[attr-defined]
        return None

    def _said(self, problem: str) -> None:
        self._report(
            f"The consumer of OpenLineage does not take what is sent: {masked(problem)[:300]}. The {self._of} is not "
            "affected; some of its events are missing there."
        )

    def _in_words(self, error: OSError) -> str:
        """Of a request or a file, without the words of the library that made it."""
        import requests

        url = getattr(self._client.transport, "url", None)
        where = "it" if url is None else str(url)
        match error:
            case requests.Timeout():
                return f"{where} did not answer in time"
            case requests.HTTPError() if error.response is not None:
                return f"{where} answered with status {error.response.status_code}"
            case requests.exceptions.RetryError():
                return f"{where} answered with errors, however often it was asked"
            case requests.ConnectionError():
                return f"{where} cannot be reached"
            case requests.RequestException():
                return f"{where} cannot be asked ({type(error).__name__})"
            case _:
                name = f"{error.filename}: " if error.filename else ""
                return f"{name}{(error.strerror or type(error).__name__).lower()}"


def _client_of(home: Home) -> OpenLineageClient:
    with _variables_kept():
        if not variable("OPENLINEAGE_CONFIG") and (found := file_of(home)) is not None:
            os.environ["OPENLINEAGE_CONFIG"] = str(found)
        client = OpenLineageClient()
    # it falls back to printing every event
    if client.transport.kind == "console" and (client.config.transport or {}).get("type") != "console":
        raise UserError(
            "No lineage is sent: OpenLineage is configured, but names no consumer. Set OPENLINEAGE_URL, or a "
            "transport with its type in openlineage.yml or OPENLINEAGE__TRANSPORT__TYPE."
        )
    return client


@contextmanager
def _variables_kept() -> Iterator[None]:
    """The client writes variables of its own, which would configure whatever this process starts or runs next."""
    with _one_at_a_time:
        before = variables_beginning("OPENLINEAGE")
        try:
            yield
        finally:
            for name in variables_beginning("OPENLINEAGE") - before:
                del os.environ[name]
