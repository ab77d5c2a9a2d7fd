"""A target of one's own: a folder of JSON lines, one folder per release, and a file that says which one is live."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ai_assets.targets import Receipt, Target, TargetRelease


class JsonLines(Target):
    """Readers open `live.json`, then the folder that it names."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def write(self, release: TargetRelease) -> Receipt:
        name = f"{release.number}-{release.digest[:12]}"
        place = self.folder / release.collection / name
        place.mkdir(parents=True, exist_ok=True)
        documents = self._write(place / "documents.jsonl", release.documents())
        chunks = self._write(place / "chunks.jsonl", release.chunks())
        return {"collection": release.collection, "folder": name, "documents": documents, "chunks": chunks}

    def point(self, receipt: Receipt) -> None:
        self._put(self.folder / "live.json", json.dumps(dict(receipt)))

    def read(self) -> Receipt | None:
        try:
            found: Receipt = json.loads((self.folder / "live.json").read_text())
        except FileNotFoundError:
            return None
        return found

    def _write(self, path: Path, rows: Iterable[object]) -> int:
        number = 0
        temporary = path.with_suffix(f".{os.getpid()}.part")
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                number += 1
        temporary.replace(path)
        return number

    def _put(self, path: Path, text: str) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.part")
        temporary.write_text(text)
        temporary.replace(path)
