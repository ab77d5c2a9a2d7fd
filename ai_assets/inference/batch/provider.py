"""The provider's files and batches, by the `openai` package without its retries: what was done twice costs twice."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ai_assets.base.home import REHEARSAL_VARIABLE, variable
from ai_assets.base.masking import without
from ai_assets.base.plural import plural
from ai_assets.inference.batch.errors import BatchApiRefused, ProviderSilent, RehearsalForgets
from ai_assets.inference.dispatch import key_of_endpoint
from ai_assets.inference.settings import REHEARSAL, Endpoint
from ai_assets.protocols.base import MESSAGE_CHARACTERS
from ai_assets.protocols.faults import GATEWAY_STATUSES

if TYPE_CHECKING:
    import openai

WINDOW: Literal["24h"] = "24h"
DIGEST, JOB = "digest", "job"
"""In the metadata of a batch: what it is found by when the answer to its creation was lost."""
TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 600.0
SLOWEST_BYTES_PER_S = 50_000
"""An answer may take as long as its request may, and beside that as long as it takes to come at this pace."""
PAGE = 100
MOST_PAGES = 1_000
"""Of a list: one that goes on beyond never ends."""
MOST_ID = 200
"""Characters of what the provider calls its files, batches and states."""
MOST_COUNTED = 1_000_000_000
PIECE_BYTES = 2**18
MOST_RESULT_BYTES = 20_000_000_000
"""Of one file of results, which is read piece by piece: one that never ends is given up."""
FINAL = frozenset({"completed", "failed", "expired", "cancelled"})
STATES = FINAL | {"validating", "in_progress", "finalizing", "cancelling"}


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    file_id: str
    bytes: int | None
    created_at: datetime.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RemoteBatch:
    """A batch as the provider tells of it."""

    batch_id: str
    file_id: str
    """Of its calls."""
    state: str
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    completed: int
    failed: int
    is_counted: bool
    """Whether it says how many are completed and failed."""
    share: float | None = None
    """Of its lines that are done, where it says that instead."""
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

    def done_of(self, lines: int) -> int:
        return self.completed + self.failed if self.is_counted or self.share is None else int(lines * self.share)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class BatchProvider:
    """As OpenAI, Azure and Groq have it. `provider_of` makes the one that an endpoint speaks."""

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
        self._client = openai.OpenAI(
            base_url=base_url, api_key=self._key or "none", max_retries=0, timeout=timeout_s,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [_limit_body]}),
        )  # fmt: skip
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
            return read_file(found)

    def find_file(self, name: str) -> RemoteFile | None:
        """The oldest of that name, which is a digest of what it holds."""
        last: RemoteFile | None = None
        with self._asking():
            for page in _pages(self._client.files.list(purpose="batch", order="desc", limit=PAGE)):
                for each in page:
                    if each.filename == name:
                        last = read_file(each)
        return last

    def file(self, file_id: str) -> RemoteFile:
        with self._asking():
            return read_file(self._client.files.retrieve(file_id))

    def create(self, file_id: str, url: str, metadata: Mapping[str, str]) -> RemoteBatch:
        with self._asking():
            endpoint: Any = url
            made = self._client.batches.create(
                input_file_id=file_id, endpoint=endpoint, completion_window=WINDOW, metadata=dict(metadata)
            )
            return read_batch(made)

    def batches(self, since: datetime.datetime | None) -> list[RemoteBatch]:
        """All that were created since then, and some from before, the oldest first. Every page is read, up to one that
        is older as a whole; of a list that is not sorted from the newest on, every page there is."""
        found: list[RemoteBatch] = []
        with self._asking():
            for page in _pages(self._client.batches.list(limit=PAGE)):
                read = [read_batch(each) for each in page]
                found += read
                newest, oldest = read[0].created_at, read[-1].created_at
                if since is not None and oldest < newest < since:
                    break
        return oldest_first(found)

    def look(self, batch_id: str) -> RemoteBatch:
        with self._asking():
            return read_batch(self._client.batches.retrieve(batch_id))

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
            if error.status_code >= 500 or error.status_code in GATEWAY_STATUSES:  # it may have been done all the same
                raise ProviderSilent(said) from None
            raise BatchApiRefused(error.status_code, said, code=f"{error.code or ''} {error.type or ''}") from None
        except openai.APIConnectionError as error:
            raise ProviderSilent(self._clean(_reason(error)), sent=_can_have_been_sent(error)) from None
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
            said = f"what it answers is not as a Batch API has it ({_why(error)})"
            raise ProviderSilent(self._clean(said)) from error
        except Exception as error:  # the boundary to the package, such as a stream that breaks
            raise ProviderSilent(self._clean(str(error) or type(error).__name__)) from error

    def _clean(self, text: str) -> str:
        return without(text, [self._key])[:MESSAGE_CHARACTERS]


def provider_of(name: str, endpoint: Endpoint, *, timeout_s: float = TIMEOUT_S) -> BatchProvider:
    if endpoint.batch is not None and endpoint.batch.wire == "together":
        from ai_assets.inference.batch.together import TogetherProvider

        return TogetherProvider(name, endpoint, timeout_s=timeout_s)
    return BatchProvider(name, endpoint, timeout_s=timeout_s)


def _reason(error: openai.APIConnectionError) -> str:
    cause = error.__cause__
    return f"{error.message} ({cause})" if cause is not None and str(cause) else error.message


def _why(error: Exception) -> str:
    return "another kind of value" if isinstance(error, AttributeError | TypeError) else str(error)


def _pages(pages: Any) -> Iterator[list[Any]]:
    """All that is listed, page by page. A server that knows no pages gives the same one again and again."""
    seen = set[str]()
    for number, page in enumerate(pages.iter_pages()):
        if number == MOST_PAGES:
            raise ValueError(f"its list goes on beyond {MOST_PAGES:,} pages")
        new = [each for each in page.data or () if _said(each, "id") not in seen]
        if not new:
            return
        seen.update(each.id for each in new)
        yield new


def _said(answer: Any, name: str) -> str:
    """A text without which nothing can be done with it; the package takes any answer for one of its own."""
    found = getattr(answer, name, None)
    if not isinstance(found, str) or not found:
        raise ValueError(f"it has no '{name}'")
    if len(found) > MOST_ID or not found.isprintable():
        raise ValueError(f"its '{name}' is no name of {MOST_ID} characters at most")
    return found


def _limit_body(response: Any) -> None:
    """The client's time is for each piece that comes; an answer that comes in drops has as much for all of it."""
    response.stream = _within(response.stream, response.request.extensions["timeout"]["read"])


def _within(stream: Any, seconds: float) -> Any:
    # The package has an httpx of its own choice, which takes streams of its own kind alone.
    kind: Any = next(each for each in type(stream).__mro__ if each.__name__ == "SyncByteStream")

    class Limited(kind):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            until, size = time.monotonic() + seconds, 0
            for piece in stream:
                yield piece
                size += len(piece)
                if time.monotonic() > until + size / SLOWEST_BYTES_PER_S:
                    raise TimeoutError(f"only {plural(size, 'byte')} of it came in {seconds:,.0f} s")

        def close(self) -> None:
            stream.close()

    return Limited()


def oldest_first(listed: Sequence[RemoteBatch]) -> list[RemoteBatch]:
    """Of those of one second, too: lists begin with the newest."""
    found = [*listed]
    found.reverse()
    found.sort(key=lambda batch: batch.created_at)
    return found


def _can_have_been_sent(error: openai.APIConnectionError) -> bool:
    """A connection that was never made has carried nothing."""
    return type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def read_file(file: Any) -> RemoteFile:
    size = file.bytes if isinstance(file.bytes, int) else None
    return RemoteFile(file_id=_said(file, "id"), bytes=size, created_at=_moment(getattr(file, "created_at", None)))


def read_batch(batch: Any) -> RemoteBatch:
    errors, created_at = batch.errors, _moment(batch.created_at)
    completed, failed = (_count(batch.request_counts, name) for name in ("completed", "failed"))
    state = _said(batch, "status").lower()
    file_id = getattr(batch, "input_file_id", None)
    return RemoteBatch(
        batch_id=_said(batch, "id"),
        file_id=file_id if isinstance(file_id, str) else "",
        state=state,
        created_at=created_at or datetime.datetime.now(datetime.UTC),
        expires_at=_moment(batch.expires_at),
        completed=completed or 0,
        failed=failed or 0,
        is_counted=completed is not None and failed is not None,
        output_file=batch.output_file_id or None,
        error_file=batch.error_file_id or None,
        metadata={str(name): str(value) for name, value in (batch.metadata or {}).items()},
        errors=tuple((str(each.code or ""), str(each.message or "")) for each in getattr(errors, "data", None) or ()),
        ended_at=_moment(getattr(batch, f"{state}_at", None)) if created_at is not None and state in FINAL else None,
        cancelling_at=_moment(getattr(batch, "cancelling_at", None)),
    )


def _count(counts: Any, name: str) -> int | None:
    found = getattr(counts, name, None)
    return found if isinstance(found, int) and 0 <= found < MOST_COUNTED else None


def _moment(said: Any) -> datetime.datetime | None:
    """Seconds since 1970, or a date with its time; what is neither says nothing."""
    if isinstance(said, str):
        try:
            found = datetime.datetime.fromisoformat(said)
        except ValueError:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
    return datetime.datetime.fromtimestamp(said, datetime.UTC) if isinstance(said, int | float) else None
