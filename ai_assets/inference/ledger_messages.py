"""What is asked of the ledger, and what it says: claims, intents, answers, endings. Plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from ai_assets.inference.accounts import Account, Balance
from ai_assets.inference.admission import Wait
from ai_assets.inference.fairness import USUAL_LANE, CallLane
from ai_assets.inference.records import LOST, NO_USAGE, Caller, ErrorClass, Usage
from ai_assets.inference.settings import Endpoint, TokenPrice
from ai_assets.protocols.base import AS_USUAL, CallDelivery

ELSEWHERE_S = 0.1
BUDGET_S = 0.05

State = Literal["intent", "settled", "failed", "ambiguous"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """One endpoint of a request's route, and the call it would be there."""

    name: str
    endpoint: Endpoint
    price: TokenPrice
    """At which it is reserved: the dearest that it may be served at."""
    key: str
    body: bytes
    reserve_nusd: int
    """The most it can cost."""
    tokens: int
    """The most tokens it can use; 0 where that is not kept, as of a line of a batch."""
    output_tokens: int = 0
    """Of these, what can be written."""
    flat: bool = False
    """Tokens do not say what it costs: the reservation is counted."""
    delivery: CallDelivery = AS_USUAL
    lane: CallLane = USUAL_LANE
    """Whose calls it stands among where places are few."""
    prices: tuple[TokenPrice, ...] = ()
    """Of each tier that it may be served at; none where only `price` is declared."""
    in_batch: bool = False
    """A line of a batch: it takes no place and no tokens of the endpoint's limits."""
    earlier_key: str = ""
    """Where tenants are apart: the key from before they were declared, for answers that this one has paid for."""

    @property
    def price_version(self) -> str:
        return "free" if self.endpoint.free else self.price.version


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The wish to make a call at one hop, unless any hop of the route has an answer already."""

    hops: tuple[Hop, ...]
    at: int
    caller: Caller
    document: str
    kind: str
    accounts: tuple[Account, ...]
    oldest: str | None
    """Answers from before this moment have expired."""
    on_ambiguous: Literal["retry", "hold"]
    prompt: str = ""
    apart: str = ""
    """The tenant whose answers alone count; empty where none is declared."""
    sent: str | None = None
    """The body of its hop as the ledger keeps it; None where it keeps none."""
    unfit: frozenset[int] = frozenset()
    """Attempts whose answers are no use to who asks, and are not reused."""


class AttemptState(Protocol):
    """What the ledger knows of a call."""

    @property
    def attempt_id(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def ended_at(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


Row = TypeVar("Row", bound=AttemptState)


def answer_to(claim: Claim, known: Mapping[str, Row]) -> tuple[Hop, Row] | None:
    """The answer that is there, at any hop of the route, if it has not expired and can be used."""
    for hop in claim.hops:
        row = known.get(hop.key)
        if row is None or row.state != "settled" or row.ended_at is None or row.attempt_id in claim.unfit:
            continue
        if claim.oldest is None or row.ended_at >= claim.oldest:
            return hop, row
    return None


def held_by(claim: Claim, known: Mapping[str, Row]) -> Row | None:
    """The attempt whose answer was lost, where the claim is to wait for a person then.

    After an error of the provider itself there is no answer to wait for, whether or not that was billed.
    """
    if claim.on_ambiguous != "hold":
        return None
    rows = (known.get(hop.key) for hop in claim.hops)
    return next((row for row in rows if row is not None and row.state == "ambiguous" and row.error in LOST), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Claims that leave in one request to the provider: texts to embed; or a single one."""

    claims: Sequence[Claim]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """The wish for answers that are there already, for many requests at once."""

    claims: Sequence[Claim]


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """An intent: it may leave now."""

    attempt_id: int
    hop: Hop
    budgets: tuple[str, ...]
    carried: bool
    """Leaves in the request of another one of its parcel, so it takes no place of its own."""
    backfill: str = ""
    """Whose money it uses first."""
    expired_id: int | None = None
    """The attempt with the answer that is too old for who asks now, and good enough for others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReusedAnswer:
    """An answer from the ledger."""

    attempt_id: int
    hop: Hop
    body: str
    cost_nusd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenElsewhere:
    """Another process is asking this very question; look again soon."""

    seconds: float = ELSEWHERE_S
    job: str = ""
    """The batch that it is a line of: that may take a day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldAttempt:
    """An attempt may have been billed, and the policy is to wait for a person."""

    attempt_id: int
    reserved_nusd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenOver:
    """Another process has taken over from this one, which opens no call any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetShortage:
    """A budget has not this much left. `final`: nor will it when all calls in flight have ended."""

    account: Account
    balance: Balance
    amount_nusd: int
    final: bool
    batches: tuple[str, ...] = ()
    """Those on their way that hold so much of it that nothing else can make room; none where other calls may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEnd:
    """How an attempt ended."""

    opened: Intent
    state: State
    error: ErrorClass | None = None
    message: str | None = None
    latency_s: float | None
    """None of a line of a batch: what it waited for says nothing of the model."""
    usage: Usage = NO_USAGE
    cost_nusd: int | None = None
    """None where nobody knows: the reservation is held."""
    body: str | None = None
    provider_id: str | None = None
    answered_model: str | None = None
    served: tuple[str, str] | None = None
    """The tier that it was served at and the version of its price, where prices differ by tier or one was asked for."""


Decision = Intent | ReusedAnswer | OpenElsewhere | HeldAttempt | TakenOver | BudgetShortage | Wait
Operation = Parcel | Recall | AttemptEnd
