"""The ledger alone: answers taken from it in bulk, and what its turns cost when it holds five million attempts."""

import contextlib
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from ai_assets.inference.accounts import Account
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import AttemptEnd, Claim, Hop, Intent, Parcel, Recall
from ai_assets.inference.prices import FREE
from ai_assets.inference.records import Caller, Usage
from ai_assets.inference.settings import Endpoint
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore
from bench.engine_client import main as run_engine
from bench.measure import Figure
from tests.provider import Provider

REUSED = 100_000
FEW, MANY = 50_000, 5_000_000
PER_TURN = 64
TURNS = 150
MESSAGE = {"role": "assistant", "content": json.dumps({"label": "billing"})}
BODY = json.dumps({
    "id": "chatcmpl-1",
    "model": "rehearsal-mini",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 12, "total_tokens": 132},
})  # fmt: skip


def measure() -> list[Figure]:
    return [_reuse(), *_scale()]


def _reuse() -> Figure:
    with tempfile.TemporaryDirectory() as folder, Provider(answers="quick") as provider:
        url = f"sqlite:///{folder}/state.db"
        run_engine(provider.url, REUSED, 64, url)
        found = run_engine(provider.url, REUSED, 64, url)
    assert found["reused"] == REUSED, found
    return Figure(name="an answer from the ledger, in bulk, ms", value=found["wall_s"] / REUSED * 1000, limit=0.1,
                  at_most=True, detail=f"{REUSED:,} in {found['wall_s']:.1f} s, all told")  # fmt: skip


def _scale() -> list[Figure]:
    with tempfile.TemporaryDirectory() as few_folder, tempfile.TemporaryDirectory() as many_folder:
        few, many = _Filled(Path(few_folder), FEW), _Filled(Path(many_folder), MANY)
        rounds = [(few.turn(), many.turn()) for _ in range(TURNS)]  # in turns, so that noise hits both
    names = ("claim and settle 64 new calls", "look up 64 answers")
    figures = []
    for place, name in enumerate(names):
        small, large = (statistics.median(pair[which][place] for pair in rounds) for which in (0, 1))
        detail = f"{large * 1000:.2f} and {small * 1000:.2f} ms a turn"
        title = f"{name}: ledger of {MANY:,} / {FEW:,}"
        figures.append(Figure(name=title, value=large / small, limit=1.5, at_most=True, detail=detail))
    return figures


class _Filled:
    """A ledger with so many settled attempts, and a process that goes on with it."""

    def __init__(self, folder: Path, attempts: int) -> None:
        self._attempts = attempts
        self._state = StateStore(f"sqlite:///{folder}/state.db")
        self._fill()
        self._holding = contextlib.ExitStack()
        lease = self._holding.enter_context(hold(self._state, "bench"))
        with self._state.write() as connection:
            self._ledger = Ledger.open(connection, lease.worker_id)
        self._endpoint = Endpoint.model_validate({"base_url": "http://bench", "model": "m", "free": True})
        self._batch = 0
        self._opened: list[Intent] = []

    def _fill(self) -> None:
        step = 250_000
        with self._state.write() as connection:
            connection.execute(
                sa.text("INSERT INTO callers VALUES (1, 'default', 'bench', 'labels', '', 'earlier', '')")
            )
        for start in range(0, self._attempts, step):
            rows = range(start, min(start + step, self._attempts))
            with self._state.write() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                raw.executemany(
                    "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, "
                    "carried, sent_at, ended_at, latency_s, input_tokens, output_tokens, reserved_nusd, cost_nusd, "
                    "budgets) VALUES (?, ?, 1, ?, 'm', 'm', 'classify', 'settled', 0, '2026-01-01T00:00:00.000+00:00', "
                    "'2026-01-01T00:00:01.000+00:00', 0.5, 120, 12, 50000, 20000, '[\"all/ever\"]')",
                    ((number + 1, _key(number), f"doc-{number:07d}") for number in rows),
                )
                raw.executemany("INSERT INTO answers VALUES (?, ?)", ((number + 1, BODY) for number in rows))
        with self._state.write() as connection:  # in the order of the keys, or it takes an hour
            connection.execute(sa.text("INSERT INTO calls SELECT call_key, attempt_id FROM attempts ORDER BY call_key"))

    def turn(self) -> tuple[float, float]:
        """Seconds to claim and settle some new calls, and to look up some answers."""
        self._batch += 1
        endings = [
            AttemptEnd(opened=opened, state="settled", latency_s=0.05, usage=Usage(input_tokens=120, output_tokens=12),
                  cost_nusd=20_000, body=BODY, answered_model="m")
            for opened in self._opened
        ]  # fmt: skip
        fresh = [Parcel(claims=[self._claim(f"new {self._batch} {place}")]) for place in range(PER_TURN)]
        started = time.perf_counter()
        with self._state.write() as connection:
            results = self._ledger.apply(connection, [*endings, *fresh], self._batch)
        changed_s = time.perf_counter() - started
        self._opened = [decisions[0] for decisions in results[len(endings) :]]
        wanted = [(self._batch * 7919 + place * 104_729) % self._attempts for place in range(PER_TURN)]
        recall = Recall(claims=[self._claim(None, number) for number in wanted])
        started = time.perf_counter()
        with self._state.write() as connection:
            (found,) = self._ledger.apply(connection, [recall], self._batch)
        looked_up_s = time.perf_counter() - started
        assert all(found)
        return changed_s, looked_up_s

    def _claim(self, text: str | None, number: int = 0) -> Claim:
        key = _key(number) if text is None else hashlib.sha256(text.encode()).hexdigest()[:40]
        hop = Hop(name="m", endpoint=self._endpoint, price=FREE, key=key, body=b"", reserve_nusd=50_000, tokens=500)
        account = Account(budget="all/ever", name="all", limit_nusd=10**18)
        return Claim(hops=(hop,), at=0, caller=Caller(collection="bench"), document="d", kind="classify",
                     accounts=(account,), oldest=None, on_ambiguous="retry")  # fmt: skip


def _key(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:40]
