"""Outlives an `ai-assets up` by a moment: when its standard input closes, it ends all that this one `up` started.

The input closes however `up` ends, SIGKILL included, so nothing is left behind. Started by
`ai_assets/ops/supervisor.py` in its own session, where no Ctrl-C of a terminal reaches it:
`python -m ai_assets.base.orphan_reaper <identity of up> <home>`.
"""

import signal
import sys
from pathlib import Path

from ai_assets.base.processes import end_all_started_by_up

GRACE_S = 5.0


def main() -> None:
    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_all_started_by_up(Path(sys.argv[2]), sys.argv[1], GRACE_S)


if __name__ == "__main__":
    main()
