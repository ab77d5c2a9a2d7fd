"""A ledger that a real engine filled on the rehearsal provider, faults included, for tests of the figures of costs."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import yaml
from conftest import Project
from engines import endpoint, question, settings
from provider import Provider

from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore

TODAY = datetime.datetime.now(datetime.UTC).date()
FORMULA = "=cmd()|' /C calc'!A1.txt"
MARKUP = '"><script>alert(1)</script>{{ 7 * 7 }}.txt'
LOST = "lost-answer.txt"
ODD_ASSET = '"><b>odd</b>'
REFUSED = "refused.txt"
SECRET = "payroll-of-the-board.md"
BUDGETS: Sequence[dict[str, Any]] = (
    {"name": "everything", "limit_usd": 5, "per": "month"},
    {"name": "each-collection", "limit_usd": 0.5, "per": "month", "each": "collection"},
    {"name": "of-people", "limit_usd": 0.25, "of": {"tenant": "people"}},
    {"name": "each-document", "limit_usd": 0.1, "each": "document"},
)


@dataclass(frozen=True, kw_only=True)
class Spending:
    project: Project
    provider: Provider

    def declare(self, *collections: str) -> None:
        """These collections, and endpoints with prices and budgets."""
        for name in collections:
            self.project.declare(name)
        (self.project.root / "inference.yaml").write_text(yaml.safe_dump(self._declared()))

    def ask(self, *documents: str, days_ago: int = 0, prompt: str = "triage@1", **caller: Any) -> None:
        """About these documents, as it would have been done so many days ago."""
        known: dict[str, Any] = {
            "tenant": "claims", "collection": "reports", "asset": "triage", "partition": "2026-10-05",
            "run_id": f"run-{days_ago}", **caller,
        }  # fmt: skip
        state = StateStore(self.project.home.state_url)
        try:
            with Engine(InferenceSettings.model_validate(self._declared()), state) as engine:
                list(engine.map([question(name, prompt=prompt) for name in documents], Caller(**known)))
            if days_ago:
                _age(state, known["run_id"], days_ago)
        finally:
            state.close()

    def lose(self, document: str, **caller: Any) -> None:
        """Its first answer does not arrive, so nobody knows whether it was billed."""
        self.provider.script([{"match": document, "fault": "reset_after", "times": 1}])
        self.ask(document, **caller)
        self.provider.script([])

    def everything(self) -> None:
        """Two collections of two tenants over forty days, hostile names, lost and refused answers, reuse."""
        self.declare("reports", "handbook")
        for days_ago in (40, 12, 3):
            self.ask(*(f"{days_ago}-{number}.txt" for number in range(3)), days_ago=days_ago)
        self.ask("a.txt", "b.txt", FORMULA, MARKUP)
        self.ask("c.txt", prompt="triage@2", asset=ODD_ASSET, partition='"<b>2026', run_id="run-two")
        self.ask("a.txt", run_id="run-again")
        self.lose(LOST)
        self.provider.script([{"match": REFUSED, "fault": "context_too_long"}])
        self.ask(REFUSED)
        self.provider.script([])
        self.ask(SECRET, "other.md", tenant="people", collection="handbook", asset="kind", run_id="run-handbook",
                 prompt="kind@7")  # fmt: skip

    def _declared(self) -> dict[str, Any]:
        endpoints = {
            "mini": endpoint(self.provider.url),
            "large": endpoint(self.provider.url, model="large"),
        }
        made = settings(endpoints, route=["mini"], budgets=list(BUDGETS))
        return made.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _age(state: StateStore, run: str, days: int) -> None:
    """What this run asked was asked so many days before."""
    of_run = "caller_id IN (SELECT caller_id FROM callers WHERE run_id = :run)"
    with state.write() as connection:
        for column in ("sent_at", "ended_at"):
            query = f"SELECT attempt_id, {column} AS at FROM attempts WHERE {of_run}"  # noqa: S608
            for row in connection.execute(sa.text(query), {"run": run}).all():
                then = datetime.datetime.fromisoformat(row.at) - datetime.timedelta(days=days)
                connection.execute(
                    sa.text(f"UPDATE attempts SET {column} = :then WHERE attempt_id = :id"),  # noqa: S608
                    {"then": then.isoformat(timespec="milliseconds"), "id": row.attempt_id},
                )
