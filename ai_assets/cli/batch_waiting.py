"""Waiting for batches and windows in a command: results are collected now and then, and what is waited for is said."""

import time
from collections.abc import Sequence

from ai_assets.cli.output import console, errors
from ai_assets.cli.window_waiting import in_words, pause_s, windows_of
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.errors import waiting_said
from ai_assets.inference.batch.jobs import BatchWait
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.run.status import answered_partitions
from ai_assets.run.window_waits import opened_partitions
from ai_assets.storage.stores import Stores
from ai_assets.telemetry.command_span import batches_told

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


def waits_of(places: Stores, collection: str, partitions: Sequence[str]) -> list[BatchWait]:
    with places.state.read() as connection:
        return [wait for wait in jobs.waits(connection, collection) if wait.partition in partitions]


def say_waits(waits: Sequence[BatchWait], collection: str) -> None:
    """What a run of these partitions would wait for, and how to wait."""
    for wait in waits:
        if wait.held_by and not wait.waiting:
            said = f"a batch of it was stopped by {wait.held_by}; run it again to go on"
        else:
            said = f"{wait.said} (stopped by {wait.held_by})" if wait.held_by else wait.said
        console.print(f"{wait.partition} {wait.asset}: {said}")
    if any(not wait.held_by for wait in waits):
        console.print(
            f"The sensor {collection}__batches collects the answers and goes on; or wait here: ai-assets run "
            f"{collection} --wait    look: ai-assets batches list"
        )


def answered_of(chosen: Collection, places: Stores, partitions: Sequence[str]) -> list[str]:
    """Those of the partitions that a run can go on with: waits until there are any, as long as there are batches, or
    windows that open some day."""
    pace_s, said, noted = FIRST_PAUSE_S, "", set[str]()
    settings = Catalog(places.home).inference_of(chosen.name)
    while True:
        waits, closed = waits_of(places, chosen.name, partitions), windows_of(places, chosen.name, partitions)
        if waits:
            with (
                batches_told(errors.print) as listener,
                Collector(settings, places.state, listener=listener) as collector,
            ):
                found = collector.collect(chosen.name)
            for note in found.notes:
                if note not in noted:
                    errors.print(note)
            noted.update(found.notes)
        goes_on = {*(answered_partitions(chosen, places) if waits else ()), *opened_partitions(chosen, places)}
        if answered := [key for key in partitions if key in goes_on]:
            return answered
        left = [wait for wait in waits_of(places, chosen.name, partitions) if not wait.held_by]
        moment = store_moment(places.state)
        told = [_said_of(left)] if any(wait.waiting for wait in left) else []
        told += [words] if (words := in_words(closed, moment)) is not None else []
        if not told:
            return []
        if said != (said := "; ".join(told)):
            errors.print(f"{chosen.name}: {said}")
            pace_s = FIRST_PAUSE_S
        time.sleep(pause_s(closed, moment, pace_s if left else LONGEST_PAUSE_S))
        pace_s = min(pace_s * 1.5, LONGEST_PAUSE_S)


def _said_of(waits: Sequence[BatchWait]) -> str:
    budgets = sorted({name for wait in waits for name in wait.budgets})
    return waiting_said(sum(wait.answered for wait in waits), sum(wait.calls for wait in waits), budgets)
