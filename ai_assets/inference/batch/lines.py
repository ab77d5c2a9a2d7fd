"""The two kinds of files: requests line by line, and results in any order. Pure, and a line in memory at a time."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ai_assets.inference.records import RequestKind
from ai_assets.inference.settings import BatchSettings

MOST_LINE_BYTES = 64_000_000
"""A longer line of results is no answer to anything that was asked."""
NOT_RUN_CODES = frozenset({"batch_expired", "batch_cancelled"})
_PATHS = {"chat": "/chat/completions", "embedding": "/embeddings"}
_END = b"}\n"
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def url_of(prefix: str, kind: RequestKind) -> str:
    """What a line is posted to, as the provider's Batch API names it."""
    return prefix + _PATHS[kind]


def head_of(batch: BatchSettings, kind: RequestKind) -> bytes:
    """What follows the key of every line."""
    if batch.wire == "together":
        return b'","body":'
    return b'","method":"POST","url":' + json.dumps(url_of(batch.prefix, kind)).encode("ascii") + b',"body":'


def request_line(key: str, head: bytes, body: bytes) -> bytes:
    """The body as it is, byte for byte: it is the call's identity."""
    return b'{"custom_id":"' + key.encode("ascii") + head + body + _END


def digest_of(keys: Iterable[str]) -> str:
    """Of the calls of a file: the name of the file, and what its batch says of itself."""
    found = hashlib.sha256()
    for key in sorted(keys):
        found.update(key.encode("ascii") + b"\n")
    return found.hexdigest()[:40]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineResult:
    """What became of one request. One of `body` and `error` is said."""

    key: str
    status: int = 0
    body: str = ""
    """Of the response, as JSON."""
    request_id: str | None = None
    error: str = ""
    """The provider's code where there is no response."""
    message: str = ""

    @property
    def not_run(self) -> bool:
        return self.error in NOT_RUN_CODES


@dataclass(frozen=True, kw_only=True, slots=True)
class LineProblem:
    """A line that settles nothing."""

    number: int
    found: Literal["no JSON", "no result", "too long"]


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    """Whole lines out of pieces of any size; None for one that is too long to be kept."""
    held: list[bytes] = []
    size, too_long = 0, False
    for piece in pieces:
        first, *rest = piece.split(b"\n")
        for part in (first, *rest[:-1]) if rest else ():
            yield None if too_long or size + len(part) > MOST_LINE_BYTES else b"".join([*held, part])
            held, size, too_long = [], 0, False
        last = rest[-1] if rest else first
        size += len(last)
        if size > MOST_LINE_BYTES:
            held, too_long = [], True
        elif last:
            held.append(last)
    if held or too_long:
        yield None if too_long else b"".join(held)


def read_results(pieces: Iterable[bytes]) -> Iterator[LineResult | LineProblem]:
    for number, line in enumerate(lines_of(pieces), start=1):
        if line is None:
            yield LineProblem(number=number, found="too long")
        elif line.strip():
            yield _result(number, line)


def _result(number: int, line: bytes) -> LineResult | LineProblem:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return LineProblem(number=number, found="no JSON")
    if not isinstance(found, dict) or not isinstance(key := found.get("custom_id"), str):
        return LineProblem(number=number, found="no result")
    response, error = found.get("response"), found.get("error")
    if isinstance(error, dict) and error.get("code") is not None:
        return LineResult(key=key, error=str(error["code"])[:100], message=str(error.get("message") or "")[:300])
    if not isinstance(response, dict):
        return LineProblem(number=number, found="no result")
    status = response.get("status_code", 200 if isinstance(response.get("body"), dict) else None)
    if not isinstance(status, int):
        return LineProblem(number=number, found="no result")
    request_id = response.get("request_id")
    body = _compact(response.get("body"))
    return LineResult(key=key, status=status, body=body, request_id=request_id if isinstance(request_id, str) else None)
