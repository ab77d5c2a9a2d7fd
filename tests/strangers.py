"""A Dagster project of somebody else, in which one asset is signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from conftest import Project
from signing import current, made_known, somebody

import ai_assets
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff import decisions
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest

ANSWERS: list[dict[str, Any]] = [
    {"ticket": 7, "reply": "We are sorry about the pump.", "refund": 12.5},
    {"ticket": 3, "reply": "The invoice is right.", "refund": None},
]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, kw_only=True)
class Tick:
    runs: Sequence[str]
    events: int
    cursor: str | None
    said: str | None


@dataclass
class Stranger:
    """A plain Dagster project without a collection, in which one asset is signed."""

    project: Project
    rows: Any = field(default_factory=lambda: [dict(row) for row in ANSWERS])
    declared: Mapping[str, Any] = field(default_factory=lambda: {"key": "ticket"})
    partitions: "dg.PartitionsDefinition[str] | None" = None
    said: str = ""

    @property
    def definitions(self) -> dg.Definitions:
        @dg.asset(partitions_def=self.partitions)
        def answers() -> Any:
            return self.rows

        return dg.Definitions.merge(dg.Definitions(assets=[answers]), ai_assets.signed(answers, **self.declared))

    def run(self, opened: dg.DagsterInstance, *keys: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        assets: Any = list(self.definitions.assets or ())
        selection = dg.AssetSelection.assets(*(dg.AssetKey(key.split("/")) for key in keys))
        return dg.materialize(
            assets, instance=opened, selection=selection, partition_key=partition, run_config=QUIET,
            raise_on_error=False,
        )  # fmt: skip

    def ask(self, opened: dg.DagsterInstance, partition: str | None = None) -> SignoffRequest:
        assert self.run(opened, "answers", "signed/answers_candidate", partition=partition).success
        return current(self.project.stores().state, partition or "all", "answers")

    def approve(self, by: Person | None = None, waivers: Mapping[str, str] | None = None) -> None:
        stores = self.project.stores()
        person = made_known(stores.state, by or somebody("ann"))
        rules = recorded(stores.state)["answers"].settings.signoff
        with stores.state.read() as connection:
            choices = decisions.waiting(connection, "answers", None, rules)
        decisions.decide(
            stores.state, "answers", choices, "approve", by=person, reason=None, rules=rules, waivers=waivers or {}
        )

    def published(self, opened: dg.DagsterInstance) -> Any:
        """The rows; None where there are none to be had, and then `said` has the reason."""
        done = self.run(opened, "signed/answers")
        if done.success:
            return done.output_for_node("signed__answers")
        (failed,) = done.get_step_failure_events()
        data = failed.step_failure_data
        self.said = (data.user_failure_data.description if data.user_failure_data else str(data.error)) or ""
        return None

    def tick(self, opened: dg.DagsterInstance, sensor: str, cursor: str | None = None) -> Tick:
        """As the daemon evaluates it."""
        found = self.definitions.resolve_sensor_def(f"answers__{sensor}")
        done = found.evaluate_tick(dg.build_sensor_context(opened, cursor=cursor))
        runs = [str(run.run_key) for run in done.run_requests or ()]
        return Tick(runs=runs, events=len(done.asset_events), cursor=done.cursor or cursor, said=done.skip_message)


def by_ticket(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: int(row["ticket"]))
