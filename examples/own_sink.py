"""A run sink of one's own: the span of every stage as a line of JSON."""

import json
from pathlib import Path

from ai_assets.run import Sink
from ai_assets.run.events import RunEnded, RunEvent, StageEnded


class Spans(Sink):
    hears = (StageEnded, RunEnded)

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._lines: list[str] = []

    def hear(self, event: RunEvent) -> None:
        self._lines.append(json.dumps({"event": type(event).__name__, **vars(event)}) + "\n")
        if len(self._lines) >= 100:
            self.close()

    def close(self) -> None:
        lines, self._lines = self._lines, []
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(lines)
