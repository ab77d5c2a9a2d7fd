"""Rows of the ledger for models that run here: what they took of a device, and what that costs at its rate per hour.

Nobody sends a bill, so there is no intent, no reservation and nothing that may have been billed: a row is written when
vectors are there. A process that is killed loses the row of the texts under way, with their vectors. Budgets, which
bound what leaves for providers, do not count it.
"""

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference.ledger import Ledger
from ai_assets.inference.records import Caller
from ai_assets.storage.digest import digest
from ai_assets.storage.state import StateStore, now

PROTOCOL = "here"
"""As the protocol of an attempt: no request was sent."""


@dataclass(frozen=True, kw_only=True)
class DeviceUse:
    """What one block of texts took."""

    device: str
    model: str
    kind: str
    price: str
    """Such as `1.5/h`, or `free`."""
    began_at: str
    tokens: int
    wall_s: float
    gpu_s: float | None
    cpu_s: float
    cost_nusd: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """A document's part in it."""

    document: str
    size: int


def record(state: StateStore, caller: Caller, use: DeviceUse, shares: Sequence[Share]) -> None:
    """One row per document, which bears the seconds and dollars by the size of its texts; all of them add up."""
    with _lock_of(state):
        try:
            with state.write() as connection:
                ledger = _ledger_of(state, connection)
                rows = _rows(ledger, ledger.caller_id(connection, caller), use, shares)
                connection.execute(_ATTEMPT, rows)
                connection.execute(_CALL, [{name: row[name] for name in ("call_key", "attempt_id")} for row in rows])
        except BaseException:
            _ledgers.pop(state, None)  # its owner may have been rolled back
            raise


def _rows(ledger: Ledger, caller_id: int, use: DeviceUse, shares: Sequence[Share]) -> list[dict[str, object]]:
    total, ended_at = sum(each.size for each in shares), now()
    rows: list[dict[str, object]] = []
    so_far = 0
    for each in shares:
        before, so_far = so_far, so_far + each.size
        part = each.size / total if total else 1 / len(shares)
        attempt = ledger.next_attempt()
        rows.append(
            {
                "attempt_id": attempt,
                "call_key": digest([PROTOCOL, ledger.owner_id, attempt])[:64],
                "caller_id": caller_id,
                "document": each.document,
                "endpoint": use.device,
                "model": use.model,
                "kind": use.kind,
                "sent_at": use.began_at,
                "ended_at": ended_at,
                "latency_s": use.wall_s * part,
                "input_tokens": _upto(use.tokens, so_far, total) - _upto(use.tokens, before, total),
                "cost_nusd": _upto(use.cost_nusd, so_far, total) - _upto(use.cost_nusd, before, total),
                "price": use.price,
                "protocol": PROTOCOL,
                "gpu_s": None if use.gpu_s is None else use.gpu_s * part,
                "cpu_s": use.cpu_s * part,
            }
        )
    return rows


def _upto(amount: int, so_far: int, total: int) -> int:
    """So that the parts of a whole number add up to it."""
    return amount * so_far // total if total else 0


# One row each: `carried`, as the request of another call would, since none was sent.
_ATTEMPT = sa.text(
    "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, carried, sent_at, "
    "ended_at, latency_s, input_tokens, cached_tokens, output_tokens, reasoning_tokens, reserved_nusd, cost_nusd, "
    "budgets, price, prompt, protocol, gpu_s, cpu_s) "
    "VALUES (:attempt_id, :call_key, :caller_id, :document, "
    ":endpoint, :model, :kind, 'settled', 1, :sent_at, :ended_at, :latency_s, :input_tokens, 0, 0, 0, 0, "
    ":cost_nusd, '[]', :price, '', "
    ":protocol, :gpu_s, :cpu_s)"
)
_CALL = sa.text("INSERT INTO calls (call_key, attempt_id) VALUES (:call_key, :attempt_id)")
_ledgers: "weakref.WeakKeyDictionary[StateStore, Ledger]" = weakref.WeakKeyDictionary()
_locks: "weakref.WeakKeyDictionary[StateStore, threading.Lock]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _lock_of(state: StateStore) -> threading.Lock:
    with _making:
        return _locks.setdefault(state, threading.Lock())


def _ledger_of(state: StateStore, connection: sa.Connection) -> Ledger:
    """One owner of attempts for this process, without a lease: its rows are ended when they are written."""
    found = _ledgers.get(state)
    if found is None:
        found = _ledgers[state] = Ledger.open(connection, None)
    return found


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a model took on a device so far."""

    tokens: int
    wall_s: float
    charged_s: float
    """What counts for its price: of a GPU the same, of a processor the seconds of all cores."""


def pace(connection: sa.Connection, model: str, device: str) -> Pace | None:
    """Over its newest rows; None where it has not run there."""
    row = connection.execute(_PACE, {"model": model, "device": device, "protocol": PROTOCOL}).one()
    if not row.tokens or not row.wall_s:
        return None
    return Pace(tokens=int(row.tokens), wall_s=float(row.wall_s), charged_s=float(row.charged_s or 0.0))


_PACE = sa.text(
    "SELECT sum(input_tokens) AS tokens, sum(latency_s) AS wall_s, "
    "sum(coalesce(gpu_s, cpu_s)) AS charged_s FROM (SELECT input_tokens, latency_s, gpu_s, cpu_s "
    "FROM attempts WHERE model = :model AND endpoint = :device AND protocol = :protocol "
    "ORDER BY attempt_id DESC LIMIT 5000) AS newest"
)
