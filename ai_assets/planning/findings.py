"""What is the same for all partitions of a plan, and what is found in one of them. Little more than values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ai_assets.inference.accounts import Accounts
from ai_assets.inference.call_state import CallState
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.ledger_messages import Hop
from ai_assets.inference.prices import MESSAGE_TOKENS, REQUEST_TOKENS, worst_case_nusd
from ai_assets.inference.records import Request
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.departures import Departures
from ai_assets.planning.past import PastQuestions
from ai_assets.planning.preview import PreviewWork, ReadAhead, UnreadFiles
from ai_assets.planning.records import Chance
from ai_assets.planning.tokens import TOKEN_BYTES, Counter

BLOCK = 2_000
"""So many questions are in memory at once."""
COUNTED_FIRST = 1_000
"""So many calls of a stage are counted one by one; of further ones a sample by their key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCall:
    """A request that would leave."""

    key: str
    """Empty where the question is not known to the last letter."""
    document: str
    endpoint: str
    size: int
    """Bytes that the model reads."""
    tokens: int | None
    """None where it was not counted."""
    sampled: bool
    reserve_nusd: int
    reserves: tuple[tuple[str, int], ...]
    """The same at each endpoint of its route."""
    chance: Chance


@dataclass(kw_only=True)
class StageFindings:
    """What a run would do in one stage of one partition."""

    stage: str
    partition: str
    documents: int = 0
    kept: int = 0
    reused: int = 0
    reused_nusd: int = 0
    held: int = 0
    unknown: int = 0
    calls: list[NewCall] = field(default_factory=list)
    unread: list[tuple[Chance, UnreadFiles]] = field(default_factory=list)
    asked: int = 0
    """Questions that were put together, with their sizes and that of the documents in them."""
    asked_bytes: int = 0
    text_bytes: int = 0
    pairs: list[tuple[int, int, bool]] = field(default_factory=list)
    """Size of a question, tokens of a past one about the same document, and whether that was the very same."""


@dataclass(kw_only=True)
class PlanContext:
    """What is the same for all partitions."""

    work: PreviewWork
    inference: InferenceSettings
    read_ahead: ReadAhead
    counters: Mapping[str, Counter | None]
    """By endpoint."""
    past: Mapping[str, PastQuestions]
    labels: Mapping[str, Mapping[str, int]]
    """By stage, how often each label was given so far."""
    answer_bytes: Mapping[str, int]
    """By stage, how long an answer is likely to be."""
    every: int = 1
    """Of further calls, one in so many is counted."""
    counted: dict[str, int] = field(default_factory=dict)
    accounts: Accounts = field(init=False)
    departures: Departures = field(init=False)
    needed: frozenset[str] = field(init=False)
    """Stages whose answers others use, or the vectors."""

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.inference.budgets)
        collection = self.work.collection
        self.departures = Departures(collection, self.inference, store_moment(self.work.stores.state))
        self.needed = frozenset(
            [*collection.embedded_stages, *(name for stage in collection.stages for name in stage.upstream)]
        )


def new_call(around: PlanContext, stage: str, ticket: CallState, hop: Hop, chance: Chance, told: int | None) -> NewCall:
    """`told`: bytes that the question still lacks; None where it lacks none."""
    counter = around.counters.get(hop.name)
    sampled = int(hop.key[:8], 16) % around.every == 0
    done = around.counted.get(stage, 0)
    tokens = None
    if counter is not None and (sampled or done < COUNTED_FIRST):
        around.counted[stage] = done + 1
        tokens = counter(hop.body) + (told or 0) // TOKEN_BYTES
    return NewCall(
        key=hop.key if told is None else "",
        document=ticket.asked.document,
        endpoint=hop.name,
        size=size_of(hop, ticket.request) + (told or 0),
        tokens=tokens,
        sampled=sampled,
        reserve_nusd=hop.reserve_nusd,
        reserves=tuple(
            (each.name, each.reserve_nusd + worst_case_nusd(each.price, told or 0, 0)) for each in ticket.claim.hops
        ),
        chance=chance,
    )


def size_of(hop: Hop, request: Request) -> int:
    """Bytes of what the model reads, without the room that a reservation leaves around them."""
    out = 0 if request.text is not None else request.max_output_tokens
    return max(1, hop.tokens - out - REQUEST_TOKENS - MESSAGE_TOKENS * len(request.messages))
