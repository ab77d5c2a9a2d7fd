"""The provider's files and batches, by the `openai` package without its retries: what was done twice costs twice."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ai_assets.base.home import REHEARSAL_VARIABLE, variable
from ai_assets.base.masking import without
from ai_assets.inference.batch.errors import BatchApiRefused, ProviderSilent, RehearsalForgets
from ai_assets.inference.dispatch import key_of_endpoint
from ai_assets.inference.settings import REHEARSAL, Endpoint
from ai_assets.protocols.base import MESSAGE_CHARACTERS

if TYPE_CHECKING:
    import openai

WINDOW: Literal["24h"] = "24h"
DIGEST, JOB = "digest", "job"
"""In the metadata of a batch: what it is found by when the answer to its creation was lost."""
TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 600.0
PAGE = 100
PIECE_BYTES = 2**18
MOST_RESULT_BYTES = 20_000_000_000
"""Of one file of results, which is read piece by piece: one that never ends is given up."""
FINAL = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    file_id: str
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class RemoteBatch:
    """A batch as the provider tells of it."""

    batch_id: str
    state: str
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    completed: int
    failed: int
    output_file: str | None
    error_file: str | None
    metadata: Mapping[str, str]
    errors: tuple[tuple[str, str], ...]
    """Code and message, where the whole of it failed."""
    ended_at: datetime.datetime | None = None
    cancelling_at: datetime.datetime | None = None

    @property
    def turnaround_s(self) -> float | None:
        """From its creation to its final state, both by the provider's clock."""
        return None if self.ended_at is None else max((self.ended_at - self.created_at).total_seconds(), 0.0)

    @property
    def cancel_s(self) -> float | None:
        """From the request to cancel it to its final state."""
        if self.ended_at is None or self.cancelling_at is None or self.state != "cancelled":
            return None
        return max((self.ended_at - self.cancelling_at).total_seconds(), 0.0)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class BatchProvider:
    def __init__(self, name: str, endpoint: Endpoint, *, timeout_s: float = TIMEOUT_S) -> None:
        import openai

        base_url = endpoint.base_url
        if base_url == REHEARSAL:
            found = variable(REHEARSAL_VARIABLE)
            if not found:
                raise RehearsalForgets(name)
            base_url = found
        self._key = key_of_endpoint(name, endpoint)
        # Where no key is declared the package still wants one.
        self._client = openai.OpenAI(base_url=base_url, api_key=self._key or "none", max_retries=0, timeout=timeout_s)
        self._transfers = self._client.with_options(timeout=TRANSFER_TIMEOUT_S)

    def close(self) -> None:
        self._client.close()

    def reach(self) -> None:
        """Raises where no list of batches comes."""
        with self._asking():
            if not isinstance(self._client.batches.list(limit=1).data, list):
                raise ValueError("it has no 'data'")

    def upload(self, name: str, path: Path) -> RemoteFile:
        with path.open("rb") as content, self._asking():
            found = self._transfers.files.create(file=(name, content), purpose="batch")
            return RemoteFile(file_id=_said(found, "id"), bytes=found.bytes)

    def find_file(self, name: str) -> RemoteFile | None:
        """The oldest of that name, which is a digest of what it holds."""
        last: RemoteFile | None = None
        with self._asking():
            for each in _once(self._client.files.list(purpose="batch", order="desc", limit=PAGE)):
                if each.filename == name:
                    last = RemoteFile(file_id=_said(each, "id"), bytes=each.bytes)
        return last

    def create(self, file_id: str, url: str, metadata: Mapping[str, str]) -> RemoteBatch:
        with self._asking():
            endpoint: Any = url
            made = self._client.batches.create(
                input_file_id=file_id, endpoint=endpoint, completion_window=WINDOW, metadata=dict(metadata)
            )
            return _read(made)

    def matching(self, metadata: Mapping[str, str], since: datetime.datetime) -> list[RemoteBatch]:
        """All batches of this metadata that were created since then, the oldest first: every page is read."""
        found = []
        with self._asking():
            for each in _once(self._client.batches.list(limit=PAGE)):
                batch = _read(each)
                if batch.created_at < since:
                    break
                if all(batch.metadata.get(name) == value for name, value in metadata.items()):
                    found.append(batch)
        return found[::-1]

    def look(self, batch_id: str) -> RemoteBatch:
        with self._asking():
            return _read(self._client.batches.retrieve(batch_id))

    def cancel(self, batch_id: str) -> None:
        with self._asking():
            self._client.batches.cancel(batch_id)

    def content(self, file_id: str) -> Iterator[bytes]:
        with self._asking(), self._transfers.files.with_streaming_response.content(file_id) as response:
            size = 0
            for piece in response.iter_bytes(PIECE_BYTES):
                size += len(piece)
                if size > MOST_RESULT_BYTES:
                    raise ValueError(f"a file of results goes on beyond {MOST_RESULT_BYTES:,} bytes")
                yield piece

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The boundary to the provider: what it said, or that it said nothing."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            said = self._clean(f"HTTP {error.status_code}: {error.message}")
            if error.status_code >= 500:
                raise ProviderSilent(said) from None
            raise BatchApiRefused(error.status_code, said) from None
        except openai.APIConnectionError as error:
            raise ProviderSilent(self._clean(_reason(error)), sent=_can_have_been_sent(error)) from None
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
            said = f"what it answers is not as a Batch API has it ({_why(error)})"
            raise ProviderSilent(self._clean(said)) from error
        except Exception as error:  # the boundary to the package, such as a stream that breaks
            raise ProviderSilent(self._clean(str(error) or type(error).__name__)) from error

    def _clean(self, text: str) -> str:
        return without(text, [self._key])[:MESSAGE_CHARACTERS]


def _reason(error: openai.APIConnectionError) -> str:
    cause = error.__cause__
    return f"{error.message} ({cause})" if cause is not None and str(cause) else error.message


def _why(error: Exception) -> str:
    return "another kind of value" if isinstance(error, AttributeError | TypeError) else str(error)


def _once(pages: Any) -> Iterator[Any]:
    """All that is listed. A server that knows no pages gives the same one again and again."""
    seen = set[str]()
    for page in pages.iter_pages():
        new = [each for each in page.data or () if _said(each, "id") not in seen]
        if not new:
            return
        seen.update(each.id for each in new)
        yield from new


def _said(answer: Any, name: str) -> str:
    """A text without which nothing can be done with it; the package takes any answer for one of its own."""
    found = getattr(answer, name, None)
    if not isinstance(found, str) or not found:
        raise ValueError(f"it has no '{name}'")
    return found


def _can_have_been_sent(error: openai.APIConnectionError) -> bool:
    """A connection that was never made has carried nothing."""
    return type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def _read(batch: Any) -> RemoteBatch:
    counts, errors, created_at = batch.request_counts, batch.errors, _moment(batch.created_at)
    state = _said(batch, "status")
    return RemoteBatch(
        batch_id=_said(batch, "id"),
        state=state,
        created_at=created_at or datetime.datetime.now(datetime.UTC),
        expires_at=_moment(batch.expires_at),
        completed=int(getattr(counts, "completed", 0) or 0),
        failed=int(getattr(counts, "failed", 0) or 0),
        output_file=batch.output_file_id or None,
        error_file=batch.error_file_id or None,
        metadata={str(name): str(value) for name, value in (batch.metadata or {}).items()},
        errors=tuple((str(each.code or ""), str(each.message or "")) for each in getattr(errors, "data", None) or ()),
        ended_at=_moment(getattr(batch, f"{state}_at", None)) if created_at is not None and state in FINAL else None,
        cancelling_at=_moment(getattr(batch, "cancelling_at", None)),
    )


def _moment(seconds: Any) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if isinstance(seconds, int | float) else None
