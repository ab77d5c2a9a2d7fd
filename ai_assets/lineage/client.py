"""Events on their way: by OpenLineage's own client and transports, in a thread of ours."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent

from ai_assets.base.background_sender import BackgroundSender
from ai_assets.base.home import Home, variable
from ai_assets.base.masking import masked
from ai_assets.lineage.configured import file_of

MOST_WAITING = 5000
CLOSE_S = 3.0
"""So long a run waits at its end for events that were not sent yet."""


class EventSender:
    def __init__(self, home: Home, report: Callable[[str], None]) -> None:
        """Raises what the client raises of its configuration."""
        if not variable("OPENLINEAGE_CONFIG") and (found := file_of(home)) is not None:
            os.environ["OPENLINEAGE_CONFIG"] = str(found)
        self._client = OpenLineageClient()
        self._report = report
        self._sender: BackgroundSender[RunEvent] = BackgroundSender(
            self._send, name="lineage", most_waiting=MOST_WAITING, batch=1, delay_s=1.0, report=self._said
        )

    def put(self, event: RunEvent) -> None:
        self._sender.put(event)

    def close(self) -> None:
        self._sender.close(CLOSE_S)

    def _send(self, events: Sequence[RunEvent]) -> str | None:
        for event in events:
            self._client.emit(event)
        with suppress(Exception):  # transports with a queue of their own
            self._client.transport.wait_for_completion(timeout=CLOSE_S)  # type: ignore[attr-defined]
        return None

    def _said(self, problem: str) -> None:
        self._report(
            f"The consumer of OpenLineage does not take what is sent: {masked(problem)[:300]}. The run is not "
            "affected; some of its events are missing there."
        )
