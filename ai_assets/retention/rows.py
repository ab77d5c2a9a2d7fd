"""Rows of the state store that tell nobody anything any more. Nothing of money, people, decisions or history is among
them."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.base.processes import boot_id
from ai_assets.collection.loading import Collection
from ai_assets.retention.leftovers import Leftover, RetentionContext
from ai_assets.retention.needed import ago
from ai_assets.signoff.throttle import FORGOTTEN_AFTER_S
from ai_assets.storage import workers
from ai_assets.storage.state import now

DEAD_FOR_S = 3600.0
"""A worker whose row expired so long ago does not come back."""


def find(bench: RetentionContext) -> Iterator[Leftover]:
    for what, table, condition, given in _old(bench):
        query = sa.text(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608
        with bench.stores.state.read() as connection:
            number = int(connection.execute(query, given).scalar_one())
        if number:
            yield Leftover(
                kind="rows", what=f"{number} {what}", size=None,
                remove=partial(_delete, bench, table, condition, given),
            )  # fmt: skip
    with bench.stores.state.read() as connection:
        dead = _dead(connection)
    if dead:
        yield Leftover(
            kind="rows",
            what=f"{plural(len(dead), 'ended process')}",
            size=None,
            remove=partial(_end_dead, bench),
        )
    for collection in bench.collections:
        yield from _retries(bench, collection)


def _old(bench: RetentionContext) -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """What it is, its table, and which rows."""
    yield "expired sessions", "sessions", "expires_at < :now", {"now": now()}
    long_ago: dict[str, object] = {"before": time.time() - FORGOTTEN_AFTER_S}
    yield "failed sign-ins that no longer count", "sign_in_failures", "failed_at < :before", long_ago
    before: dict[str, object] = {"before": ago(days=bench.settings.notice_days)}
    yield "messages that were sent, or will not be", "notices", "state <> 'waiting' AND made_at < :before", before
    for span_days, theirs, given in _by_tenant(bench, "span_days", "collection"):
        yield "spans of assets in old runs", "run_spans", f"ended_at < :before AND {theirs}", {
            "before": ago(days=span_days), **given,
        }  # fmt: skip
    for request_days, theirs, given in _by_tenant(bench, "request_days", "callers.tenant"):
        by_attempt = (
            "attempt_id IN (SELECT attempt_id FROM attempts "  # noqa: S608 - names of columns and parameters of ours
            "JOIN callers ON callers.caller_id = attempts.caller_id "
            f"WHERE sent_at < :before AND {theirs})"
        )
        sent: dict[str, object] = {"before": ago(days=request_days), **given}
        yield "requests to models, whose answers stay", "sent_requests", by_attempt, sent


def _by_tenant(
    bench: RetentionContext, key: Literal["span_days", "request_days"], column: str
) -> Iterator[tuple[float, str, dict[str, object]]]:
    """The days, and which rows they are for: of a tenant that says its own, by its name or its collections."""
    own = {
        name: days
        for name, declared in bench.tenants.declared.items()
        if (days := declared.retention.said.get(key)) is not None
    }
    others: dict[str, object] = {}
    for tenant, days in own.items():
        names = [tenant] if column == "callers.tenant" else _collections_of(bench, tenant)
        given: dict[str, object] = {f"of_{len(others) + place}": name for place, name in enumerate(names)}
        others |= given
        if given:
            yield days, f"{column} IN ({', '.join(f':{name}' for name in given)})", given
    rest = f"{column} NOT IN ({', '.join(f':{name}' for name in others)})" if others else "1 = 1"
    yield getattr(bench.settings, key), rest, others


def _collections_of(bench: RetentionContext, tenant: str) -> list[str]:
    return [each.name for each in bench.collections if each.settings.tenant == tenant]


def _delete(bench: RetentionContext, table: str, condition: str, given: Mapping[str, object]) -> None:
    with bench.stores.state.write() as connection:
        connection.execute(sa.text(f"DELETE FROM {table} WHERE {condition}"), dict(given))  # noqa: S608


def _dead(connection: sa.Connection) -> list[int]:
    """Killed processes: each left a row, and leases of names that nobody asks for again."""
    clock = workers.read_clock(connection)
    rows = connection.execute(sa.text("SELECT worker_id, boot, expires_at FROM workers")).all()
    other_boot = connection.dialect.name == "sqlite"
    return [
        row.worker_id
        for row in rows
        if not workers.is_live(connection, row.worker_id)
        and ((other_boot and row.boot != boot_id()) or clock.now_s - float(row.expires_at) > DEAD_FOR_S)
    ]


def _end_dead(bench: RetentionContext) -> None:
    with bench.stores.state.write() as connection:
        for worker_id in _dead(connection):
            workers.end(connection, worker_id)


def _retries(bench: RetentionContext, collection: Collection) -> Iterator[Leftover]:
    """Tries of documents that are gone from their partition."""
    query = sa.text(
        "SELECT DISTINCT partition, document_id FROM document_retries WHERE collection = :c AND document_id <> ''"
    )
    with bench.stores.state.read() as connection:
        counted = connection.execute(query, {"c": collection.name}).all()
    gone = []
    for partition in sorted({row.partition for row in counted}):
        there = _documents(bench, collection.name, partition)
        if there is not None:
            gone += [(partition, row.document_id) for row in counted
                     if row.partition == partition and row.document_id not in there]  # fmt: skip
    if gone:
        yield Leftover(
            kind="rows", what=f"tries of {plural(len(gone), 'gone document')} of {collection.name}", size=None,
            remove=partial(_forget_tries, bench, collection.name, gone),
        )  # fmt: skip


def _documents(bench: RetentionContext, collection: str, partition: str) -> set[str] | None:
    lake = bench.stores.lake
    try:
        manifest = lake.manifest(collection, "documents", partition)
        if manifest is None:
            return None
        return {row["document_id"] for row in lake.rows(manifest, ["document_id", "status"])
                if row["status"] != "deleted"}  # fmt: skip
    except DatasetDamaged:
        return None


def _forget_tries(bench: RetentionContext, collection: str, gone: list[tuple[str, str]]) -> None:
    delete = sa.text("DELETE FROM document_retries WHERE collection = :c AND partition = :p AND document_id = :d")
    with bench.stores.state.write() as connection:
        for partition, document in gone:
            connection.execute(delete, {"c": collection, "p": partition, "d": document})
