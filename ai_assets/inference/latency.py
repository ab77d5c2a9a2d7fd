"""How fast endpoints answer, over all processes that share the state store, and which of them are slow now.

A rule `slower_than_s` reads it for each call at the moment it leaves. Answers are counted by how long they took; calls
that are in flight for longer than the limit count as slow before they end. An endpoint that was found slow gets a probe
now and then, one of the calls that wait, and is taken back after some that were clearly fast enough: at 0.8 of the
limit, so that one near the limit does not change sides all the time.
"""

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import sqlalchemy as sa

from ai_assets.inference.prices import estimated_tokens
from ai_assets.inference.records import ErrorClass, Request
from ai_assets.storage import workers
from ai_assets.storage.state import StateStore

WINDOW_S = 600.0
SLICE_S = 10
STEP = 1.05
"""Each bucket ends so much later than the one before: a quantile is right within 5 %."""
FASTEST_S = 0.001
SLOW_SHARE = 0.05
SLOW_ANSWERS = 3
"""Fewer slow answers than this may be chance."""
BACK_AT = 0.8
"""Of the limit; an endpoint that is slow is taken back when its probes took less."""
BACK_ANSWERS = 5
PROBE_EVERY_S = 5.0
"""Over all processes."""
SHARE_EVERY_S = 0.25
"""How often a process that waits for a decision tells what it has seen, and reads what others have."""
FORGET_EVERY_S = 60.0
TELLING: frozenset[ErrorClass] = frozenset({"timeout", "gateway_error"})
"""Errors that say how long the endpoint takes; others come at once."""
SIZES = ((1_000, "short"), (8_000, "medium"))
LARGEST = "long"


@dataclass(frozen=True, kw_only=True, slots=True)
class CallClass:
    """What is compared with each other: a long prompt is slower than a short one everywhere."""

    endpoint: str
    kind: str
    size: str

    @classmethod
    def of(cls, endpoint: str, request: Request) -> "CallClass":
        tokens = estimated_tokens(request)
        size = next((name for most, name in SIZES if tokens < most), LARGEST)
        return cls(endpoint=endpoint, kind=request.kind, size=size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Calls of a class, held against the limit of a rule."""

    calls: CallClass
    limit_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Slowness:
    """What all processes hold of a watch."""

    slow: bool = False
    since_s: float = 0.0
    """Only what was seen from here on counts."""
    probe_at_s: float = 0.0


def bucket_of(seconds: float) -> int:
    return max(math.ceil(math.log(max(seconds, FASTEST_S) / FASTEST_S, STEP) - 1e-9), 0)


def seconds_of(bucket: int) -> float:
    """The most that an answer in this bucket has taken."""
    return float(FASTEST_S * STEP**bucket)


def quantile(answers: Mapping[int, int], share: float) -> float | None:
    """How long this share of the answers took at most."""
    wanted, seen = share * sum(answers.values()), 0
    for bucket in sorted(answers):
        seen += answers[bucket]
        if seen >= wanted:
            return seconds_of(bucket)
    return None


def judged(before: Slowness, answers: Mapping[int, int], overdue: int, limit_s: float, now_s: float) -> Slowness:
    """`answers` since `before.since_s` by bucket; `overdue`: calls in flight for longer than the limit."""
    most = bucket_of(limit_s * BACK_AT if before.slow else limit_s)
    over = overdue + sum(count for bucket, count in answers.items() if bucket > most)
    fresh_s = (math.floor(now_s / SLICE_S) + 1) * float(SLICE_S)  # of the slice that runs, some were seen before
    if before.slow:
        if over:
            return replace(before, since_s=fresh_s)
        if not answers and now_s - before.since_s > WINDOW_S:
            return Slowness()  # too long ago to say anything
        return replace(before, slow=sum(answers.values()) < BACK_ANSWERS)
    if over >= SLOW_ANSWERS and over > SLOW_SHARE * (sum(answers.values()) + overdue):
        return Slowness(slow=True, since_s=fresh_s, probe_at_s=now_s + PROBE_EVERY_S)
    return before


class LatencyMemory:
    """Of one process. `began`, `ended`, `is_slow` and `may_probe` touch memory only; `share` asks the state store."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._unsaid: Counter[tuple[CallClass, int]] = Counter()
        self._in_flight: dict[int, tuple[CallClass, float]] = {}
        self._number = 0
        self._watched: dict[Watch, Slowness] = {}
        self._asked: set[Watch] = set()
        """Since the last `share`: calls wait for what is held of them."""
        self._probes: set[Watch] = set()
        self._forgot_at = 0.0

    def began(self, calls: CallClass) -> int:
        with self._lock:
            self._number += 1
            self._in_flight[self._number] = (calls, monotonic())
            return self._number

    def ended(self, number: int, seconds: float, error: ErrorClass | None) -> None:
        with self._lock:
            calls, _ = self._in_flight.pop(number)
            if error is None or error in TELLING:
                self._unsaid[calls, bucket_of(seconds)] += 1

    def is_slow(self, watch: Watch) -> bool:
        with self._lock:
            self._asked.add(watch)
            return self._watched.get(watch, Slowness()).slow

    def may_probe(self, watch: Watch) -> bool:
        """Once for each probe that this process was given."""
        with self._lock:
            due = watch in self._probes
            self._probes.discard(watch)
            return due

    @property
    def has_news(self) -> bool:
        return bool(self._unsaid or self._asked or (self._watched and self._in_flight))

    def share(self) -> bool:
        """Tell the others, and learn what they have seen; whether a watch has become slow, or is so no more."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
            asked, self._asked = self._asked | {watch for watch in self._watched if self._flies(watch)}, set()
        try:
            with self._state.write() as connection:
                now_s = workers.read_clock(connection).now_s
                self._tell(connection, unsaid, int(now_s // SLICE_S))
                found = {watch: self._settle(connection, watch, now_s) for watch in asked}
        except BaseException:
            with self._lock:
                self._unsaid += unsaid
                self._asked |= asked
            raise
        with self._lock:
            before = {watch: self._watched.get(watch, Slowness()).slow for watch in asked}
            self._watched.update({watch: standing for watch, (standing, _) in found.items()})
            self._probes |= {watch for watch, (_, probes) in found.items() if probes}
        return any(before[watch] != standing.slow for watch, (standing, _) in found.items())

    def _flies(self, watch: Watch) -> bool:
        return any(calls == watch.calls for calls, _ in self._in_flight.values())

    def _tell(self, connection: sa.Connection, unsaid: Mapping[tuple[CallClass, int], int], at: int) -> None:
        if unsaid:
            connection.execute(
                sa.text(
                    "INSERT INTO latencies (endpoint, kind, size, slice, bucket, answers) "
                    "VALUES (:endpoint, :kind, :size, :slice, :bucket, :answers) "
                    "ON CONFLICT (endpoint, kind, size, slice, bucket) "
                    "DO UPDATE SET answers = latencies.answers + excluded.answers"
                ),
                [
                    {**_names(calls), "slice": at, "bucket": bucket, "answers": count}
                    for (calls, bucket), count in unsaid.items()
                ],
            )
        if monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forgot_at = monotonic()
            oldest = {"oldest": at - int(WINDOW_S // SLICE_S)}
            connection.execute(sa.text("DELETE FROM latencies WHERE slice < :oldest"), oldest)

    def _settle(self, connection: sa.Connection, watch: Watch, now_s: float) -> tuple[Slowness, bool]:
        """What all hold from now on, and whether the next probe is this process's."""
        key = {**_names(watch.calls), "limit_s": watch.limit_s}
        row = connection.execute(_KNOWN, key).one_or_none()
        before = Slowness() if row is None else Slowness(
            slow=bool(row.slow), since_s=row.since_s, probe_at_s=row.probe_at_s
        )  # fmt: skip
        since_s = max(before.since_s, now_s - WINDOW_S)
        answers = _answers(connection, watch.calls, since_s)
        after = judged(before, answers, self._overdue(watch, now_s - since_s), watch.limit_s, now_s)
        probes = after.slow and before.slow and now_s >= after.probe_at_s
        if probes:
            after = replace(after, probe_at_s=now_s + PROBE_EVERY_S)
        if after != before:
            held = {"slow": int(after.slow), "since_s": after.since_s, "probe_at_s": after.probe_at_s}
            connection.execute(_HOLD, {**key, **held})
        return after, probes

    def _overdue(self, watch: Watch, window_s: float) -> int:
        now = monotonic()
        with self._lock:
            ages = [now - began for calls, began in self._in_flight.values() if calls == watch.calls]
        return sum(1 for age in ages if watch.limit_s < age <= window_s)


@dataclass(frozen=True, kw_only=True)
class EndpointSpeed:
    """Of the last ten minutes, over all processes."""

    calls: CallClass
    answers: int
    p50_s: float
    p95_s: float
    slow_limits_s: tuple[float, ...]
    """The limits of the rules that hold it to be slow now."""


def speeds(connection: sa.Connection) -> list[EndpointSpeed]:
    oldest = int((workers.read_clock(connection).now_s - WINDOW_S) // SLICE_S)
    found: dict[CallClass, dict[int, int]] = {}
    for row in connection.execute(_SEEN, {"oldest": oldest}):
        found.setdefault(CallClass(endpoint=row.endpoint, kind=row.kind, size=row.size), {})[row.bucket] = int(
            row.answers
        )
    slow: dict[CallClass, list[float]] = {}
    for row in connection.execute(sa.text("SELECT * FROM slow_endpoints WHERE slow = 1 ORDER BY limit_s")):
        slow.setdefault(CallClass(endpoint=row.endpoint, kind=row.kind, size=row.size), []).append(row.limit_s)
    return [
        EndpointSpeed(
            calls=calls,
            answers=sum(answers.values()),
            p50_s=quantile(answers, 0.5) or 0.0,
            p95_s=quantile(answers, 0.95) or 0.0,
            slow_limits_s=tuple(slow.get(calls, ())),
        )
        for calls, answers in sorted(found.items(), key=lambda item: (item[0].endpoint, item[0].kind, item[0].size))
    ]


@dataclass(frozen=True, kw_only=True)
class LatencyQuantile:
    """Of the last ten minutes, over all processes and sizes."""

    endpoint: str
    kind: str
    share: float
    seconds: float


def quantiles(connection: sa.Connection, shares: Sequence[float]) -> list[LatencyQuantile]:
    oldest = int((workers.read_clock(connection).now_s - WINDOW_S) // SLICE_S)
    found: dict[tuple[str, str], Counter[int]] = {}
    for row in connection.execute(_SEEN, {"oldest": oldest}):
        found.setdefault((row.endpoint, row.kind), Counter())[row.bucket] += int(row.answers)
    return [
        LatencyQuantile(endpoint=endpoint, kind=kind, share=share, seconds=seconds)
        for (endpoint, kind), answers in sorted(found.items())
        for share in shares
        if (seconds := quantile(answers, share)) is not None
    ]


def forget(connection: sa.Connection) -> None:
    """After another boot, whose seconds are others."""
    for table in ("latencies", "slow_endpoints"):
        connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608 - names of this module


def _names(calls: CallClass) -> dict[str, object]:
    return {"endpoint": calls.endpoint, "kind": calls.kind, "size": calls.size}


def _answers(connection: sa.Connection, calls: CallClass, since_s: float) -> dict[int, int]:
    rows = connection.execute(_OF_ONE, {**_names(calls), "oldest": math.ceil(since_s / SLICE_S)})
    return {row.bucket: int(row.answers) for row in rows}


_OF = "endpoint = :endpoint AND kind = :kind AND size = :size"
_OF_ONE = sa.text(
    f"SELECT bucket, sum(answers) AS answers FROM latencies WHERE {_OF} AND slice >= :oldest "  # noqa: S608
    "GROUP BY bucket"
)
_SEEN = sa.text(
    "SELECT endpoint, kind, size, bucket, sum(answers) AS answers FROM latencies WHERE slice >= :oldest "
    "GROUP BY endpoint, kind, size, bucket"
)
_KNOWN = sa.text(f"SELECT slow, since_s, probe_at_s FROM slow_endpoints WHERE {_OF} AND limit_s = :limit_s")  # noqa: S608
_HOLD = sa.text(
    "INSERT INTO slow_endpoints (endpoint, kind, size, limit_s, slow, since_s, probe_at_s) "
    "VALUES (:endpoint, :kind, :size, :limit_s, :slow, :since_s, :probe_at_s) "
    "ON CONFLICT (endpoint, kind, size, limit_s) DO UPDATE "
    "SET slow = excluded.slow, since_s = excluded.since_s, probe_at_s = excluded.probe_at_s"
)
