"""What the tests of the engine share: settings for a provider, questions, and a look into the books of the ledger."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

import ai_assets.base.child_main
from ai_assets.base.processes import boot_id, identity
from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Caller, Request, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore

REPOSITORY = Path(__file__).parent.parent
PRICE: Mapping[str, Any] = {"from": "2026-01-01", "input": 0.15, "output": 0.60}
"""As the rehearsal provider bills."""
CALLER = Caller(collection="notes", asset="kind", partition="2026-10-05", run_id="run")
QUICK: Mapping[str, Any] = {
    error: {"attempts": attempts, "base_s": 0.01, "cap_s": 0.05}
    for error, attempts in (
        ("rate_limited", 10), ("overloaded", 8), ("server_error", 6), ("gateway_error", 3), ("unreachable", 6),
        ("timeout", 3), ("connection_lost", 3), ("garbled", 2),
    )
}  # fmt: skip
"""The attempts of the default policy, with waits for tests."""


def endpoint(url: str, **more: Any) -> dict[str, Any]:
    """At the rehearsal provider, which bills no error unless its fault says so (`..._billed`)."""
    priced = {} if more.get("free") else {"prices": [dict(PRICE)]}
    return {"base_url": url, "model": "small", "errors_are_free": True, **priced, **more}


def settings(
    endpoints: Mapping[str, Mapping[str, Any]], *, route: Sequence[str] | Mapping[str, Any] = (), **more: Any
) -> InferenceSettings:
    """A route `default` over all endpoints in their order, unless it is said otherwise; retries are quick."""
    default = route if isinstance(route, Mapping) else {"endpoints": list(route or endpoints)}
    declared = {"endpoints": endpoints, "routes": {"default": default}, "retries": {"all": dict(QUICK)}, **more}
    return InferenceSettings.model_validate(declared)


def one(url: str, **more: Any) -> InferenceSettings:
    """One endpoint `mini` at that address."""
    return settings({"mini": endpoint(url, **more)})


def declare(project: Path, url: str, more: str = "", **endpoint: Any) -> None:
    """The `inference.yaml` of a project: one endpoint `mini`, at the price that the rehearsal provider bills."""
    made = {"base_url": url, "model": "rehearsal-mini", "prices": [dict(PRICE)], **endpoint}
    found = {"endpoints": {"mini": made}, "routes": {"default": {"endpoints": ["mini"]}}}
    (project / "inference.yaml").write_text(yaml.safe_dump(found) + more)


def question(number: int | str, **more: Any) -> Request:
    text = f"<document>Note {number}. The pump in hall {number} leaks. Seen on Monday.</document>"
    asked: dict[str, Any] = {"messages": ({"role": "user", "content": text},), "max_output_tokens": 64, **more}
    return Request(document=str(number), **asked)


def to_embed(number: int | str, **more: Any) -> Request:
    return Request(document=str(number), text=f"Note {number}. The pump in hall {number} leaks.", kind="embed", **more)


def questions(count: int, *, first: int = 0, **more: Any) -> list[Request]:
    return [question(number, **more) for number in range(first, first + count)]


@contextmanager
def opened(state_url: str, declared: InferenceSettings) -> Iterator[Engine]:
    state = StateStore(state_url)
    try:
        with Engine(declared, state) as engine:
            yield engine
    finally:
        state.close()


def ask(
    state_url: str, declared: InferenceSettings, requests: Iterable[Request], caller: Caller = CALLER
) -> list[Result]:
    """All results of one `map` of an engine of its own."""
    with opened(state_url, declared) as engine:
        return list(engine.map(requests, caller))


def rows(where: str | StateStore, statement: str, **values: object) -> list[Any]:
    """What a store holds, or the one at that address."""
    state = StateStore(where) if isinstance(where, str) else where
    try:
        with state.read() as connection:
            return list(connection.execute(sa.text(statement), values))
    finally:
        if state is not where:
            state.close()


def attempts(state_url: str) -> list[Any]:
    """In the order in which they were made."""
    return rows(state_url, "SELECT * FROM attempts ORDER BY sent_at, attempt_id")


def states(state_url: str) -> dict[str, int]:
    """How many attempts are in which state."""
    return {row.state: row.number for row in rows(state_url, _STATES)}


_STATES = "SELECT state, count(*) AS number FROM attempts GROUP BY state"


def check_books(where: str | StateStore, *, at_rest: bool = True, within: bool = True) -> dict[str, Any]:
    """The balance of every budget is the sum over its attempts and earmarks; at rest nothing is in flight.

    And it is within its limit, unless somebody lowered that below what is used.
    """
    sums: dict[str, list[int]] = {}
    places: Counter[str] = Counter()
    for row in rows(where, "SELECT endpoint, state, carried, reserved_nusd, cost_nusd, budgets FROM attempts"):
        places[row.endpoint] += row.state == "intent" and not row.carried
        for budget in json.loads(row.budgets):
            spent, reserved, held = sums.get(budget, (0, 0, 0))
            sums[budget] = [
                spent + (row.cost_nusd or 0),
                reserved + (row.reserved_nusd if row.state == "intent" else 0),
                held + (row.reserved_nusd if row.state == "ambiguous" else 0),
            ]
    found = {row.budget: row for row in rows(where, "SELECT * FROM budgets")}
    aside = {row.budget: row.aside for row in rows(where, _SET_ASIDE)}
    assert sums.keys() | aside.keys() <= found.keys()
    for name, row in found.items():
        assert [row.spent_nusd, row.reserved_nusd, row.held_nusd] == sums.get(name, [0, 0, 0]), name
        assert row.earmarked_nusd == aside.get(name, 0), name
        used = row.spent_nusd + row.reserved_nusd + row.held_nusd + row.earmarked_nusd
        assert used <= row.limit_nusd or not within, name
        assert not at_rest or row.reserved_nusd == 0
    for row in rows(where, "SELECT endpoint, in_flight FROM endpoints"):
        assert row.in_flight == (0 if at_rest else places[row.endpoint])
    return found


_SET_ASIDE = "SELECT budget, sum(left_nusd) AS aside FROM earmarks GROUP BY budget"


def dead_worker(connection: sa.Connection) -> int:
    """The number of a worker that may act until another one looks: its process is seen to have ended."""
    gone = f"{2**22 - 1}:{identity().partition(':')[2]}"
    statement = (
        "INSERT INTO workers (host, process, boot, expires_at) VALUES (:host, :process, :boot, 0) RETURNING worker_id"
    )
    values = {"host": socket.gethostname(), "process": gone, "boot": boot_id()}
    return int(connection.execute(sa.text(statement), values).scalar_one())


class Asking:
    """`tests/programs/ask.py` in a process of its own: it asks, and says at its end what it got."""

    def __init__(self, state_url: str, declared: InferenceSettings, **what: Any) -> None:
        # Not a pipe: nobody reads it before the end, and a full one would stop it.
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), "programs.ask"],
            cwd=REPOSITORY / "tests",
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        shown = declared.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"state_url": state_url, "settings": shown, **what}) + "\n")
        self.process.stdin.flush()

    def ready(self) -> "Asking":
        """Wait until its imports are over."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", line + self.complaints()
        return self

    def go(self) -> "Asking":
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self

    def said(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """What it got; it has ended, and complained of nothing."""
        out, _ = self.process.communicate(timeout=timeout_s)
        complaints = self.complaints()
        self._complaints.close()
        assert (self.process.returncode, complaints) == (0, ""), f"{self.process.returncode}\n{out}\n{complaints}"
        return dict(json.loads(out.splitlines()[-1]))

    def complaints(self) -> str:
        """All it has written to its standard error."""
        self._complaints.seek(0)
        return self._complaints.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=300)
        self._complaints.close()


def asking(state_url: str, declared: InferenceSettings, **what: Any) -> Asking:
    """A process that asks now."""
    (process,) = together(Asking(state_url, declared, **what))
    return process


def together(*processes: Asking) -> Sequence[Asking]:
    """They ask from the same moment on."""
    for process in processes:
        process.ready()
    for process in processes:
        process.go()
    return processes
