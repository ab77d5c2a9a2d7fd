"""The one line that every run ends with, however it ends: what came of it, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_assets.base.money import dollars
from ai_assets.base.plural import plural
from ai_assets.inference.run_spend import RunSpend
from ai_assets.run import hand_over
from ai_assets.run.context import Outcome
from ai_assets.run.events import DatasetMade, RunEvent
from ai_assets.run.sinks import Sink
from ai_assets.signoff.holds import HELD
from ai_assets.storage.digest import Json
from ai_assets.storage.state import StateStore

CANDIDATE = "release_candidate"


@dataclass(frozen=True, kw_only=True)
class RunTotal:
    partitions: int
    """Those that were to be run."""
    candidates: int
    """Those that have a candidate now."""
    indexed: int
    """Documents of those candidates."""
    quarantined: int
    held: int = 0
    """Documents that wait for a person while the others go on."""
    failed: int
    """Partitions."""
    reused: Mapping[str, int] = field(default_factory=dict)
    """By asset, documents that were taken over, or made from answers that were in the ledger; those that have any."""
    spend: RunSpend
    seconds: float

    @property
    def in_words(self) -> str:
        spend = self.spend
        said = [
            f"{self.candidates:,} of {plural(self.partitions, 'partition')} done",
            f"{plural(self.indexed, 'document')} indexed",
            f"{self.quarantined:,} quarantined",
            f"{self.held:,} held for a person" if self.held else "",
            f"{plural(self.failed, 'partition')} failed" if self.failed else "",
            f"{dollars(spend.cost_usd)} for {plural(spend.calls, 'call')}" if spend.calls else "no calls",
            f"{plural(spend.reused, 'answer')} reused" if spend.reused else "",
            spend.retries_in_words,
            f"{dollars(spend.maybe_usd)} may have been billed" if spend.maybe_nusd else "",
            f"{self.seconds:.1f} s",
        ]
        return "; ".join(part for part in said if part)

    def described(self) -> dict[str, int | float | dict[str, int]]:
        """For programs."""
        return {
            "partitions": self.partitions, "candidates": self.candidates, "indexed": self.indexed,
            "quarantined": self.quarantined, "held": self.held, "failed": self.failed, "reused": dict(self.reused),
            "calls": self.spend.calls, "retried": self.spend.retried, "answers_reused": self.spend.reused,
            "cost_usd": self.spend.cost_usd, "maybe_usd": self.spend.maybe_usd, "seconds": round(self.seconds, 3),
        }  # fmt: skip


@dataclass
class Counted(Sink):
    """Hears of candidates, and so can say at any moment how much came of a run."""

    hears = (DatasetMade,)
    indexed: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    reused: dict[tuple[str, str], int] = field(default_factory=dict)
    """By asset and partition."""

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, DatasetMade):
            self.count(event.outcome)

    def count(self, outcome: Outcome) -> None:
        self.reused[outcome.manifest.asset, outcome.manifest.partition] = outcome.reused
        if outcome.manifest.asset == CANDIDATE:
            self.indexed[outcome.manifest.partition] = outcome.documents_out
            self.held[outcome.manifest.partition] = int(outcome.manifest.stats.get(HELD, 0))
        elif outcome.manifest.asset == "documents":
            self.quarantined[outcome.manifest.partition] = outcome.quarantined

    def as_data(self) -> dict[str, Json]:
        reused: list[Json] = [[asset, partition, count] for (asset, partition), count in self.reused.items()]
        return {
            "indexed": {**self.indexed},
            "quarantined": {**self.quarantined},
            "held": {**self.held},
            "reused": reused,
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """What another step of the run counted."""
        self.indexed = {**data["indexed"], **self.indexed}
        self.quarantined = {**data["quarantined"], **self.quarantined}
        self.held = {**data.get("held", {}), **self.held}
        self.reused = {(asset, partition): count for asset, partition, count in data["reused"]} | self.reused

    def total(self, spend: RunSpend, *, partitions: int, failed: int, seconds: float) -> RunTotal:
        return RunTotal(
            partitions=partitions,
            candidates=len(self.indexed),
            indexed=sum(self.indexed.values()),
            quarantined=sum(self.quarantined.values()),
            held=sum(self.held.values()),
            failed=failed,
            reused=self._reused_by_asset(),
            spend=spend,
            seconds=seconds,
        )

    def _reused_by_asset(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for (asset, _), reused in self.reused.items():
            if reused:
                found[asset] = found.get(asset, 0) + reused
        return found


@dataclass(frozen=True)
class CountsOfSteps:
    """What the steps of a run count together, each in a process of its own."""

    state: StateStore
    run_id: str
    step: str

    def together(self, counted: Counted, seconds: float) -> float:
        """Keeps what this step counted, and adds what the others did; the seconds of all."""
        with self.state.write() as connection:
            hand_over.keep_counts(connection, self.run_id, self.step, seconds, counted.as_data())
            others = hand_over.counts_before(connection, self.run_id, self.step)
        for _, data in others:
            counted.add(data)
        return seconds + sum(each for each, _ in others)
