"""What a plan says: plain values, money in whole nano-dollars."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from ai_assets.inference.prices import NUSD, usd_of

LEVEL = 0.95
"""How often the actual cost is meant to lie inside a printed interval."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """An interval around what is likely."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Money:
    low_nusd: int
    likely_nusd: int
    high_nusd: int

    def __add__(self, other: "Money") -> "Money":
        return Money(
            low_nusd=self.low_nusd + other.low_nusd,
            likely_nusd=self.likely_nusd + other.likely_nusd,
            high_nusd=self.high_nusd + other.high_nusd,
        )


NOTHING = Money(low_nusd=0, likely_nusd=0, high_nusd=0)


class Chance(NamedTuple):
    """How probable it is that a question is asked: at least, likely, at most."""

    low: float
    likely: float
    high: float

    def and_(self, other: "Chance") -> "Chance":
        return Chance(self.low * other.low, self.likely * other.likely, self.high * other.high)


CERTAIN = Chance(1.0, 1.0, 1.0)
NEVER = Chance(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class WayPlan:
    """All new calls of a stage by one way."""

    way: Literal["batch", "flex", "sync"]
    money: Money | None
    """None where the endpoint has no such thing."""
    chance: float | None
    """To be in time, all by itself."""


@dataclass(frozen=True, kw_only=True)
class DeadlinePlan:
    """By when a stage is due, and how a run would ask that began now."""

    declared: str
    due_at: str
    way: Literal["batch", "flex", "sync"]
    then: Literal["batch", "flex", "sync"] | None
    """How the rest is asked from `moves_at` on."""
    moves_at: str | None
    chance: float
    """To be in time, with that."""
    reason: str
    ways: Sequence[WayPlan]


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a run would do in one stage; `embeddings` is one too where a model makes the vectors."""

    stage: str
    route: str
    endpoint: str
    """The first of the route, at whose prices new calls are counted."""
    documents: int
    """That the stage applies to, as far as it is known."""
    kept: int
    """Rows that are there already, of the same question."""
    reused: int
    """Answers in the ledger, and texts that recur."""
    held: int
    """Calls that may have been billed and wait for a person: nothing is asked."""
    new_calls: int
    """Likely; those that depend on answers to come count by their chance."""
    calls: Range
    unknown: int
    """Documents whose question is not known yet: an earlier answer or the text is missing."""
    input_tokens: int
    """Likely."""
    output_tokens: Range
    tokens_from: str
    """How input tokens were counted."""
    output_from: str
    """What the output tokens are estimated from."""
    money: Money
    seconds: Range | None
    """Waiting for the model, within its limits; None where nothing is known of its pace."""
    tier: str | None = None
    """The tier of service that calls are asked for at: its price is the likely one, the dearest is the most."""
    deadline: DeadlinePlan | None = None
    opens: str | None = None
    """When its window opens, in UTC; None where it is open now."""


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """What an embedding or a stage would take of a device of one's own, whose price is in no budget."""

    stage: str
    device: str
    model: str
    documents: int
    kept: int
    """Passages that have their vector, or documents their label."""
    texts: int
    """To embed or to label; likely, where files are not read yet."""
    unknown: int
    """Documents whose text is not known yet."""
    input_tokens: int
    seconds: float | None
    """None where the model has not run on that device yet."""
    cost_nusd: int | None
    opens: str | None
    """When its window opens, in UTC; None where it is open now."""
    price: str
    """Such as `1.99/h` or `free`; or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """The same new calls, made in another way."""

    name: str
    model: str
    money: Money
    note: str


@dataclass(frozen=True, kw_only=True)
class BudgetOutlook:
    """One budget that new calls draw on, and whether it lasts."""

    budget: str
    """Name, period, and whose it is."""
    name: str
    limit_nusd: int
    held_nusd: int
    """For attempts that may have been billed: not left until they are resolved."""
    left_nusd: int
    needed: Money
    stops: Literal["no", "maybe", "yes"]
    """Maybe: only if the run costs more than is likely."""
    partition: str
    stage: str
    call: int
    """About the how-many-th new call of that partition and stage it would be; 0 where it does not stop."""
    calls: int
    """How many there are in all."""
    is_among_tenants: bool = False
    """It counts calls of several, and where it ends would say what the others spent."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of these partitions would cost, before it runs."""

    collection: str
    partitions: Mapping[str, str]
    """By partition its state."""
    planned: Sequence[str]
    """Partitions that such a run would take; the others are up to date."""
    documents: Mapping[str, int]
    """By state: ok, duplicate, quarantined, and `unread` for files not parsed yet (about, where tables have rows)."""
    stages: Sequence[StagePlan]
    money: Money
    seconds: Range | None
    alternatives: Sequence[Alternative]
    budgets: Sequence[BudgetOutlook]
    already_nusd: int
    """What the reused answers had cost: not paid again."""
    dearest_call_nusd: int = 0
    """The most that one new call reserves."""
    in_flight_calls: int = 0
    """So many of them at once, at most: their endpoints' `concurrency`."""
    in_flight_nusd: int = 0
    """The most that these can cost: what a kill can make somebody pay for again."""
    devices: Sequence[DevicePlan] = ()
    """What models that are loaded here would take; in none of the sums."""
    level: float = LEVEL
    notes: Sequence[str] = ()
    """What was assumed."""

    @property
    def already_usd(self) -> float:
        return usd_of(self.already_nusd)

    @property
    def new_calls(self) -> int:
        return sum(stage.new_calls for stage in self.stages)

    @property
    def reused(self) -> int:
        return sum(stage.reused for stage in self.stages)


def described(plan: Plan) -> dict[str, Any]:
    """A plan for JSON: dollars as decimal strings instead of nano-dollars."""
    return {**_plain(asdict(plan)), "new_calls": plan.new_calls, "reused": plan.reused}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name.replace("_nusd", "_usd"): decimal(each)
            if name.endswith("_nusd") and each is not None
            else _plain(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def decimal(nusd: int) -> str:
    """Dollars to the last nano-dollar."""
    sign, amount = ("-", -nusd) if nusd < 0 else ("", nusd)
    return f"{sign}{amount // NUSD}.{amount % NUSD:09d}"
