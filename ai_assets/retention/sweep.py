"""Looking at what may go, and removing it: a bit at each tick of the sensor, or all of it by the command."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ai_assets.base.errors import LeaseBusy
from ai_assets.retention import bucket_files, dagster_runs, litter, release_files, rows
from ai_assets.retention.leftovers import Kind, Leftover, RetentionContext
from ai_assets.storage.leases import hold

LEASE = "retention"
"""Held by whoever removes files or makes a backup of them."""
_ROUNDS = 2
"""A release that is recorded as pruned in the first round has files that may go in the second."""


@dataclass(kw_only=True)
class SweepResult:
    number: Counter[Kind] = field(default_factory=Counter)
    size: Counter[Kind] = field(default_factory=Counter)
    """Bytes that were known before."""
    in_use: int = 0
    """Left for the next time, because somebody works with it now."""
    done: bool = True
    """False where the time was up."""


def find(bench: RetentionContext) -> Iterator[Leftover]:
    """What may go now. Reads only."""
    yield from release_files.find(bench)
    yield from litter.find(bench)
    yield from bucket_files.find(bench)
    yield from rows.find(bench)
    yield from dagster_runs.find(bench)


def sweep(
    bench: RetentionContext,
    *,
    budget_s: float | None = None,
    say: Callable[[str], None] = lambda _line: None,
    wait_s: float = 0,
) -> SweepResult:
    """Remove it, one thing at a time; killed anywhere, the next one goes on. Raises LeaseBusy while another does."""
    swept = SweepResult()
    ends = None if budget_s is None else time.monotonic() + budget_s
    with hold(bench.stores.state, LEASE, wait_s=wait_s, say=say) as lease:
        for _ in range(_ROUNDS):
            removed = False
            for leftover in find(bench):
                if ends is not None and time.monotonic() > ends:
                    swept.done = False
                    return swept
                lease.check()
                try:
                    leftover.remove()
                except LeaseBusy:
                    swept.in_use += 1
                    continue
                say(f"removed {leftover.what}")
                removed = True
                swept.number[leftover.kind] += 1
                swept.size[leftover.kind] += leftover.size or 0
            if not removed:
                break
    return swept
