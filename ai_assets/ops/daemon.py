"""Dagster's daemon, looking for backfills every few seconds: `python -m ai_assets.ops.daemon run ...`.

Dagster looks every 30 seconds and has no setting for it: a backfill of two trivial partitions took 60 s, and now 6 s.
"""

from dagster._daemon import controller
from dagster._daemon.cli import main

BACKFILL_INTERVAL_S = 3

if __name__ == "__main__":
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = BACKFILL_INTERVAL_S
    main()
