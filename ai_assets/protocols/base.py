"""The seam: what a protocol is, and what comes back from it: a `Reply` or a `Fault`.

A protocol says how a request is written, where it goes, and how an answer reads. Connections, time limits and masked
keys are in `http.py`; retries, money and the ledger are the engine's. It keeps nothing between two calls: an answer is
read again, years later, from the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ai_assets.inference.records import ErrorClass, ModelLabelScore, Priority, Request, RequestKind, Usage
from ai_assets.protocols import faults
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

MESSAGE_CHARACTERS = 300
"""What is kept of a provider's own words about an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallDelivery:
    """How a request is to be served. It changes no answer, so it is added after the call has its identity."""

    tier: str | None = None
    priority: Priority = "normal"


AS_USUAL = CallDelivery()


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """What is posted."""

    body: bytes
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """What a server says of itself when it is asked, once."""

    texts_per_request: int | None = None
    problem: str | None = None
    """It has not what is declared of it: then nothing is sent, and this is said."""
    serves: RequestKind | None = None
    """What its model answers, where it says that."""


NO_LIMITS = ServerLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer as it reads. `body` and `provider_id` are filled in by the channel."""

    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    token_logprobs: tuple[tuple[str, float], ...] | None = None
    vector: tuple[float, ...] = ()
    score: float | None = None
    labels: tuple[ModelLabelScore, ...] = ()
    finish_reason: str = "stop"
    """`length` where the answer was cut off at the limit of its tokens."""
    usage: Usage | None = None
    """None where the provider does not say: then the most that the call can have used is counted."""
    model: str = ""
    """As the provider names it; empty where it does not."""
    tier: str | None = None
    """The tier of service that it says it was served at."""
    fingerprint: str | None = None
    """What the provider says of the system behind the model, such as OpenAI's `system_fingerprint`."""
    body: str = ""
    """The answer as it came."""
    provider_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """No usable answer. From `decode`: a refusal, which came as an answer and was paid for."""

    error: ErrorClass
    message: str
    retry_after_s: float | None = None
    usage: Usage | None = None
    """What the provider counted for it; None where it says nothing."""
    answered: bool = False
    """It came as an answer (HTTP 200), such as a refusal of the model itself."""
    tier: str | None = None
    """The tier of service that such an answer was served at."""
    too_many: bool = False
    """Fewer texts in one request may pass."""
    attempts: int | None = None
    """After how many attempts that ended so there is no other, where the protocol knows better than `retries`."""
    body: str | None = None
    provider_id: str | None = None


class NotAnAnswer(Exception):
    """The body is no message of the protocol."""


class Protocol(ABC):
    """How endpoints of one kind are spoken to. Your own is named by `protocol: module:name` in inference.yaml."""

    name: ClassVar[str]
    """Stands in each row of the ledger and in the identity of calls: after another name all is paid for again."""
    kinds: ClassVar[frozenset[RequestKind]] = frozenset({"chat"})
    """What can be asked: `chat`, `embedding`, `rerank`, `predict`."""
    tiered: ClassVar[frozenset[RequestKind]] = frozenset({"chat"})
    """Of these, what can be asked at a tier of service, as `wire` is told; the rest is asked, and priced, without."""
    joins_texts: ClassVar[bool] = False
    """Several texts can share a request: then it has `join` and `split`."""

    shortens: ClassVar[bool] = True
    """Shorter vectors than the model makes can be asked for (`Request.dimensions`)."""
    streams: ClassVar[bool] = False
    """An answer can be told as it comes, in server-sent events: then it has `streaming`, `piece` and `assembled`."""

    def problem(self, endpoint: Endpoint) -> str | None:
        """What is wrong with an endpoint that is declared with this protocol, such as with its `options`."""
        given = ", ".join(f"'{name}'" for name in sorted(endpoint.options))
        return f"the protocol '{self.name}' knows no options; it was given {given}" if given else None

    def address(self, endpoint: Endpoint) -> str:
        """Where the model is: a part of the identity of its calls."""
        return endpoint.base_url

    def decisive(self, endpoint: Endpoint) -> Mapping[str, Json]:
        """Of the endpoint's `options`, those that can change an answer: a part of the identity of its calls."""
        return endpoint.options

    @abstractmethod
    def path(self, endpoint: Endpoint, kind: RequestKind) -> str:
        """Where requests go, below the endpoint's `base_url`."""

    def wire(self, endpoint: Endpoint, body: bytes, kind: RequestKind, delivery: CallDelivery) -> Wire:
        """What is posted: `body`, as `encode` or `join` made it, and what changes no answer."""
        return Wire(body=body)

    def text(self, headers: Mapping[str, str], raw: bytes) -> str:
        """An answer as `split` and `decode` read it. May raise `NotAnAnswer`."""
        return raw.decode("utf-8", "replace")

    def info(self, endpoint: Endpoint) -> str | None:
        """Where the server says of itself what it has and takes, below the `base_url`; asked once, before anything."""
        return None

    def learn(self, endpoint: Endpoint, status: int, said: str) -> ServerLimits:
        """What that answer says."""
        return NO_LIMITS

    @abstractmethod
    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        """The request as it is sent. The same request must give the same bytes: they are the identity of the call.

        A `ValueError` says what of the request cannot be sent; only that document is without an answer then.
        """

    @abstractmethod
    def decode(self, body: str, kind: RequestKind) -> Reply | Fault:
        """An answer, fresh or from the ledger. Raises `NotAnAnswer` where it is none."""

    def models_path(self, endpoint: Endpoint) -> str | None:
        """Where a GET lists the models as OpenAI does, below the `base_url`; None where nothing does."""
        return None

    def headers(self, endpoint: Endpoint, key: str | None) -> Mapping[str, str]:
        """Of every request, beside the content type."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an HTTP status other than 200 means for who pays and who tries again."""
        told = faults.error_of(body)
        return Fault(
            error=faults.class_of(status, told),
            message=f"HTTP {status}: {told.said}",
            retry_after_s=faults.retry_after_s(headers),
        )

    def join(self, bodies: Sequence[bytes]) -> bytes:
        """One request for several texts, each encoded by itself."""
        raise NotImplementedError

    def split(self, answer: str, bodies: Sequence[bytes]) -> Sequence[str]:
        """The answer to `join(bodies)` as one answer per text, which `decode` reads; usage is shared out completely."""
        raise NotImplementedError

    def streaming(self, body: bytes) -> bytes:
        """The request of `encode`, asking for the answer in events."""
        raise NotImplementedError

    def piece(self, event: str) -> str:
        """The text that an event adds; empty where it adds none."""
        raise NotImplementedError

    def assembled(self, events: Sequence[str]) -> str:
        """The events as the one answer that `decode` reads. Raises `NotAnAnswer` where its end is missing."""
        raise NotImplementedError
