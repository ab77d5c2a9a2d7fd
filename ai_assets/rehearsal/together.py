"""How Together's Batch API tells of files, batches and results, where it differs from OpenAI's."""

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_assets.rehearsal.batch_work import Batch, StoredFile

PURPOSE = "batch-api"
_RUNNING = {"cancelling": "in_progress", "finalizing": "in_progress"}


def file_shown(stored: "StoredFile") -> dict[str, Any]:
    return {
        "id": stored.id,
        "object": "file",
        "bytes": len(stored.content),
        "created_at": stored.created_at,
        "filename": stored.name,
        "purpose": stored.purpose,
        "Processed": True,
        "FileType": "jsonl",
        "LineCount": 0,
    }


def batch_shown(batch: "Batch", *, input_bytes: int) -> dict[str, Any]:
    """Without counts and the client's own words, and with one moment at which it ended."""
    done = 100.0 * (batch.completed + batch.failed) / batch.total if batch.total else 0.0
    return {
        "id": batch.id,
        "user_id": batch.key_id,
        "input_file_id": batch.input_file_id,
        "file_size_bytes": input_bytes,
        "status": _RUNNING.get(batch.status, batch.status).upper(),
        "job_deadline": _date(batch.expires_at),
        "created_at": _date(batch.created_at),
        "endpoint": batch.endpoint,
        "progress": done,
        "output_file_id": batch.output_file_id or "",
        "error_file_id": batch.error_file_id or "",
        "error": "; ".join(each["message"] for each in batch.errors),
        "completed_at": _date(batch.ended_at) if batch.ended_at is not None else None,
    }


def result(custom_id: str, body: object) -> dict[str, Any]:
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": body}}


def failure(custom_id: str, error: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "error": {"message": error["message"], "code": error["code"] or error["type"]}}


def _date(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"
