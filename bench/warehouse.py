# ruff: noqa: S608 - the parts put together are all from here
"""The cost warehouse over ten million attempts, against one bare DuckDB aggregation of the same rows.

The bare one is written by hand and reads the same Parquet files of the lake into the same file format, with DuckDB's
own defaults for threads and the memory limit of the builder: spend to the grain of the mart, documents, and latency
quantiles, with the columns of those marts. It copies no attempts, tests nothing, says nothing of waste and errors, and
knows neither reuses, releases nor budgets. Ours are all of the builder: its process and dbt's from start to end, the
copy of every attempt, all marts and all tests. The rows made here have no reuses, no stage's rows that hold an answer
and no release, so both sides are spared those: where some are, ours also looks up the keys of all calls once.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import duckdb
import psutil
import pyarrow.parquet as pq

from ai_assets.base.home import Home
from ai_assets.costs import building
from ai_assets.costs.day_rows import ATTEMPTS, REUSES, Rows
from ai_assets.costs.ledger_days import ATTEMPTS_ASSET, COLLECTION, REUSES_ASSET, VERSION, committed
from ai_assets.storage.content import file_sha256
from ai_assets.storage.lake import Manifest, write_file
from ai_assets.storage.leases import hold
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores, record_dataset
from bench.measure import Figure

ATTEMPTS_MADE = int(os.environ.get("BENCH_ATTEMPTS", 10_000_000))
DAYS = 90
GIB = 2**30


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(root=Path(folder) / "home", project=Path(folder))
        with Stores.at(home) as stores:
            _fill(stores)
            files = [stores.lake.path(day.attempts) for day in committed(stores)]
            bare_s, _ = _watched(lambda: _bare(Path(folder), files))
            ours_s, peak = _watched(lambda: _build(home))
            size = home.warehouse.stat().st_size
    return [
        Figure(
            name=f"{ATTEMPTS_MADE:,} attempts into all marts / a bare DuckDB aggregation",
            value=ours_s / bare_s, limit=3, at_most=True, detail=f"{ours_s:.1f} s and {bare_s:.1f} s",
        ),
        Figure(
            name="memory of the builder and its processes, GiB",
            value=peak / GIB, limit=4, at_most=True, detail=f"peak; the warehouse is {size / GIB:.2f} GiB on disk",
        ),
    ]  # fmt: skip


def _watched(work: Callable[[], "subprocess.Popen[bytes]"]) -> tuple[float, int]:
    """Seconds until the process has ended, and the most memory that it and its children held at once."""
    started, peak, process = time.perf_counter(), 0, work()
    stopped = threading.Event()

    def look() -> None:
        nonlocal peak
        while not stopped.wait(0.1):
            try:
                tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                peak = max(peak, sum(_held(one) for one in tree))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=look)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    stopped.set()
    watcher.join()
    assert status == 0
    return seconds, peak


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _build(home: Home) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "bench.warehouse", "build", str(home.root)])


def _bare(folder: Path, files: list[Path]) -> "subprocess.Popen[bytes]":
    listed = folder / "files.txt"
    listed.write_text("\n".join(map(str, files)))
    return subprocess.Popen([sys.executable, "-m", "bench.warehouse", "bare", str(listed)])


def build_here(root: str) -> None:
    with Stores.at(Home(root=Path(root), project=Path(root))) as stores, hold(stores.state, "warehouse") as lease:
        building.build(stores, lease, print)


def aggregate_here(listed: str) -> None:
    files = Path(listed).read_text().splitlines()
    with duckdb.connect(str(Path(listed).with_name("bare.duckdb"))) as connection:
        connection.execute("SET memory_limit = '2000MB'; SET preserve_insertion_order = false")
        connection.execute(f"CREATE VIEW attempts AS SELECT *, CAST(sent_at AS DATE) AS day FROM read_parquet({files})")
        for statement in _BARE:
            connection.execute(statement)


_BARE = (
    """CREATE TABLE spend AS SELECT day, tenant, collection, asset, partition, run_id, backfill, endpoint, model, kind,
        prompt, price, count(*) FILTER (previous IS NULL) AS calls, count(*) AS attempts,
        count(*) FILTER (state = 'settled') AS answers, count(*) FILTER (state = 'failed') AS failed,
        count(*) FILTER (state = 'ambiguous') AS ambiguous, sum(input_tokens) AS input_tokens,
        sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens,
        sum(reasoning_tokens) AS reasoning_tokens, sum(cost_usd) AS cost_usd, sum(maybe_usd) AS maybe_usd,
        sum(CASE WHEN state <> 'ambiguous' THEN ((input_tokens - cached_tokens) * 150 + cached_tokens * 75
            + output_tokens * 600)::DECIMAL(18, 0) * 0.000000001::DECIMAL(10, 9) END) AS cost_today_usd
        FROM attempts GROUP BY ALL""",
    """CREATE TABLE documents AS SELECT tenant, collection, asset, document,
        count(*) FILTER (previous IS NULL) AS calls, count(*) AS attempts, sum(cost_usd) AS cost_usd,
        sum(maybe_usd) AS maybe_usd, max(day) AS last_day FROM attempts GROUP BY ALL""",
    """CREATE TABLE latency AS SELECT day, endpoint, model, kind, count(*) FILTER (state = 'settled') AS answers,
        quantile_disc(latency_s, [0.5, 0.95, 0.99]) FILTER (state = 'settled') AS quantiles,
        count(previous) AS retries FROM attempts GROUP BY ALL""",
)


# The ledger's days, made by DuckDB: ten collections of five stages, a million documents asked about on two days each,
# seven runs a day, 2 in 100 attempts repeated.


def _fill(stores: Stores) -> None:
    per_day = ATTEMPTS_MADE // DAYS + 1
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '1500MB'")
        for number in range(DAYS):
            first, last = number * per_day, min((number + 1) * per_day, ATTEMPTS_MADE)
            day = connection.execute(f"SELECT CAST(DATE '2026-08-01' + {number} AS VARCHAR)").fetchall()[0][0]
            made = _MADE.format(first=first, last=last, day=day, number=number, per_day=per_day)
            sums = connection.execute(
                "SELECT count(*), CAST(sum(cost_usd) * 1000000000 AS BIGINT), "
                f"CAST(sum(maybe_usd) * 1000000000 AS BIGINT) FROM ({made})"
            ).fetchall()[0]
            used = {"rows": 0, "cost_nusd": 0, "maybe_nusd": 0, "saved_nusd": 0, "newest": None, "read_at": now()}
            _commit(stores, connection, REUSES, REUSES_ASSET, day, _NONE, used)
            stats = {**used, "rows": sums[0], "cost_nusd": sums[1], "maybe_nusd": sums[2]}
            _commit(stores, connection, ATTEMPTS, ATTEMPTS_ASSET, day, made, stats)


def _commit(
    stores: Stores, connection: duckdb.DuckDBPyConnection, rows: Rows, asset: str, day: str, query: str,
    stats: dict[str, object],
) -> None:  # fmt: skip
    folder = stores.lake.folder(COLLECTION, asset, day)
    folder.mkdir(parents=True)
    names = ", ".join(f'"{name}"' for name in rows.columns)
    if query == _NONE:
        pq.write_table(rows.schema().empty_table(), folder / "new.parquet")
    else:
        connection.execute(f"COPY (SELECT {names} FROM ({query})) TO '{folder / 'new.parquet'}' (COMPRESSION zstd)")
    version = file_sha256(folder / "new.parquet")
    (folder / "new.parquet").rename(folder / f"{version}.parquet")
    manifest = Manifest(
        collection=COLLECTION, asset=asset, partition=day, version=version, code_version=VERSION, fingerprint="",
        inputs={}, file=f"{version}.parquet", rows=int(str(stats["rows"])), stats=stats, run_id="bench",
        written_at=now(),
    )  # fmt: skip
    write_file(folder / "manifest.json", json.dumps(asdict(manifest)).encode())
    with stores.state.write() as state:
        record_dataset(state, manifest)


_NONE = "none"
_MADE = """
WITH rows AS (
    SELECT n, n - {first} AS place, (n - {first}) * 7 // {per_day} AS run, {number} // 2 AS pair
    FROM (SELECT unnest(range({first}, {last})) AS n)
), named AS (
    SELECT *, (run + pair * 7) % 10 AS collection_number, place % 5 AS stage, place // 5 AS paper FROM rows
)
SELECT n AS attempt, substr(sha256(CAST(n AS VARCHAR)), 1, 40) AS call_key,
    CASE WHEN place % 50 = 49 THEN n - 5 END AS previous, CAST(NULL AS BIGINT) AS duplicate_of,
    'tenant-' || collection_number % 3 AS tenant,
    'collection-' || collection_number AS collection, 'stage-' || stage AS asset,
    '2026-07-0' || (1 + paper % 4) AS partition, 'run-{day}-' || run AS run_id, '' AS backfill,
    '2026-07-0' || (1 + paper % 4) || '/paper-' || pair || '-' || paper || '.txt' AS document,
    'endpoint-' || stage % 3 AS endpoint, 'model-' || stage % 3 AS model, NULL AS answered_model,
    'classify' AS kind, 'v' || pair // 20 AS prompt, '2026-01-01 0.15/0.075/0.6' AS price,
    CASE WHEN n % 100 = 7 THEN 'failed' WHEN n % 1000 = 9 THEN 'ambiguous' ELSE 'settled' END AS state,
    CASE WHEN n % 100 = 7 THEN 'overloaded' WHEN n % 1000 = 9 THEN 'timeout' END AS error,
    TIMESTAMP '{day}' + INTERVAL (place * 86000 // {per_day}) SECOND AS sent_at,
    TIMESTAMP '{day}' + INTERVAL (place * 86000 // {per_day} + 1) SECOND AS ended_at,
    (hash(n) % 5000) / 1000.0::DOUBLE AS latency_s, CAST(100 + hash(n) % 900 AS BIGINT) AS input_tokens,
    CAST(hash(n) % 50 AS BIGINT) AS cached_tokens, CAST(10 + hash(n) % 90 AS BIGINT) AS output_tokens,
    CAST(0 AS BIGINT) AS reasoning_tokens, CAST(NULL AS DOUBLE) AS gpu_s, CAST(NULL AS DOUBLE) AS cpu_s,
    CAST(0.002 AS DECIMAL(18, 9)) AS reserved_usd,
    CASE
        WHEN n % 100 = 7 THEN 0
        WHEN n % 1000 <> 9 THEN CAST(hash(n) % 100000 AS DECIMAL(8, 0)) * 0.000000001::DECIMAL(10, 9)
    END::DECIMAL(18, 9) AS cost_usd,
    CASE WHEN n % 100 <> 7 AND n % 1000 = 9 THEN 0.002 ELSE 0 END::DECIMAL(18, 9) AS maybe_usd
FROM named"""

if __name__ == "__main__":
    {"build": build_here, "bare": aggregate_here}[sys.argv[1]](sys.argv[2])
