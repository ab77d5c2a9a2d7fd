"""Where a row comes from, and what a prompt touched, in a home whose ledger holds five million further attempts.

Processor time: what is measured does not wait for others. `AI_ASSETS_BENCH_ATTEMPTS` is for trying it with fewer.
"""

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.run.context import Work
from ai_assets.run.explain import explain
from ai_assets.run.provenance import provenance_of
from ai_assets.run.refresh import refresh
from ai_assets.run.touched import TouchedBy, touched
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores
from bench.measure import Figure, write_collection
from bench.release import sign_and_publish
from tests.provider import Provider

DOCUMENTS, SHARDS, ASKED = 1_000, 10, 30
ATTEMPTS = int(os.environ.get("AI_ASSETS_BENCH_ATTEMPTS", "5000000"))
LIMIT_S = 1.0
INFERENCE = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
routes:
  default: {endpoints: [small]}
"""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder, Provider(answers="quick") as provider:
        os.environ["AI_ASSETS_REHEARSAL_URL"] = provider.url
        project = Path(folder)
        names = [f"{n:06d}.txt" for n in range(DOCUMENTS)]
        write_collection(project, "bulk", f"{{by: shards, count: {SHARDS}}}", names)
        declared = project / "collections/bulk/defs.yaml"
        declared.write_text(declared.read_text().replace("kind: classify", "kind: classify\n      route: default"))
        (project / "inference.yaml").write_text(INFERENCE)
        home = Home(root=project / "home", project=project)
        os.environ["AI_ASSETS_HOME"] = str(home.root)
        collection = load_collection(project / "collections", "bulk")
        with Stores.at(home) as stores:
            _publish(collection, stores)
            before = _seconds(collection, stores, names)
            _fill(stores.state, ATTEMPTS)
            after = _seconds(collection, stores, names)
    return [
        Figure(
            name=f"{name}, ledger of {ATTEMPTS:,} attempts, s of processor",
            value=max(after[name]),
            limit=LIMIT_S,
            at_most=True,
            detail=f"the longest; median {statistics.median(after[name]):.3f}, "
            f"{statistics.median(before[name]):.3f} with {DOCUMENTS:,}",
        )
        for name in after
    ]


def _publish(collection: Collection, stores: Stores) -> None:
    with Work(collection, stores, "run") as work:
        for _ in refresh(work, collection.scheme.keys()):
            pass
    sign_and_publish(collection, stores)


def _seconds(collection: Collection, stores: Stores, names: list[str]) -> dict[str, list[float]]:
    step = DOCUMENTS // ASKED
    documents = names[:: step or 1]
    found = provenance_of(collection, stores, documents[0])
    call = next(str(each.facts["call"]) for each in found.steps if each.step == "call")
    reaches = [TouchedBy(by="prompt", value="1"), TouchedBy(by="model", value="mini"), TouchedBy(by="call", value=call)]

    def explained(document: str) -> None:
        provenance_of(collection, stores, document)
        explain(collection, stores, document)

    return {
        "explain of a document": [_timed(explained, document) for document in documents],
        "touched by a prompt, a model, a call": [
            _timed(lambda each: touched(collection, stores, each), by) for by in reaches
        ],
    }


def _timed(ask: Callable[[Any], object], what: object) -> float:
    started = time.process_time()
    ask(what)
    return time.process_time() - started


def _fill(state: StateStore, attempts: int) -> None:
    """Answered calls of earlier runs of the same stage, as many as have no row any more."""
    step = 250_000
    with state.write() as connection:
        query = "INSERT INTO callers (tenant, collection, asset, partition, run_id) VALUES ('default', 'bulk', " \
            "'classification', :partition, 'earlier')"  # fmt: skip
        for number in range(SHARDS):
            connection.execute(sa.text(query), {"partition": f"earlier-{number}"})
        first = connection.execute(sa.text("SELECT min(caller_id) FROM callers WHERE run_id = 'earlier'")).scalar_one()
    for start in range(0, attempts, step):
        rows = range(start, min(start + step, attempts))
        with state.write() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.executemany(
                "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, "
                "carried, sent_at, ended_at, latency_s, input_tokens, output_tokens, reserved_nusd, cost_nusd, "
                "budgets, prompt) VALUES (?, ?, ?, ?, 'small', 'mini', 'classify', 'settled', 0, "
                "'2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:01.000+00:00', 0.5, 120, 12, 50000, 20000, "
                "'[]', '1')",
                (
                    (number + 1, hashlib.sha256(b"%d" % number).hexdigest()[:40],
                     first + number * SHARDS // attempts, f"{number % DOCUMENTS:06d}.txt")
                    for number in rows
                ),
            )  # fmt: skip
    with state.write() as connection:  # in the order of the keys, or it takes an hour
        connection.execute(
            sa.text("INSERT INTO calls SELECT call_key, attempt_id FROM attempts WHERE attempt_id <= :last "
                    "ORDER BY call_key"),
            {"last": attempts},
        )  # fmt: skip
