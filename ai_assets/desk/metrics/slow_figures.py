"""Figures that take longer than a scrape should: renewed beside scrapes, once in a while, and told as last known."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ai_assets.base.errors import UserError
from ai_assets.costs.cost_query import published_document_costs
from ai_assets.desk.context import Desk
from ai_assets.desk.metrics import families as of
from ai_assets.desk.metrics.families import MetricSample
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable
from ai_assets.run.partition_states import DUE
from ai_assets.run.status import partition_states
from ai_assets.storage.warehouse import reading

PARTITIONS_S, WAREHOUSE_S, DAGSTER_S = 60.0, 300.0, 10.0
DAGSTER_TIMEOUT_S = 3.0
FAILED_WITHIN_S = 86_400.0
FIRST_S = 5.0
"""For so long a first scrape waits for figures that nobody has found yet."""


class Renewed:
    """Samples that are found again, in a thread of their own, when a scrape meets them too old."""

    def __init__(self, find: Callable[[], Iterable[MetricSample]], every_s: float) -> None:
        self._find, self._every_s = find, every_s
        self._found: tuple[MetricSample, ...] = ()
        self._found_at = float("-inf")
        self._running: threading.Thread | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[MetricSample, ...]:
        with self._lock:
            is_old = time.monotonic() - self._found_at > self._every_s
            if is_old and (self._running is None or not self._running.is_alive()):
                self._running = threading.Thread(target=self._renew, name="metrics", daemon=True)
                self._running.start()
            first = self._running if self._found_at == float("-inf") else None
        if first is not None:
            first.join(FIRST_S)
        return self._found

    def _renew(self) -> None:
        try:
            found = tuple(self._find())
        except UserError:  # what cannot be read now is told as missing, and looked for again
            found = ()
        self._found, self._found_at = found, time.monotonic()


def partition_figures(desk: Desk) -> Iterator[MetricSample]:
    for name, collection in desk.collections().items():
        if collection.signed_asset is not None:
            continue  # its partitions are its own project's
        try:
            states = Counter(partition_states(collection, desk.stores).values())
        except UserError:
            continue
        tenant = collection.settings.tenant
        yield of.DUE.of(sum(states[state] for state in DUE), tenant, name)
        yield from (of.PARTITIONS.of(count, tenant, name, state) for state, count in sorted(states.items()))


def warehouse_figures(desk: Desk) -> Iterator[MetricSample]:
    with reading(desk.stores.home.warehouse) as warehouse:
        for tenant, collection, usd in published_document_costs(warehouse):
            yield of.DOCUMENT_COST.of(float(usd), tenant, collection)


def dagster_figures(desk: Desk) -> Iterator[MetricSample]:
    try:
        with DagsterApi(desk.dagster().url, timeout_s=DAGSTER_TIMEOUT_S) as api:
            load = api.load(failed_since=time.time() - FAILED_WITHIN_S)
    except (DagsterUnreachable, DagsterRefused):
        yield of.DAGSTER_UP.of(0)
        return
    yield of.DAGSTER_UP.of(1)
    for status, count in (("queued", load.queued), ("starting", load.starting), ("started", load.started)):
        yield of.RUNS.of(count, status)
    yield of.RUNS_FAILED.of(load.failed)
    for daemon, at in load.heartbeats.items():
        if at is not None:
            yield of.HEARTBEAT.of(max(0.0, time.time() - at), daemon)


def disk_figures(desk: Desk) -> Iterator[MetricSample]:
    found = shutil.disk_usage(desk.stores.home.root)
    yield of.DISK_FREE.of(found.free)
    yield of.DISK_SIZE.of(found.total)
