# ruff: noqa: S608 - the parts put together are all from here
"""What the tests of the cost warehouse share: ledgers of any content, and a build of what they hold."""

import datetime
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from ai_assets.base.home import Home
from ai_assets.costs import building
from ai_assets.inference.prices import cost_nusd
from ai_assets.inference.records import Usage
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import LEASE, reading

PRICES: dict[str, Any] = {
    "endpoints": {
        "mini": {
            "base_url": "http://mini",
            "model": "small",
            "prices": [
                {"from": "2026-01-01", "input": 0.15, "cached_input": 0.075, "output": 0.60},
                {"from": "2026-06-01", "input": 0.123457, "cached_input": 0.05, "output": 0.7},
            ],
        },
        "own": {"base_url": "http://own", "model": "local", "free": True},
    },
    "budgets": [
        {"name": "everything", "limit_usd": 5, "per": "month"},
        {"name": "claims-only", "limit_usd": 2, "of": {"tenant": "claims"}},
        {"name": "each-collection", "limit_usd": 3, "each": "collection", "per": "day"},
        {"name": "each-run", "limit_usd": 1, "each": "run"},
    ],
}


def home_at(folder: Path, state_url: str | None = None, declared: dict[str, Any] | None = None) -> Home:
    """A home whose `inference.yaml` declares these endpoints, and whose state store is there."""
    home = home_of(folder, state_url)
    declare(home, declared or PRICES)
    return home.ensure()


def home_of(folder: Path, state_url: str | None = None) -> Home:
    return Home(
        root=folder / "home",
        project=folder,
        declared_state_url=state_url,
        declared_inference=folder / "inference.yaml",
    )


def declare(home: Home, declared: dict[str, Any]) -> None:
    home.inference.write_text(yaml.safe_dump(declared))


class Ledger:
    """Writes rows into a state store, as turns do: in whole nano-dollars, and never the same twice."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self._next = 1

    def caller(self, **who: str) -> int:
        given = {"tenant": "default", "collection": "notes", "asset": "kind", "partition": "2026-11-01",
                 "run_id": "run", "backfill": "", **who}  # fmt: skip
        found = "SELECT caller_id FROM callers WHERE " + " AND ".join(f"{name} = :{name}" for name in given)
        with self.stores.state.write() as connection:
            known: int | None = connection.execute(sa.text(found), given).scalar_one_or_none()
            if known is None:
                columns, values = ", ".join(given), ", ".join(f":{name}" for name in given)
                connection.execute(sa.text(f"INSERT INTO callers ({columns}) VALUES ({values})"), given)
                known = connection.execute(sa.text(found), given).scalar_one()
        return known

    def attempt(self, caller: int, sent_at: str, **what: Any) -> int:
        number = self._next
        self._next += 1
        given = {
            "attempt_id": number, "call_key": f"call-{number}", "previous_id": None, "caller_id": caller,
            "document": "a.txt", "endpoint": "mini", "model": "small", "kind": "classify", "state": "settled",
            "carried": 0, "error": None, "sent_at": sent_at, "ended_at": sent_at, "latency_s": 0.5,
            "input_tokens": 100, "cached_tokens": 10, "output_tokens": 20, "reasoning_tokens": 0,
            "reserved_nusd": 50_000, "cost_nusd": 26_000, "budgets": json.dumps(["everything/2026-11"]),
            "price": "2026-01-01 0.15/0.075/0.6", "prompt": "v1", **what,
        }  # fmt: skip
        columns, values = ", ".join(given), ", ".join(f":{name}" for name in given)
        with self.stores.state.write() as connection:
            connection.execute(sa.text(f"INSERT INTO attempts ({columns}) VALUES ({values})"), given)
        return number

    def reuse(
        self, attempt: int, caller: int, reused_at: str, saved_nusd: int = 26_000, document: str = "a.txt"
    ) -> None:
        self.change(
            "INSERT INTO reuses (attempt_id, caller_id, document, saved_nusd, reused_at) "
            "VALUES (:attempt, :caller, :document, :saved, :at)",
            attempt=attempt, caller=caller, document=document, saved=saved_nusd, at=reused_at,
        )  # fmt: skip

    def change(self, statement: str, **values: Any) -> None:
        with self.stores.state.write() as connection:
            connection.execute(sa.text(statement), values)


def random_ledger(stores: Stores, seed: int, days: Sequence[str], attempts: int = 120) -> Ledger:
    """Attempts of all states, retries, reuses and balances; of two tenants, three collections and some documents."""
    dice, ledger = random.Random(seed), Ledger(stores)
    callers = [
        ledger.caller(tenant="claims" if collection == "claims" else "default", collection=collection, asset=asset,
                      partition=dice.choice(["p/1", "ü 2"]), run_id=f"run-{number % 3}",
                      backfill="b1" if number == 1 else "")
        for number, (collection, asset) in enumerate(
            (collection, asset) for collection in ("notes", "claims", "") for asset in ("kind", "summary")
        )
    ]  # fmt: skip
    price = InferenceSettings.model_validate(PRICES).endpoints["mini"].prices[0]
    made: list[tuple[int, str, int]] = []
    for _ in range(attempts):
        day = dice.choice(days)
        sent_at = f"{day}T{dice.randrange(24):02d}:{dice.randrange(60):02d}:07.{dice.randrange(1000):03d}+00:00"
        state = dice.choices(["settled", "failed", "ambiguous", "intent"], [80, 10, 5, 5])[0]
        own = dice.random() < 0.2
        tokens = {
            "input_tokens": dice.randrange(2000), "cached_tokens": dice.randrange(50),
            "output_tokens": dice.randrange(300), "reasoning_tokens": dice.randrange(20),
        }  # fmt: skip
        cost = 0 if own else cost_nusd(price, Usage(**tokens))
        known = {"settled": cost, "failed": dice.choice([0, cost])}.get(state)
        if known is None:
            tokens = dict.fromkeys(tokens) if state == "intent" else dict.fromkeys(tokens, 0)  # type: ignore[arg-type]
        before = dice.choice(made) if made and dice.random() < 0.2 else None
        number = ledger.attempt(
            dice.choice(callers), sent_at, state=state, cost_nusd=known, reserved_nusd=dice.randrange(10**9),
            document=dice.choice(["a.txt", "b/c.txt", "d 'e'.txt"]), latency_s=round(dice.random() * 3, 6),
            error=None if state in ("settled", "intent") else dice.choice(["timeout", "overloaded", "refused"]),
            endpoint="own" if own else "mini", model="local" if own else "small",
            kind=dice.choice(["classify", "summarise", "embed"]), prompt=dice.choice(["", "v1", "v2"]),
            price=dice.choice([None, "2026-01-01 0.15/0.075/0.6"]),
            previous_id=before[0] if before else None, **tokens,
            **({"call_key": before[1]} if before else {}),
        )  # fmt: skip
        made.append((number, before[1] if before else f"call-{number}", known or 0))
        if dice.random() < 0.3:
            answered, _, saved = dice.choice(made)
            ledger.reuse(answered, dice.choice(callers), f"{dice.choice(days)}T12:00:00.000+00:00", saved)
    for budget, name in (
        (f"everything/{datetime.datetime.now(datetime.UTC):%Y-%m}", "everything"),
        ("each-run/ever/run-1", "each-run"),
    ):
        ledger.change(
            "INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd, earmarked_nusd) "
            "VALUES (:budget, :name, 5000000000, :spent, 1, 2, 3)",
            budget=budget, name=name, spent=dice.randrange(10**9),
        )  # fmt: skip
    return ledger


def build(stores: Stores) -> building.Building:
    """All that is due, without Dagster."""
    with hold(stores.state, LEASE) as lease:
        building.export(stores, building.days_to_copy(stores), "run", lease)
        return building.build(stores, lease)


def ask(home: Home, query: str) -> list[tuple[Any, ...]]:
    with reading(home.warehouse) as connection:
        found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
        return found
