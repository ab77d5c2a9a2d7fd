"""Planning 100,000 documents whose prompt has changed, half of them answered, against the ledger's rows alone."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.documents.source_listing import observe
from ai_assets.inference.accounts import Accounts
from ai_assets.inference.call_state import ticket_for
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.past import look_up
from ai_assets.planning.plan import plan
from ai_assets.run.context import Work
from ai_assets.run.datasets.documents import COLUMNS
from ai_assets.stages.llm import PromptDocument, ask
from ai_assets.storage.digest import sha256_hex
from ai_assets.storage.stores import Stores, record_dataset
from bench.measure import ROOT, Figure, write_documents

DOCUMENTS, PARTITIONS = 100_000, 20
BLOCK = 10_000
OLD = 1_700_000_000
"""A file that was changed just now is read again by every look."""
ROUNDS = 3
BODY = json.dumps({"choices": [{"message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}]})
DEFS = """\
type: ai_assets.DocumentCollection
attributes:
  source: {path: documents}
  partitions: {by: folder}
  schedule: null
  stages:
    - name: kind
      kind: classify
      route: rehearsal
      labels:
        - {name: invoice, description: A bill that asks for payment of an amount that is due.}
        - {name: incident, description: A report of an outage or damage with cause and action.}
"""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        home = Home(root=project / "home", project=ROOT)
        collection = _declared(project)
        with Stores.at(home) as stores:
            inference = load_inference(home.inference)
            keys = _computed(collection, stores, inference)
            return _timed(collection, stores, inference, keys)


def _timed(collection: Collection, stores: Stores, inference: InferenceSettings, keys: list[str]) -> list[Figure]:
    ours, theirs = [], []
    for _ in range(ROUNDS):  # in turns, so that noise hits both
        started = time.perf_counter()
        found = plan(collection, stores, inference)
        ours.append(time.perf_counter() - started)
        assert (found.new_calls, found.reused) == (DOCUMENTS - len(keys), len(keys)), found
        started = time.perf_counter()
        with stores.state.read() as connection:
            assert len(look_up(connection, keys, bodies=True)) == len(keys)
        theirs.append(time.perf_counter() - started)
    planned, read = statistics.median(ours), statistics.median(theirs)
    return [
        Figure(
            name=f"planning {DOCUMENTS:,} documents, s", value=planned, limit=20, at_most=True,
            detail=f"{planned / DOCUMENTS * 1e6:.0f} µs each; half of them answered in the ledger",
        ),
        Figure(
            name="the same / reading the ledger's matching rows", value=planned / read, limit=40, at_most=True,
            detail=f"{planned:.1f} s and {read:.2f} s for {len(keys):,} rows",
        ),
    ]  # fmt: skip


def _declared(project: Path) -> Collection:
    folder = project / "collections" / "bulk"
    names = [f"folder-{number % PARTITIONS:02d}/{number:06d}.txt" for number in range(DOCUMENTS)]
    write_documents(folder / "documents", names)
    for name in names:
        os.utime(folder / "documents" / name, (OLD, OLD))
    (folder / "defs.yaml").write_text(DEFS, encoding="utf-8")
    return load_collection(project / "collections", "bulk")


def _computed(collection: Collection, stores: Stores, inference: InferenceSettings) -> list[str]:
    """The documents as a run would have left them, and answers to every other question; the keys of those."""
    listing = observe(collection, stores.lake, stores.state)
    keys: list[str] = []
    with Work(collection, stores, "bench") as work:
        for partition in listing.by_partition:
            documents = list(_documents(work, partition))
            _commit(work, partition, documents)
            keys += _answered(work, inference, partition, documents[::2])
    _write_answers(stores, sorted(keys))
    return keys


def _documents(work: Work, partition: str) -> Iterator[PromptDocument]:
    for entry in work.listing.by_partition[partition]:
        text = (Path(work.collection.source_path) / entry.path).read_text(encoding="utf-8")
        title = text.partition("\n")[0]
        yield PromptDocument(
            document_id=entry.path, digest=sha256_hex(text.encode()), title=title, text=text, language="en",
            path=entry.path,
        )  # fmt: skip


def _commit(work: Work, partition: str, documents: list[PromptDocument]) -> None:
    import pyarrow as pa

    digests = {entry.path: entry.digest for entry in work.listing.by_partition[partition]}
    rows = [
        {**dict.fromkeys(COLUMNS), **vars(each), "status": "ok", "entry_digest": digests[each.path]}
        for each in documents
    ]
    outcome = work.commit(
        "documents",
        partition,
        pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS])),
        {"source_files": work.listing.digest_of(partition)},
        started=0.0,
        documents_in=len(rows),
        documents_out=len(rows),
        reused=0,
        preview=[],
        statuses={"ok": len(rows)},
    )
    with work.stores.state.write() as connection:
        record_dataset(connection, outcome.manifest)


def _answered(work: Work, inference: InferenceSettings, partition: str, documents: list[PromptDocument]) -> list[str]:
    question, accounts = work.collection.questions["kind"], Accounts(())
    caller = work.caller("kind", partition)
    requests = (ask(question, document, {}).request for document in documents)
    tickets = (ticket_for(inference, accounts, each, caller) for each in requests if each)
    return [ticket.claim.hops[0].key for ticket in tickets]


def _write_answers(stores: Stores, keys: list[str]) -> None:
    with stores.state.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO callers (caller_id, tenant, collection, asset, partition, run_id) "
                "VALUES (1, 'default', 'bulk', 'kind', '', 'earlier')"
            )
        )
        for start in range(0, len(keys), BLOCK):
            block = enumerate(keys[start : start + BLOCK], start=start + 1)
            rows = [{"n": number, "key": key, "body": BODY} for number, key in block]
            connection.execute(
                sa.text(
                    "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, "
                    "carried, sent_at, ended_at, latency_s, input_tokens, output_tokens, reserved_nusd, cost_nusd, "
                    "budgets) VALUES (:n, :key, 1, :key, 'rehearsal', 'rehearsal-mini', 'classify', 'settled', 0, "
                    "'2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:01.000+00:00', 0.5, 400, 50, 500000, 90000, "
                    "'[]')"
                ),
                rows,
            )
            connection.execute(sa.text("INSERT INTO answers VALUES (:n, :body)"), rows)
            connection.execute(sa.text("INSERT INTO calls VALUES (:key, :n)"), rows)
