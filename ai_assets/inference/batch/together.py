"""Together's Batch API: chats alone, other requests for files and lists, and batches that tell less of themselves.

They keep no words of ours and say no counts: one is known by its file, and what has no result once it has expired or
was cancelled is maybe billed. What is relied on was read in their documentation and their client (together 3.1.1).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ai_assets.inference.batch.provider import (
    WINDOW,
    BatchProvider,
    RemoteBatch,
    RemoteFile,
    oldest_first,
    read_batch,
    read_file,
)

PURPOSE = "batch-api"


class TogetherProvider(BatchProvider):
    def reach(self) -> None:
        with self._asking():
            _rows(self._get("/batches"))

    def upload(self, name: str, path: Path) -> RemoteFile:
        import openai

        asked = {"purpose": PURPOSE, "file_name": name, "file_type": "jsonl"}
        with path.open("rb") as content, self._asking():
            try:
                stored = self._transfers.post(
                    "/files/upload", cast_to=object, body=asked, files=[("file", (name, content))],
                    options={"headers": {"Content-Type": "multipart/form-data"}},
                )  # fmt: skip
            except openai.ConflictError as error:  # the same bytes are there already
                stored = self._get(f"/files/{_known_file(error)}")
            return _file(stored)

    def find_file(self, name: str) -> RemoteFile | None:
        with self._asking():
            found = self._get("/files")
            files = _rows(found.get("data") if isinstance(found, dict) else found)
            named = [_file(each) for each in files if each.get("filename") == name]
        return min(named, key=lambda each: each.created_at or _LATEST, default=None)

    def create(self, file_id: str, url: str, metadata: Mapping[str, str]) -> RemoteBatch:
        asked = {"input_file_id": file_id, "endpoint": url, "completion_window": WINDOW}
        with self._asking():
            made = self._client.post("/batches", cast_to=object, body=asked)
            return _batch(made.get("job") if isinstance(made, dict) else None)

    def batches(self, since: datetime.datetime | None) -> list[RemoteBatch]:
        """All there are, in one answer."""
        with self._asking():
            return oldest_first([_batch(each) for each in _rows(self._get("/batches"))])

    def look(self, batch_id: str) -> RemoteBatch:
        with self._asking():
            return _batch(self._get(f"/batches/{quote(batch_id, safe='')}"))

    def _get(self, path: str) -> object:
        found: object = self._client.get(path, cast_to=object)
        return found


_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)


def _rows(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("it is no list")
    return found


def _known_file(error: Any) -> str:
    found = error.response.json().get("file_id")
    if not isinstance(found, str) or not found.isascii() or "/" in found:
        raise error
    return found


def _file(found: object) -> RemoteFile:
    from openai.types import FileObject

    return read_file(FileObject.construct(**_fields(found)))


def _batch(found: object) -> RemoteBatch:
    from openai.types import Batch

    said = _fields(found)
    error, done = said.get("error"), said.get("progress")
    as_openai = {
        f"{str(said.get('status')).lower()}_at": said.get("completed_at"),  # whichever its end was
        **said,
        "expires_at": said.get("job_deadline"),
        "errors": {"data": [{"message": error}]} if isinstance(error, str) and error else None,
    }
    share = done / 100 if isinstance(done, int | float) and 0 <= done <= 100 else None
    return replace(read_batch(Batch.construct(**as_openai)), share=share)


def _fields(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found
